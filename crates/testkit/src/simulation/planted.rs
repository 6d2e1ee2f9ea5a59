//! What planted bugs do to batches and reads. Each is a bug that somebody could write.

use bytes::Bytes;
use tidemill_core::{Rows, RowsError, memory::MemoryRows};
use tidemill_rows::{
    Batch, Key, Mutation, Stored,
    journal::{JournalEntry, JournalHead, JournalRecord},
    key::Table,
    table::{ExecutionRow, StepRow, TimerKind, start_request_key, timer_of_key},
};
use tidemill_types::PartitionId;

fn is_of(mutation: &Mutation, table: Table) -> bool {
    mutation.key()[2] == table as u8
}

fn record_of(mutation: &Mutation) -> Option<(JournalEntry, JournalRecord)> {
    let Mutation::Put { value, .. } = mutation else {
        return None;
    };
    let entry = is_of(mutation, Table::Journal).then(|| JournalEntry::from_bytes(value.clone()))?;
    let entry = entry.ok()?;
    let record = JournalRecord::from_bytes(entry.record.clone()).ok()?;
    Some((entry, record))
}

/// Appends the batch's last record once more, well chained.
pub fn repeat_record(partition: PartitionId, batch: &mut Batch) {
    let Some((entry, record)) = batch.mutations.last().and_then(record_of) else {
        return;
    };
    let head = JournalHead {
        seq: record.seq,
        hash: entry.hash,
    };
    let (key, value, _) = head.append(&record.as_new(), record.at, partition);
    batch.mutations.push(Mutation::Put { key, value });
}

/// Leaves out the timers of retries.
pub fn forget_timers(batch: &mut Batch) {
    batch.mutations.retain(|mutation| {
        !(matches!(mutation, Mutation::Put { key, .. } if timer_of_key(key)
            .is_some_and(|timer| is_of(mutation, Table::Timer) && timer.kind == TimerKind::Retry)))
    });
}

/// Takes the ledger's rows out of a batch.
pub fn take_occurrences(batch: &mut Batch) -> Vec<Mutation> {
    batch
        .mutations
        .extract_if(.., |mutation| is_of(mutation, Table::Occurrence))
        .collect()
}

/// Makes the counter of live steps one too high wherever a batch makes more than one step.
pub fn miscount(batch: &mut Batch) {
    let fresh = |mutation: &&Mutation| match mutation {
        Mutation::Put { value, .. } if is_of(mutation, Table::Step) => {
            StepRow::from_bytes(value.clone()).is_ok_and(|step| step.attempt == 0)
        }
        _ => false,
    };
    if batch.mutations.iter().filter(fresh).count() < 2 {
        return;
    }
    for mutation in &mut batch.mutations {
        if !is_of(mutation, Table::Execution) {
            continue;
        }
        if let Mutation::Put { value, .. } = mutation
            && let Ok(mut row) = ExecutionRow::from_bytes(value.clone())
        {
            row.live += 1;
            *value = row.to_bytes();
        }
    }
}

/// Removes the request ids of executions that end in the batch.
pub fn expire_requests(partition: PartitionId, batch: &mut Batch) {
    let ended = |mutation: &Mutation| match mutation {
        Mutation::Put { value, .. } if is_of(mutation, Table::Execution) => {
            let row = ExecutionRow::from_bytes(value.clone()).ok()?;
            let ended = row.state.is_ended() && !row.request_id.is_empty();
            ended.then(|| start_request_key(partition, &row.request_id))
        }
        _ => None,
    };
    let expired: Vec<_> = batch.mutations.iter().filter_map(ended).collect();
    let delete = |key| Mutation::Delete { key };
    batch.mutations.extend(expired.into_iter().map(delete));
}

/// Stores another detail in each record than was hashed.
pub fn unhash_details(batch: &mut Batch) {
    for mutation in &mut batch.mutations {
        let Some((mut entry, mut record)) = record_of(mutation) else {
            continue;
        };
        record.detail.push('!');
        entry.record = record.to_bytes();
        if let Mutation::Put { value, .. } = mutation {
            *value = entry.to_bytes();
        }
    }
}

/// Rows without those of request ids.
pub struct WithoutRequests<'a>(pub &'a MemoryRows);

impl Rows for WithoutRequests<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        if key[2] == Table::Request as u8 {
            return Ok(None);
        }
        self.0.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        self.0.scan(from, to, limit, reverse)
    }
}
