//! Table 0x70: the journal. Exactly one record for each change, gapless and chained by hash.
//!
//! Key: sequence number, 8 bytes big-endian, from 1. Value: [`JournalEntry`]. The record's field
//! numbers are those of `tidemill.v1.JournalRecord`, so anyone can read it with the public proto.

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};
use tidemill_types::{ExecutionId, FlowId, PartitionId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{Hash, Stored, stored},
};

stored! {
    /// What happened, who caused it and to what. See `proto/tidemill/v1/journal.proto`.
    pub struct JournalRecord {
        /// From 1, without gaps, per partition.
        seq: u64 = 1,
        /// The leader's time; never goes back.
        at: Timestamp = 2,
        /// The partition.
        partition: u32 = 3,
        /// One of [`kind`].
        kind: String = 4,
        /// `client`, `worker:NAME` or `system`.
        actor: String = 5,
        /// The client's request id.
        request_id: String = 6,
        /// The flow concerned.
        flow: Option<FlowId> = 7,
        /// The execution concerned.
        execution: Option<ExecutionId> = 8,
        /// Step number plus 1; 0 when it is about no step.
        step: u32 = 9,
        /// Attempt of the step.
        attempt: u32 = 10,
        /// Node of the step.
        node: String = 11,
        /// Flow version.
        version: u32 = 12,
        /// SHA-256 of the payload concerned.
        payload_hash: Option<Hash> = 13,
        /// Error code or reason.
        detail: String = 14,
        /// Kind-specific number.
        number: u64 = 15,
    }
}

stored! {
    /// A record's bytes, and the hash of the chain up to it.
    pub struct JournalEntry {
        /// A [`JournalRecord`], byte for byte as hashed.
        record: Bytes = 1,
        /// SHA-256 of the hash before and of the record.
        hash: Hash = 2,
    }
}

/// The names of what happens: `subject.event`.
pub mod kind {
    /// A flow was created with its first draft.
    pub const FLOW_CREATED: &str = "flow.created";
    /// A flow's draft was replaced.
    pub const FLOW_MODIFIED: &str = "flow.modified";
    /// A flow was deleted.
    pub const FLOW_DELETED: &str = "flow.deleted";
    /// Ledger rows older than they are kept were removed; the number says how many.
    pub const LEDGER_TRIMMED: &str = "schedule.ledger_trimmed";
    /// The last rows of a deleted flow are gone from its home partition.
    pub const FLOW_FORGOTTEN: &str = "flow.forgotten";
    /// A version was published.
    pub const FLOW_PUBLISHED: &str = "flow.published";
    /// OIH's `flow.starting`.
    pub const FLOW_STARTING: &str = "flow.starting";
    /// OIH's `flow.started`: the flow is active.
    pub const FLOW_STARTED: &str = "flow.started";
    /// OIH's `flow.stopping`.
    pub const FLOW_STOPPING: &str = "flow.stopping";
    /// OIH's `flow.stopped`: the flow is inactive.
    pub const FLOW_STOPPED: &str = "flow.stopped";
    /// OIH's `flow.failed`: starting ended without success.
    pub const FLOW_FAILED: &str = "flow.failed";
    /// The home partition armed a flow.
    pub const FLOW_ARMED: &str = "flow.armed";
    /// The home partition disarmed a flow.
    pub const FLOW_DISARMED: &str = "flow.disarmed";
    /// OIH's `flow.executed`: an occurrence of a flow's schedule started an execution.
    pub const FLOW_EXECUTED: &str = "flow.executed";
    /// A flow was due and was not started; the detail says why.
    pub const OCCURRENCE_SKIPPED: &str = "occurrence.skipped";
    /// A flow was due and waits for the execution before it.
    pub const OCCURRENCE_QUEUED: &str = "occurrence.queued";
    /// A schedule was paused: it fires nothing until it is resumed.
    pub const SCHEDULE_PAUSED: &str = "schedule.paused";
    /// A schedule was resumed.
    pub const SCHEDULE_RESUMED: &str = "schedule.resumed";
    /// A past range of a schedule is being run.
    pub const BACKFILL_STARTED: &str = "backfill.started";
    /// Each occurrence of a backfill's range is decided.
    pub const BACKFILL_DONE: &str = "backfill.done";
    /// A backfill ended before its range did: the flow was stopped.
    pub const BACKFILL_STOPPED: &str = "backfill.stopped";
    /// An execution began. (OIH's `flow.execute`.)
    pub const EXECUTION_STARTED: &str = "execution.started";
    /// An execution ended with every step done.
    pub const EXECUTION_SUCCEEDED: &str = "execution.succeeded";
    /// An execution ended with dead steps.
    pub const EXECUTION_FAILED: &str = "execution.failed";
    /// An execution with very many live steps is being cancelled or timed out: nothing new begins in it.
    pub const EXECUTION_ENDING: &str = "execution.ending";
    /// An execution was cancelled.
    pub const EXECUTION_CANCELLED: &str = "execution.cancelled";
    /// An execution ran out of time.
    pub const EXECUTION_TIMED_OUT: &str = "execution.timed_out";
    /// Dead steps are run again.
    pub const EXECUTION_REDRIVEN: &str = "execution.redriven";
    /// Retention removed an execution.
    pub const EXECUTION_RETIRED: &str = "execution.retired";
    /// A step was made and waits.
    pub const STEP_SCHEDULED: &str = "step.scheduled";
    /// An attempt began: a worker holds it, or a built-in runs it.
    pub const STEP_STARTED: &str = "step.started";
    /// A step gave its messages.
    pub const STEP_SUCCEEDED: &str = "step.succeeded";
    /// An attempt failed; another follows.
    pub const STEP_RETRY_SCHEDULED: &str = "step.retry_scheduled";
    /// The step asked to be run again later.
    pub const STEP_REBOUND: &str = "step.rebound";
    /// The worker's lease ran out; the step waits for another one.
    pub const STEP_LEASE_EXPIRED: &str = "step.lease_expired";
    /// Its worker said that it never got it, or has it no more; it waits again at once.
    pub const STEP_LEASE_FREED: &str = "step.lease_freed";
    /// A step failed for good and its error edges were followed.
    pub const STEP_FAILED: &str = "step.failed";
    /// A step failed for good without an error edge.
    pub const STEP_DEAD: &str = "step.dead";
    /// A step was cancelled with its execution.
    pub const STEP_CANCELLED: &str = "step.cancelled";
    /// A dead step is run again.
    pub const STEP_REDRIVEN: &str = "step.redriven";
    /// The wait of a retry or rebound is over; the step waits for a worker.
    pub const STEP_RESUMED: &str = "step.resumed";
    /// The partition's logic panicked and was restarted from rows.
    pub const PARTITION_RESTARTED: &str = "partition.restarted";
    /// The leader's wall clock jumped forward; the number says how far, in milliseconds.
    pub const CLOCK_JUMPED: &str = "partition.clock_jumped";
    /// A command that made the logic panic again and again is refused from now on.
    pub const COMMAND_QUARANTINED: &str = "partition.command_quarantined";
}

