//! A batch: what one Raft entry carries. Rows to put or delete, with the fence's coordinates.
//!
//! The encoding is our own: RocksDB's `WriteBatch` embeds column-family ids, which need not agree
//! between nodes. Layout, integers as LEB128 varints unless said otherwise:
//!
//! ```text
//! format (1 byte, 1) | epoch term | epoch index | seq | time (8 bytes, big-endian)
//! then per mutation: op (1 byte) | key length | key | [value length | value]   (end for DeleteRange)
//! finally CRC32C of all before it (4 bytes, big-endian)
//! ```

use bytes::{Buf, Bytes};
use thiserror::Error;
use tidemill_types::Timestamp;

use crate::{Epoch, Key, wire::put_varint};

/// One change of one row, or the deletion of a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Writes a row.
    Put {
        /// The whole key.
        key: Key,
        /// The row.
        value: Bytes,
    },
    /// Deletes a row; no error when there is none.
    Delete {
        /// The whole key.
        key: Key,
    },
    /// Deletes all rows from `from` up to, without, `to`.
    DeleteRange {
        /// First key deleted.
        from: Key,
        /// First key kept.
        to: Key,
    },
}

/// The same, where its bytes are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Writes a row.
    Put {
        /// The whole key.
        key: &'a [u8],
        /// The row.
        value: &'a [u8],
    },
    /// Deletes a row; no error when there is none.
    Delete {
        /// The whole key.
        key: &'a [u8],
    },
    /// Deletes all rows from `from` up to, without, `to`.
    DeleteRange {
        /// First key deleted.
        from: &'a [u8],
        /// First key kept.
        to: &'a [u8],
    },
}

/// Something that changes rows.
pub trait AsChange {
    /// What it changes.
    fn as_change(&self) -> Change<'_>;
}

impl AsChange for Change<'_> {
    fn as_change(&self) -> Change<'_> {
        *self
    }
}

impl AsChange for Mutation {
    fn as_change(&self) -> Change<'_> {
        match self {
            Self::Put { key, value } => Change::Put { key, value },
            Self::Delete { key } => Change::Delete { key },
            Self::DeleteRange { from, to } => Change::DeleteRange { from, to },
        }
    }
}

impl Mutation {
    /// The (first) key.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } | Self::DeleteRange { from: key, .. } => {
                key
            }
        }
    }
}

impl Change<'_> {
    /// With bytes of its own.
    #[must_use]
    pub fn to_mutation(self) -> Mutation {
        match self {
            Self::Put { key, value } => Mutation::Put {
                key: key.into(),
                value: Bytes::copy_from_slice(value),
            },
            Self::Delete { key } => Mutation::Delete { key: key.into() },
            Self::DeleteRange { from, to } => Mutation::DeleteRange {
                from: from.into(),
                to: to.into(),
            },
        }
    }
}

/// What a leader decided, to be applied whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The epoch in which it was decided.
    pub epoch: Epoch,
    /// Its number in the epoch, from 1.
    pub seq: u64,
    /// The leader's time.
    pub time: Timestamp,
    /// In order of application.
    pub mutations: Vec<Mutation>,
}

/// A batch whose bytes have been checked: what is in it can be gone through without copying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    /// The epoch in which it was decided.
    pub epoch: Epoch,
    /// Its number in the epoch, from 1.
    pub seq: u64,
    /// The leader's time.
    pub time: Timestamp,
    /// The mutations, as they are encoded.
    body: Bytes,
}

/// Why bytes are not a batch. Always damage or a newer format: never a caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The format number is not one that this version knows.
    #[error("batch format {0} is not known to this version")]
    Format(u8),
    /// The checksum does not fit.
    #[error("batch checksum does not match its bytes")]
    Checksum,
    /// The bytes end too early or make no sense.
    #[error("batch is cut short or malformed")]
    Malformed,
}

const FORMAT: u8 = 1;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;
const OP_DELETE_RANGE: u8 = 3;
const CHECKSUM_LEN: usize = 4;
const HEADER_LEN_MAX: usize = 1 + 3 * 10 + 8;
/// The operation, and the lengths of a key and of a value of ordinary size.
const PER_MUTATION: usize = 6;

/// A batch in the making, straight into the bytes of its Raft entry.
#[derive(Debug)]
pub struct BatchWriter {
    epoch: Epoch,
    rows: usize,
    out: Vec<u8>,
}

/// A batch as it is proposed: only [`BatchWriter`] makes it, so that its bytes are a batch need not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    epoch: Epoch,
    rows: usize,
    bytes: Bytes,
}

impl BatchWriter {
    /// With room for so many mutations with so many bytes of keys and values in all; it grows when there are more.
    #[must_use]
    pub fn new(epoch: Epoch, seq: u64, time: Timestamp, rows: usize, bytes: usize) -> Self {
        let len = HEADER_LEN_MAX + bytes + rows * PER_MUTATION + CHECKSUM_LEN;
        let mut out = Vec::with_capacity(len);
        out.push(FORMAT);
        put_varint(epoch.term, &mut out);
        put_varint(epoch.index, &mut out);
        put_varint(seq, &mut out);
        out.extend_from_slice(&time.0.to_be_bytes());
        Self {
            epoch,
            rows: 0,
            out,
        }
    }

