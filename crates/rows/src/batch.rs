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

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidemill_types::Timestamp;

use crate::{Epoch, Key};

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

    /// About how many bytes it takes in a batch.
    #[must_use]
    pub fn encoded_len_max(&self) -> usize {
        const OP_AND_LENGTHS: usize = 11;
        OP_AND_LENGTHS
            + match self {
                Self::Put { key, value } => key.len() + value.len(),
                Self::Delete { key } => key.len(),
                Self::DeleteRange { from, to } => from.len() + to.len(),
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

impl Batch {
    /// The bytes of the Raft entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let len = HEADER_LEN_MAX
            + CHECKSUM_LEN
            + self
                .mutations
                .iter()
                .map(Mutation::encoded_len_max)
                .sum::<usize>();
        let mut out = BytesMut::with_capacity(len);
        out.put_u8(FORMAT);
        put_varint(&mut out, self.epoch.term);
        put_varint(&mut out, self.epoch.index);
        put_varint(&mut out, self.seq);
        out.put_i64(self.time.0);
        for mutation in &self.mutations {
            match mutation {
                Mutation::Put { key, value } => {
                    out.put_u8(OP_PUT);
                    put_slice(&mut out, key);
                    put_slice(&mut out, value);
                }
                Mutation::Delete { key } => {
                    out.put_u8(OP_DELETE);
                    put_slice(&mut out, key);
                }
                Mutation::DeleteRange { from, to } => {
                    out.put_u8(OP_DELETE_RANGE);
                    put_slice(&mut out, from);
                    put_slice(&mut out, to);
                }
            }
        }
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out.freeze()
    }

    /// Reads a batch; keys and values share the bytes given, nothing is copied.
    ///
    /// # Errors
    /// [`BatchError`] when the bytes are damaged or of a newer format.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BatchError> {
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
        let epoch = Epoch {
            term: get_varint(&mut bytes)?,
            index: get_varint(&mut bytes)?,
        };
        let seq = get_varint(&mut bytes)?;
        if bytes.remaining() < 8 {
            return Err(BatchError::Malformed);
        }
        let time = Timestamp(bytes.get_i64());
        let mut mutations = Vec::new();
        while bytes.has_remaining() {
            mutations.push(match bytes.get_u8() {
                OP_PUT => Mutation::Put {
                    key: get_slice(&mut bytes)?,
                    value: get_slice(&mut bytes)?,
                },
                OP_DELETE => Mutation::Delete {
                    key: get_slice(&mut bytes)?,
                },
                OP_DELETE_RANGE => Mutation::DeleteRange {
                    from: get_slice(&mut bytes)?,
                    to: get_slice(&mut bytes)?,
                },
                _ => return Err(BatchError::Malformed),
            });
        }
        Ok(Self {
            epoch,
            seq,
            time,
            mutations,
        })
    }
}

fn put_varint(out: &mut BytesMut, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn get_varint(bytes: &mut Bytes) -> Result<u64, BatchError> {
    prost::encoding::decode_varint(bytes).map_err(|_| BatchError::Malformed)
}

fn put_slice(out: &mut BytesMut, slice: &[u8]) {
    put_varint(out, slice.len() as u64);
    out.put_slice(slice);
}

fn get_slice(bytes: &mut Bytes) -> Result<Bytes, BatchError> {
    let len = usize::try_from(get_varint(bytes)?).map_err(|_| BatchError::Malformed)?;
    if bytes.remaining() < len {
        return Err(BatchError::Malformed);
    }
    Ok(bytes.split_to(len))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn mutation() -> impl Strategy<Value = Mutation> {
        let slice = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        prop_oneof![
            (slice(), slice()).prop_map(|(key, value)| Mutation::Put { key, value }),
            slice().prop_map(|key| Mutation::Delete { key }),
            (slice(), slice()).prop_map(|(from, to)| Mutation::DeleteRange { from, to }),
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
            prop_assert_eq!(Batch::decode(batch.encode()), Ok(batch));
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