/// The end of a partition's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalHead {
    /// Sequence number of the last record; 0 when there is none.
    pub seq: u64,
    /// Its hash; zeros when there is none.
    pub hash: Hash,
}

/// The hash of a record: SHA-256 over the hash before it and its bytes.
#[must_use]
pub fn chain(before: Hash, record: &[u8]) -> Hash {
    Hash(
        Sha256::new()
            .chain_update(before.0)
            .chain_update(record)
            .finalize()
            .into(),
    )
}

/// SHA-256 of a payload, as it stands in a record.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> Hash {
    Hash(Sha256::digest(payload).into())
}

impl JournalHead {
    /// Completes `record` with its place, and gives the row and the new head.
    #[must_use]
    pub fn append(self, mut record: JournalRecord, partition: PartitionId) -> (Key, Bytes, Self) {
        record.seq = self.seq + 1;
        record.partition = u32::from(partition.0);
        let bytes = record.to_bytes();
        let head = Self {
            seq: record.seq,
            hash: chain(self.hash, &bytes),
        };
        let entry = JournalEntry {
            record: bytes,
            hash: head.hash,
        };
        (journal_key(partition, head.seq), entry.to_bytes(), head)
    }
}

/// The key of a record.
#[must_use]
pub fn journal_key(partition: PartitionId, seq: u64) -> Key {
    let mut key = key::start(partition, Table::Journal, 8);
    key.put_u64(seq);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_without_gaps() {
        let partition = PartitionId(2);
        let mut head = JournalHead::default();
        let mut before = Hash::default();
        for seq in 1..=3 {
            let record = JournalRecord {
                kind: kind::STEP_DEAD.into(),
                ..Default::default()
            };
            let (key, value, next) = head.append(record, partition);
            assert_eq!(key, journal_key(partition, seq));
            let entry = JournalEntry::from_bytes(value).expect("entry");
            let record = JournalRecord::from_bytes(entry.record.clone()).expect("record");
            assert_eq!((record.seq, record.partition), (seq, 2));
            assert_eq!(entry.hash, chain(before, &entry.record));
            (before, head) = (entry.hash, next);
        }
        assert_eq!(head.seq, 3);
    }
}
