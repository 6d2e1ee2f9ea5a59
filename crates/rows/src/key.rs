//! Keys: partition first (2 bytes, big-endian), then the table's tag (1 byte), then the table's own
//! key. The tags are fixed for ever; one that is retired stays reserved.

use std::{borrow::Borrow, cmp::Ordering, fmt, hash, ops::Deref};

use bytes::Bytes;
use tidemill_types::PartitionId;

/// Keys up to this length need no allocation: those of all tables but where a name or a request id is part of it.
const SHORT_LEN_MAX: usize = 46;

/// A whole key, as RocksDB sees it. Compares, hashes and shows itself as its bytes.
#[derive(Clone)]
pub struct Key(Form);

#[derive(Clone)]
enum Form {
    Short { len: u8, bytes: [u8; SHORT_LEN_MAX] },
    Long(Bytes),
}

impl Key {
    /// Adds bytes at the end.
    fn push(&mut self, more: &[u8]) {
        match &mut self.0 {
            Form::Short { len, bytes } => {
                let end = usize::from(*len) + more.len();
                if let Some(room) = bytes.get_mut(usize::from(*len)..end) {
                    room.copy_from_slice(more);
                    *len = end as u8;
                } else {
                    self.0 = Form::Long([&**self, more].concat().into());
                }
            }
            Form::Long(bytes) => *bytes = [&**bytes, more].concat().into(),
        }
    }
}

impl Default for Key {
    fn default() -> Self {
        Self(Form::Short {
            len: 0,
            bytes: [0; SHORT_LEN_MAX],
        })
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Short { len, bytes } => &bytes[..usize::from(*len)],
            Form::Long(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        let mut key = Self::default();
        key.push(bytes);
        key
    }
}

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= SHORT_LEN_MAX {
            Self::from(bytes.as_slice())
        } else {
            Self(Form::Long(bytes.into()))
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl hash::Hash for Key {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

/// A key in the making.
#[derive(Clone, Debug)]
pub struct KeyWriter(Key);

impl KeyWriter {
    /// Goes on from a whole key.
    #[must_use]
    pub fn after(key: Key) -> Self {
        Self(key)
    }

    /// Adds bytes.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// Adds a byte.
    pub fn put_u8(&mut self, byte: u8) {
        self.0.push(&[byte]);
    }

    /// Adds a number, big-endian: byte order is its order.
    pub fn put_u32(&mut self, number: u32) {
        self.0.push(&number.to_be_bytes());
    }

    /// Adds a number, big-endian: byte order is its order.
    pub fn put_u64(&mut self, number: u64) {
        self.0.push(&number.to_be_bytes());
    }

    /// The whole key.
    #[must_use]
    pub fn freeze(self) -> Key {
        self.0
    }
}

/// The registry of tables. A number is never used for anything else again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// What the replica keeps for itself: last applied log id, membership.
    Replica = 0x01,
    /// The fence: epoch, sequence number and time of the last batch.
    Fence = 0x02,
    /// Catalog: flows, with their drafts.
    Flow = 0x10,
    /// Catalog: flow by name.
    FlowByName = 0x11,
    /// Catalog: published versions.
    FlowVersion = 0x12,
    /// Catalog: version by content hash.
    FlowVersionByHash = 0x13,
    /// Catalog: flows that are starting or stopping.
    FlowTransition = 0x14,
    /// Catalog: deleted flows of which the home partition still has rows.
    FlowDeletion = 0x15,
    /// Executions.
    Execution = 0x20,
    /// Steps of executions.
    Step = 0x21,
    /// Messages of executions.
    Message = 0x22,
    /// Step state: per node of a flow, survives executions.
    NodeState = 0x23,
    /// Request ids that were used, with what they led to.
    Request = 0x24,
    /// Request ids by the time at which they are forgotten.
    RequestExpiry = 0x25,
    /// Timers by due time.
    Timer = 0x26,
    /// Steps that wait for a worker.
    Queue = 0x27,
    /// Steps that a worker holds.
    Lease = 0x28,
    /// What has arrived at a node with `join: all`.
    Join = 0x29,
    /// Executions of a flow, newest last, with their state.
    ExecutionByFlow = 0x2a,
    /// Flows armed in this partition.
    ArmedFlow = 0x2b,
    /// Flow versions that executions of this partition run.
    PlanVersion = 0x2c,
    /// Commands that made the partition's logic panic more than once, by digest.
    Quarantine = 0x2d,
    /// Schedules of armed flows.
    Schedule = 0x2e,
    /// What became of each time that a flow was due.
    Occurrence = 0x2f,
    /// What people did to schedules: paused, resumed.
    ScheduleControl = 0x30,
    /// Backfills of schedules, by request id.
    Backfill = 0x31,
    /// The journal, by sequence number. The highest tag in use: a batch's journal keys sort last.
    Journal = 0x70,
}

/// Bytes before a table's own key.
pub const PREFIX_LEN: usize = 3;

/// The first bytes of every key of a table.
#[must_use]
pub fn prefix(partition: PartitionId, table: Table) -> [u8; PREFIX_LEN] {
    let [high, low] = partition.0.to_be_bytes();
    [high, low, table as u8]
}

/// The beginning of a key of `table`.
#[must_use]
pub fn start(partition: PartitionId, table: Table) -> KeyWriter {
    KeyWriter(Key::from(&prefix(partition, table)))
}

/// The smallest key greater than every key that begins with `prefix`; none when there is no such key.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_their_bytes() {
        for len in [
            0,
            1,
            SHORT_LEN_MAX - 1,
            SHORT_LEN_MAX,
            SHORT_LEN_MAX + 1,
            300,
        ] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut writer = KeyWriter::after(Key::default());
            for part in bytes.chunks(7) {
                writer.put_slice(part);
            }
            let key = writer.freeze();
            assert_eq!(*key, *bytes);
            assert_eq!(key, Key::from(bytes.as_slice()));
            assert_eq!(key, Key::from(bytes.clone()));
            let longer = Key::from([bytes, vec![0]].concat());
            assert!(key < longer && longer < Key::from(&[0xff]));
        }
    }

    #[test]
    fn end_of_prefix() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