    /// Adds a mutation.
    pub fn push(&mut self, change: Change<'_>) {
        self.rows += 1;
        match change {
            Change::Put { key, value } => {
                self.out.push(OP_PUT);
                self.slice(key);
                self.slice(value);
            }
            Change::Delete { key } => {
                self.out.push(OP_DELETE);
                self.slice(key);
            }
            Change::DeleteRange { from, to } => {
                self.out.push(OP_DELETE_RANGE);
                self.slice(from);
                self.slice(to);
            }
        }
    }

    fn slice(&mut self, slice: &[u8]) {
        put_varint(slice.len() as u64, &mut self.out);
        self.out.extend_from_slice(slice);
    }

    /// The whole batch.
    #[must_use]
    pub fn finish(mut self) -> EncodedBatch {
        let checksum = crc32c::crc32c(&self.out);
        self.out.extend_from_slice(&checksum.to_be_bytes());
        EncodedBatch {
            epoch: self.epoch,
            rows: self.rows,
            bytes: self.out.into(),
        }
    }
}

impl EncodedBatch {
    /// The epoch in which it was decided.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many mutations are in it.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of the Raft entry.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of the Raft entry.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Batch {
    /// The bytes of the Raft entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encoded().into_bytes()
    }

    /// As it is proposed.
    #[must_use]
    pub fn encoded(&self) -> EncodedBatch {
        let rows = self.mutations.len();
        let mut writer = BatchWriter::new(self.epoch, self.seq, self.time, rows, 0);
        for mutation in &self.mutations {
            writer.push(mutation.as_change());
        }
        writer.finish()
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// [`BatchError`] when the bytes are damaged or of a newer format.
    pub fn decode(bytes: Bytes) -> Result<Self, BatchError> {
        let checked = CheckedBatch::read(bytes)?;
        Ok(Self {
            epoch: checked.epoch,
            seq: checked.seq,
            time: checked.time,
            mutations: checked.changes().map(Change::to_mutation).collect(),
        })
    }
}

impl CheckedBatch {
    /// Checks a batch, to its end.
    ///
    /// # Errors
    /// [`BatchError`] when the bytes are damaged or of a newer format.
    pub fn read(mut bytes: Bytes) -> Result<Self, BatchError> {
        let Some(body_len) = bytes.len().checked_sub(CHECKSUM_LEN) else {
            return Err(BatchError::Malformed);
        };
        let checksum = bytes.split_off(body_len).get_u32();
        if crc32c::crc32c(&bytes) != checksum {
            return Err(BatchError::Checksum);
        }
        if !bytes.has_remaining() {
            return Err(BatchError::Malformed);
        }
        let format = bytes.get_u8();
        if format != FORMAT {
            return Err(BatchError::Format(format));
        }
        let mut number =
            || prost::encoding::decode_varint(&mut bytes).map_err(|_| BatchError::Malformed);
        let epoch = Epoch {
            term: number()?,
            index: number()?,
        };
        let seq = number()?;
        if bytes.remaining() < 8 {
            return Err(BatchError::Malformed);
        }
        let time = Timestamp(bytes.get_i64());
        let mut rest = &*bytes;
        while !rest.is_empty() {
            next(&mut rest).ok_or(BatchError::Malformed)?;
        }
        Ok(Self {
            epoch,
            seq,
            time,
            body: bytes,
        })
    }

    /// What is in it, in order of application.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = &*self.body;
        std::iter::from_fn(move || next(&mut rest))
    }
}

/// The next mutation, which is taken off; none at the end, and where the bytes make no sense.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Change<'a>> {
    let (op, after) = rest.split_first()?;
    *rest = after;
    let mut slice = || {
        let len = prost::encoding::decode_varint(rest).ok()?;
        let (slice, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        *rest = after;
        Some(slice)
    };
    Some(match *op {
        OP_PUT => Change::Put {
            key: slice()?,
            value: slice()?,
        },
        OP_DELETE => Change::Delete { key: slice()? },
        OP_DELETE_RANGE => Change::DeleteRange {
            from: slice()?,
            to: slice()?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn mutation() -> impl Strategy<Value = Mutation> {
        let slice = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let key = || vec(any::<u8>(), 0..60).prop_map(Key::from);
        prop_oneof![
            (key(), slice()).prop_map(|(key, value)| Mutation::Put { key, value }),
            key().prop_map(|key| Mutation::Delete { key }),
            (key(), key()).prop_map(|(from, to)| Mutation::DeleteRange { from, to }),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(
            (term, index, seq, time) in any::<(u64, u64, u64, i64)>(),
            mutations in vec(mutation(), 0..12),
        ) {
            let epoch = Epoch { term, index };
            let batch = Batch { epoch, seq, time: Timestamp(time), mutations };
            let encoded = batch.encoded();
            prop_assert_eq!((encoded.epoch(), encoded.rows()), (epoch, batch.mutations.len()));
            prop_assert_eq!(Batch::decode(encoded.into_bytes()), Ok(batch));
        }

        #[test]
        fn a_changed_byte_is_found(mutations in vec(mutation(), 0..6), at: usize, flip in 1..=255_u8) {
            let mut bytes = Batch { mutations, ..Batch::default() }.encode().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(Batch::decode(bytes.into()).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(bytes.into());
        }
    }
}
