//! The invariants, one file each. They look at the truth (what the committed log says) after every
//! batch, at replicas after every entry, at what clients and workers are told, and at everything from
//! time to time. They share no code with the core: a bug there must not hide itself here.

pub mod acknowledged;
pub mod answers;
pub mod completions;
pub mod counters;
pub mod ends;
pub mod fold;
pub mod journal;
pub mod leases;
pub mod liveness;
pub mod occurrences;
pub mod places;
pub mod reads;
pub mod replicas;
pub mod request_ids;
mod view;

use std::{collections::BTreeSet, fmt};

use tidemill_core::{command::CompletionStatus, memory::MemoryRows};
use tidemill_rows::{
    Batch, Mutation, Stored,
    journal::{JournalEntry, JournalRecord, kind},
    key::{PREFIX_LEN, Table},
    table::timer_of_key,
};
use tidemill_types::{ExecutionId, PartitionId, TaskId};

pub use acknowledged::Acknowledged;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    /// A violation.
    #[must_use]
    pub fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self {
            invariant,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

/// What a check gives.
pub type Checked = Result<(), Violation>;

/// All invariants, and what they remember.
#[derive(Debug, Default)]
pub struct Checks {
    /// I6.
    pub journal: journal::Journal,
    /// I8, and what the journal says of each execution.
    pub history: fold::History,
    /// I1.
    pub acknowledged: acknowledged::Acknowledgements,
    /// I2.
    pub request_ids: request_ids::RequestIds,
    /// I4.
    pub completions: completions::Completions,
    /// I7.
    pub replicas: replicas::Replicas,
    /// I3.
    pub occurrences: occurrences::Occurrences,
    /// I9.
    pub reads: reads::Reads,
    /// What `respond` gave.
    pub answers: answers::Answers,
    /// I12.
    pub leases: leases::Leases,
    last: Vec<JournalRecord>,
}

impl Checks {
    /// After a batch is in the truth.
    ///
    /// # Errors
    /// The first violation.
    pub fn on_batch(
        &mut self,
        partition: PartitionId,
        batch: &Batch,
        rows: &MemoryRows,
    ) -> Checked {
        self.last.clear();
        let mut touched = BTreeSet::new();
        for mutation in &batch.mutations {
            let key = mutation.key();
            if key[..2] != partition.0.to_be_bytes() {
                return Err(Violation::new(
                    "batches stay in their partition",
                    format!("a batch of partition {partition} has key {key:?}"),
                ));
            }
            if key[2] == Table::Journal as u8 {
                let record = self.journal.on_mutation(partition, mutation)?;
                self.last.push(record);
            } else if !partition.is_catalog() {
                touched.extend(execution_of(mutation));
            }
        }
        for record in &self.last {
            if partition.is_catalog() {
                self.acknowledged.on_catalog_record(record);
                continue;
            }
            self.request_ids
                .on_record(partition, record, &self.history)?;
            self.completions.on_record(record)?;
            self.leases.on_record(record)?;
            // It names an execution, and is about a flow.
            if record.kind != kind::FLOW_EXECUTED {
                self.history.on_record(record)?;
            }
            self.acknowledged.on_schedule_record(record);
        }
        if !partition.is_catalog() {
            self.occurrences.on_batch(batch, &self.last, rows)?;
        }
        for execution in touched {
            self.history.compare(execution, rows)?;
            places::of_execution(execution, rows)?;
            counters::of_execution(execution, rows)?;
            self.answers.of_execution(execution, rows)?;
            self.reads.on_change(execution, rows)?;
        }
        Ok(())
    }

    /// What no single batch shows: whole tables against each other.
    ///
    /// # Errors
    /// The first violation.
    pub fn at_rest(&mut self, partition: PartitionId, rows: &MemoryRows) -> Checked {
        self.journal.whole(partition, rows)?;
        if partition.is_catalog() {
            counters::catalog(rows)?;
            self.reads.on_flows(rows)
        } else {
            places::whole(partition, rows)?;
            counters::partition(partition, rows)?;
            self.occurrences.whole(partition, rows)?;
            self.acknowledged.whole(partition, rows, &self.history)
        }
    }

    /// A client was told that something was done.
    ///
    /// # Errors
    /// When it is not there.
    pub fn on_acknowledged(&mut self, request_id: &str, what: &Acknowledged) -> Checked {
        self.request_ids
            .on_acknowledged(request_id, what, &self.history)?;
        self.acknowledged
            .on_acknowledged(request_id, what, &self.history)
    }

    /// A worker was told what became of its completion.
    ///
    /// # Errors
    /// When that is not so.
    pub fn on_completed(&mut self, task: TaskId, status: &CompletionStatus) -> Checked {
        self.completions.on_answered(task, status)
    }

    /// How many records of this kind the last batch had.
    #[must_use]
    pub fn last_of(&self, kind: &str) -> usize {
        self.last.iter().filter(|r| r.kind == kind).count()
    }

    /// The records of the last batch, for people.
    #[must_use]
    pub fn last_records(&self) -> Vec<String> {
        let line = |record: &JournalRecord| {
            let about = record
                .execution
                .map(|id| id.to_string())
                .or_else(|| record.flow.map(|id| id.to_string()));
            format!(
                "journal {}/{} {} {} step {} attempt {} {} {}",
                record.partition,
                record.seq,
                record.kind,
                about.unwrap_or_default(),
                i64::from(record.step) - 1,
                record.attempt,
                record.node,
                record.detail,
            )
        };
        self.last.iter().map(line).collect()
    }
}

/// The execution that a mutation is about, where its key says so.
fn execution_of(mutation: &Mutation) -> Option<ExecutionId> {
    const BY_EXECUTION: [u8; 6] = [
        Table::Execution as u8,
        Table::Step as u8,
        Table::Message as u8,
        Table::Queue as u8,
        Table::Lease as u8,
        Table::Join as u8,
    ];
    let key = mutation.key();
    let at = match key[2] {
        tag if BY_EXECUTION.contains(&tag) => PREFIX_LEN,
        tag if tag == Table::Timer as u8 => {
            let timer = timer_of_key(key).filter(|timer| !timer.kind.is_of_flow());
            return timer.map(|timer| timer.step.execution);
        }
        tag if tag == Table::ExecutionByFlow as u8 => PREFIX_LEN + 16,
        _ => return None,
    };
    let id = key.get(at..at + 16)?.try_into().ok()?;
    Some(ExecutionId(id))
}

/// The record in a journal row.
fn record_of(value: &bytes::Bytes) -> Option<(JournalEntry, JournalRecord)> {
    let entry = JournalEntry::from_bytes(value.clone()).ok()?;
    let record = JournalRecord::from_bytes(entry.record.clone()).ok()?;
    Some((entry, record))
}
