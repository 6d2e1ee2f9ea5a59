//! Keys: partition first (2 bytes, big-endian), then the table's tag (1 byte), then the table's own
//! key. The tags are fixed for ever; one that is retired stays reserved.

use bytes::{BufMut, Bytes, BytesMut};
use tidemill_types::PartitionId;

/// A whole key, as RocksDB sees it.
pub type Key = Bytes;

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

/// A key of `table`, with room for `len` bytes of its own.
#[must_use]
pub fn start(partition: PartitionId, table: Table, len: usize) -> BytesMut {
    let mut key = BytesMut::with_capacity(PREFIX_LEN + len);
    key.put_slice(&prefix(partition, table));
    key
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
    fn end_of_prefix() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
    }
}
