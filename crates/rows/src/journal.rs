//! Table 0x70: the journal. Exactly one record for each change, gapless and chained by hash.
//!
//! Key: sequence number, 8 bytes big-endian, from 1. Value: [`JournalEntry`]. The record's field
//! numbers are those of `tidemill.v1.JournalRecord`, so anyone can read it with the public proto.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidemill_types::{ExecutionId, FlowId, PartitionId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{Field as _, Hash, put_nested, put_slice, stored, written},
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

/// What is to become a record: a [`JournalRecord`] without its place, which borrows its texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// One of [`kind`].
    pub kind: &'a str,
    /// `client`, `worker:NAME` or `system`.
    pub actor: &'a str,
    /// The client's request id.
    pub request_id: &'a str,
    /// The flow concerned.
    pub flow: Option<FlowId>,
    /// The execution concerned.
    pub execution: Option<ExecutionId>,
    /// Step number plus 1; 0 when it is about no step.
    pub step: u32,
    /// Attempt of the step.
    pub attempt: u32,
    /// Node of the step.
    pub node: &'a str,
    /// Flow version.
    pub version: u32,
    /// SHA-256 of the payload concerned.
    pub payload_hash: Option<Hash>,
    /// Error code or reason.
    pub detail: &'a str,
    /// Kind-specific number.
    pub number: u64,
}

impl JournalRecord {
    /// What it was before it had its place.
    #[must_use]
    pub fn as_new(&self) -> NewRecord<'_> {
        NewRecord {
            kind: &self.kind,
            actor: &self.actor,
            request_id: &self.request_id,
            flow: self.flow,
            execution: self.execution,
            step: self.step,
            attempt: self.attempt,
            node: &self.node,
            version: self.version,
            payload_hash: self.payload_hash,
            detail: &self.detail,
            number: self.number,
        }
    }
}

impl<'a> NewRecord<'a> {
    /// Something that somebody causes.
    #[must_use]
    pub fn of(kind: &'a str, actor: &'a str) -> Self {
        Self {
            kind,
            actor,
            ..Self::default()
        }
    }

    /// Writes the fields of a [`JournalRecord`].
    fn put_fields(&self, seq: u64, at: Timestamp, partition: PartitionId, out: &mut Vec<u8>) {
        let text = |tag, text: &str, out: &mut Vec<u8>| {
            if !text.is_empty() {
                put_slice(tag, text.as_bytes(), out);
            }
        };
        seq.put(1, out);
        at.put(2, out);
        u32::from(partition.0).put(3, out);
        text(4, self.kind, out);
        text(5, self.actor, out);
        text(6, self.request_id, out);
        self.flow.put(7, out);
        self.execution.put(8, out);
        self.step.put(9, out);
        self.attempt.put(10, out);
        text(11, self.node, out);
        self.version.put(12, out);
        self.payload_hash.put(13, out);
        text(14, self.detail, out);
        self.number.put(15, out);
    }
}

impl JournalHead {
    /// Gives a record its place: its row, and the new head.
    #[must_use]
    pub fn append(
        self,
        record: &NewRecord<'_>,
        at: Timestamp,
        partition: PartitionId,
    ) -> (Key, Bytes, Self) {
        let seq = self.seq + 1;
        let mut hash = Hash::default();
        // A [`JournalEntry`], with the record's bytes where they belong from the start.
        let entry = written(|out| {
            let record = put_nested(1, out, |out| record.put_fields(seq, at, partition, out));
            hash = chain(self.hash, &out[record]);
            hash.put(2, out);
        });
        (journal_key(partition, seq), entry, Self { seq, hash })
    }
}

/// The key of a record.
#[must_use]
pub fn journal_key(partition: PartitionId, seq: u64) -> Key {
    let mut key = key::start(partition, Table::Journal);
    key.put_u64(seq);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Stored as _;

    #[test]
    fn chains_without_gaps() {
        let partition = PartitionId(2);
        let mut head = JournalHead::default();
        let mut before = Hash::default();
        for seq in 1..=3 {
            let record = NewRecord {
                kind: kind::STEP_DEAD,
                ..NewRecord::default()
            };
            let (key, value, next) = head.append(&record, Timestamp(5), partition);
            assert_eq!(key, journal_key(partition, seq));
            let entry = JournalEntry::from_bytes(value).expect("entry");
            let record = JournalRecord::from_bytes(entry.record.clone()).expect("record");
            assert_eq!((record.seq, record.partition), (seq, 2));
            assert_eq!(entry.hash, chain(before, &entry.record));
            (before, head) = (entry.hash, next);
        }
        assert_eq!(head.seq, 3);
    }

    #[test]
    fn a_record_and_its_entry_are_written_as_they_are_declared() {
        // Short and longer than one byte of length can say.
        for detail in ["", "why", &"why".repeat(100)] {
            let hash = Hash([3; 32]);
            let record = NewRecord {
                kind: kind::STEP_FAILED,
                actor: "worker:w",
                request_id: "r",
                flow: Some(FlowId([1; 16])),
                execution: Some(ExecutionId::default()),
                step: 7,
                attempt: 300,
                node: "n",
                version: 2,
                payload_hash: Some(Hash([9; 32])),
                detail,
                number: u64::MAX,
            };
            let head = JournalHead { seq: 41, hash };
            let (_, value, next) = head.append(&record, Timestamp(-5), PartitionId(3));
            let entry = JournalEntry::from_bytes(value.clone()).expect("entry");
            assert_eq!(entry.to_bytes(), value);
            assert_eq!(entry.hash, next.hash);
            let read = JournalRecord::from_bytes(entry.record.clone()).expect("record");
            assert_eq!(read.to_bytes(), entry.record);
            let declared = JournalRecord {
                seq: 42,
                at: Timestamp(-5),
                partition: 3,
                kind: kind::STEP_FAILED.into(),
                actor: "worker:w".into(),
                request_id: "r".into(),
                flow: record.flow,
                execution: record.execution,
                step: 7,
                attempt: 300,
                node: "n".into(),
                version: 2,
                payload_hash: record.payload_hash,
                detail: detail.into(),
                number: u64::MAX,
            };
            assert_eq!(read, declared);
            let again = head.append(&read.as_new(), read.at, PartitionId(3));
            assert_eq!(again.1, value);
        }
    }
}
