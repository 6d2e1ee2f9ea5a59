//! What the batches in the making and in flight have written: rows and journal.
//!
//! A leader decides on state that includes what earlier batches in flight will have written. The
//! ledger is where that state lives: reads look into the batch being made, then into the batches in
//! flight, then into the applied rows. It never decides anything.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    ops::Bound,
};

use bytes::Bytes;
use thiserror::Error;
use tidemill_rows::{
    BatchWriter, Change, EncodedBatch, Epoch, Key, RowError, Stored,
    journal::{JournalEntry, JournalHead, JournalRecord, NewRecord, journal_key},
    key::{self, Table, after_prefix},
};
use tidemill_types::{PartitionId, Timestamp};

/// The applied rows of a partition.
pub trait Rows {
    /// The row with this key.
    ///
    /// # Errors
    /// [`RowsError`] when it cannot be read; never an empty answer instead.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError>;

    /// At most `limit` rows from `from` up to, without, `to`, in key order (backwards when `reverse`).
    ///
    /// # Errors
    /// [`RowsError`] when one cannot be read.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError>;
}

/// Why rows cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("rows cannot be read: {0}")]
pub struct RowsError(pub String);

/// Why a partition cannot go on: what is stored makes no sense. It must stop, loudly.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// Rows cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A row's bytes are not what they should be.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A row that another one refers to is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A published document does not compile any more.
    #[error("the plan of {flow} version {version} does not compile: {reason}")]
    Plan {
        /// The flow.
        flow: tidemill_types::FlowId,
        /// The version.
        version: u32,
        /// The first problem.
        reason: String,
    },
}

#[derive(Debug)]
struct Pending {
    value: Option<Bytes>,
    /// No row has this key in any batch before: deleting it again leaves nothing to write.
    fresh: bool,
}

impl Pending {
    fn len(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A batch that is proposed and not known to be applied.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    changes: BTreeMap<Key, Pending>,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    partition: PartitionId,
    now: Timestamp,
    head: JournalHead,
    pending: BTreeMap<Key, Pending>,
    ranges: Vec<(Key, Key)>,
    journal: Vec<(Key, Bytes)>,
    /// Of `pending`, `ranges` and `journal`.
    bytes: usize,
    /// Oldest first, and few: each is looked through as it is, which is cheaper than to merge them and to
    /// take them apart again.
    in_flight: VecDeque<InFlight>,
}

impl Ledger {
    /// A ledger with nothing in flight, over applied rows. `time` is the fence's: decisions never use
    /// an earlier one.
    ///
    /// # Errors
    /// [`Damage`] when the end of the journal cannot be read.
    pub fn recover(
        partition: PartitionId,
        time: Timestamp,
        rows: &dyn Rows,
    ) -> Result<Self, Damage> {
        let from = key::prefix(partition, Table::Journal);
        let to = after_prefix(&from).expect("a table's prefix is not all 0xff");
        let head = match rows.scan(&from, &to, 1, true)?.pop() {
            None => JournalHead::default(),
            Some((last, value)) => {
                let entry = JournalEntry::from_bytes(value)?;
                let record = JournalRecord::from_bytes(entry.record)?;
                if last != journal_key(partition, record.seq) {
                    return Err(Damage::Missing(format!("journal record {}", record.seq)));
                }
                JournalHead {
                    seq: record.seq,
                    hash: entry.hash,
                }
            }
        };
        Ok(Self {
            partition,
            now: time,
            head,
            pending: BTreeMap::new(),
            ranges: Vec::new(),
            journal: Vec::new(),
            bytes: 0,
            in_flight: VecDeque::new(),
        })
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The time of the decision being made.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes up the clock's time; one that goes back is ignored.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The end of the journal, batches in flight included.
    #[must_use]
    pub fn head(&self) -> JournalHead {
        self.head
    }

    /// Writes a row.
    pub fn put(&mut self, key: Key, value: Bytes) {
        self.set(key, Some(value), false);
    }

    /// Writes a row under a key that is known not to exist, applied or in flight.
    pub fn put_fresh(&mut self, key: Key, value: Bytes) {
        self.set(key, Some(value), true);
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Key) {
        if self.pending.get(&key).is_some_and(|p| p.fresh) {
            self.unset(&key);
        } else {
            self.set(key, None, false);
        }
    }

    /// `is_new`: whether the key is fresh when this batch has not touched it before.
    fn set(&mut self, key: Key, value: Option<Bytes>, is_new: bool) {
        match self.pending.entry(key) {
            Entry::Vacant(vacant) => {
                let pending = Pending {
                    value,
                    fresh: is_new,
                };
                self.bytes += vacant.key().len() + pending.len();
                vacant.insert(pending);
            }
            Entry::Occupied(mut occupied) => {
                let pending = occupied.get_mut();
                self.bytes -= pending.len();
                pending.value = value;
                self.bytes += pending.len();
            }
        }
    }

    fn unset(&mut self, key: &Key) {
        if let Some(before) = self.pending.remove(key) {
            self.bytes -= key.len() + before.len();
        }
    }

    /// Deletes all rows that begin with `prefix`, none of which may be read or written again.
    pub fn delete_prefix(&mut self, prefix: Key) {
        let to = Key::from(after_prefix(&prefix).expect("a table's prefix is not all 0xff"));
        // Ranges are applied first: what this batch has written itself would outlive them.
        let gone = self.pending.range(prefix.clone()..to.clone());
        for key in gone.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.unset(&key);
        }
        self.bytes += prefix.len() + to.len();
        self.ranges.push((prefix, to));
    }

    /// Appends a record to the journal.
    pub fn record(&mut self, record: &NewRecord<'_>) {
        let (key, value, head) = self.head.append(record, self.now, self.partition);
        self.head = head;
        self.bytes += key.len() + value.len();
        self.journal.push((key, value));
    }

    /// The row with this key, as it will be.
    ///
    /// # Errors
    /// [`Damage`] when it cannot be read.
    pub fn get(&self, rows: &dyn Rows, key: &[u8]) -> Result<Option<Bytes>, Damage> {
        if let Some(pending) = self.pending.get(key) {
            return Ok(pending.value.clone());
        }
        for batch in self.in_flight.iter().rev() {
            if let Some(change) = batch.changes.get(key) {
                return Ok(change.value.clone());
            }
        }
        Ok(rows.get(key)?)
    }

    /// The row with this key, decoded.
    ///
    /// # Errors
    /// [`Damage`] when it cannot be read.
    pub fn read<T: Stored>(&self, rows: &dyn Rows, key: &[u8]) -> Result<Option<T>, Damage> {
        Ok(self.get(rows, key)?.map(T::from_bytes).transpose()?)
    }

    /// At most `limit` rows from `from` up to, without, `to`, as they will be, in key order.
    ///
    /// # Errors
    /// [`Damage`] when one cannot be read.
    pub fn scan(
        &self,
        rows: &dyn Rows,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Bytes)>, Damage> {
        let mut found = BTreeMap::new();
        let mut start = from.to_vec();
        loop {
            let applied = rows.scan(&start, to, limit, false)?;
            // Beyond the last row read lies what this read knows nothing of.
            let (end, complete) = match applied.last() {
                Some((last, _)) if applied.len() >= limit => (just_after(last), false),
                _ => (to.to_vec(), true),
            };
            found.extend(applied);
            let range = (
                Bound::Included(start.as_slice()),
                Bound::Excluded(end.as_slice()),
            );
            let in_flight = self.in_flight.iter().map(|batch| &batch.changes);
            for changes in in_flight.chain([&self.pending]) {
                for (key, change) in changes.range::<[u8], _>(range) {
                    overlay(&mut found, key, change.value.as_ref());
                }
            }
            if complete || found.len() >= limit {
                return Ok(found.into_iter().take(limit).collect());
            }
            start = end;
        }
    }

    /// All rows that begin with `prefix`, as they will be.
    ///
    /// # Errors
    /// [`Damage`] when one cannot be read.
    pub fn scan_prefix(&self, rows: &dyn Rows, prefix: &[u8]) -> Result<Vec<(Key, Bytes)>, Damage> {
        let to = after_prefix(prefix).expect("a table's prefix is not all 0xff");
        self.scan(rows, prefix, &to, usize::MAX)
    }

    /// True when the batch being made would change something.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !(self.pending.is_empty() && self.journal.is_empty() && self.ranges.is_empty())
    }

    /// How many bytes the keys, values and records of the batch being made have.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.bytes
    }

    /// About how many rows and records the batch being made has.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len() + self.journal.len()
    }

    /// Closes the batch being made; it is in flight as number `seq` from now on.
    ///
    /// Random keys first, then the ascending journal keys: that is how RocksDB's memtable likes it.
    pub fn take(&mut self, epoch: Epoch, seq: u64) -> EncodedBatch {
        let rows = self.ranges.len() + self.pending.len() + self.journal.len();
        let bytes = std::mem::take(&mut self.bytes);
        let mut writer = BatchWriter::new(epoch, seq, self.now, rows, bytes);
        for (from, to) in self.ranges.drain(..) {
            writer.push(Change::DeleteRange {
                from: &from,
                to: &to,
            });
        }
        let changes = std::mem::take(&mut self.pending);
        for (key, change) in &changes {
            writer.push(match &change.value {
                Some(value) => Change::Put { key, value },
                None => Change::Delete { key },
            });
        }
        for (key, value) in self.journal.drain(..) {
            writer.push(Change::Put {
                key: &key,
                value: &value,
            });
        }
        self.in_flight.push_back(InFlight { seq, changes });
        writer.finish()
    }

    /// Batches up to number `seq` are applied: the rows speak for themselves now.
    pub fn applied(&mut self, seq: u64) {
        while self.in_flight.front().is_some_and(|batch| batch.seq <= seq) {
            self.in_flight.pop_front();
        }
    }
}

fn overlay(found: &mut BTreeMap<Key, Bytes>, key: &Key, value: Option<&Bytes>) {
    match value {
        Some(value) => found.insert(key.clone(), value.clone()),
        None => found.remove(key),
    };
}

fn just_after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use tidemill_rows::{Batch, Mutation};

    use super::*;
    use crate::memory::MemoryRows;

    fn key(n: u8) -> Key {
        Key::from(&[0, 1, 0x20, n])
    }

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn ledger(rows: &MemoryRows) -> Ledger {
        Ledger::recover(PartitionId(1), Timestamp(0), rows).expect("no damage")
    }

    fn take(ledger: &mut Ledger, seq: u64) -> Vec<Mutation> {
        let taken = ledger.take(Epoch::default(), seq);
        let rows = taken.rows();
        let batch = Batch::decode(taken.into_bytes()).expect("a batch");
        assert_eq!((batch.seq, batch.mutations.len()), (seq, rows));
        batch.mutations
    }

    #[test]
    fn reads_see_the_newest_write() {
        let mut rows = MemoryRows::default();
        rows.apply(&[Mutation::Put {
            key: key(1),
            value: value("applied"),
        }]);
        let mut ledger = ledger(&rows);
        assert_eq!(ledger.get(&rows, &key(1)), Ok(Some(value("applied"))));
        ledger.put(key(1), value("in flight"));
        let first = take(&mut ledger, 1);
        assert_eq!(ledger.get(&rows, &key(1)), Ok(Some(value("in flight"))));
        ledger.delete(key(1));
        assert_eq!(ledger.get(&rows, &key(1)), Ok(None));
        let second = take(&mut ledger, 2);
        rows.apply(&first);
        ledger.applied(1);
        assert_eq!(
            ledger.get(&rows, &key(1)),
            Ok(None),
            "the deletion is still in flight"
        );
        rows.apply(&second);
        ledger.applied(2);
        assert_eq!(ledger.get(&rows, &key(1)), Ok(None));
        assert!(ledger.in_flight.is_empty());
    }

    #[test]
    fn a_row_that_comes_and_goes_within_a_batch_leaves_nothing() {
        let rows = MemoryRows::default();
        let mut ledger = ledger(&rows);
        ledger.put_fresh(key(1), value("a"));
        ledger.put(key(1), value("b"));
        ledger.delete(key(1));
        assert!(!ledger.has_changes());
        // A key that may exist must be deleted for real.
        ledger.put(key(2), value("a"));
        ledger.delete(key(2));
        assert_eq!(take(&mut ledger, 1), vec![Mutation::Delete { key: key(2) }]);
    }

    #[test]
    fn bytes_are_those_of_what_will_be_written() {
        let rows = MemoryRows::default();
        let mut ledger = ledger(&rows);
        let written = |ledger: &mut Ledger, seq| -> usize {
            let len = |mutation: Mutation| match mutation {
                Mutation::Put { key, value } => key.len() + value.len(),
                Mutation::Delete { key } => key.len(),
                Mutation::DeleteRange { from, to } => from.len() + to.len(),
            };
            take(ledger, seq).into_iter().map(len).sum()
        };
        ledger.put_fresh(key(1), value("gone again"));
        ledger.delete(key(1));
        assert_eq!(ledger.pending_bytes(), 0);
        ledger.put(key(1), value("long, and then"));
        ledger.put(key(1), value("short"));
        ledger.delete(key(2));
        ledger.put(key(3), value("with the prefix"));
        ledger.delete_prefix(Key::from(&[0, 1, 0x20, 3]));
        ledger.record(&NewRecord::of("a", ""));
        let said = ledger.pending_bytes();
        assert_eq!(said, written(&mut ledger, 1));
        assert_eq!(ledger.pending_bytes(), 0);
    }

    #[test]
    fn a_deleted_prefix_takes_along_what_the_same_batch_wrote() {
        let mut rows = MemoryRows::default();
        let mut ledger = ledger(&rows);
        ledger.put(key(1), value("a"));
        ledger.delete_prefix(Key::from(&[0, 1, 0x20]));
        rows.apply(&take(&mut ledger, 1));
        assert_eq!(rows.iter().count(), 0);
    }

    #[test]
    fn scans_merge_what_is_applied_in_flight_and_pending() {
        let mut rows = MemoryRows::default();
        for n in [1, 3, 5, 7] {
            rows.apply(&[Mutation::Put {
                key: key(n),
                value: value("applied"),
            }]);
        }
        let mut ledger = ledger(&rows);
        ledger.put(key(2), value("in flight"));
        ledger.delete(key(3));
        take(&mut ledger, 1);
        ledger.delete(key(1));
        ledger.put(key(8), value("pending"));
        let numbers = |limit| {
            ledger
                .scan(&rows, &key(0), &key(9), limit)
                .expect("no damage")
                .iter()
                .map(|(key, _)| key[3])
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(usize::MAX), [2, 5, 7, 8]);
        assert_eq!(numbers(1), [2]);
        assert_eq!(numbers(2), [2, 5]);
        assert_eq!(numbers(4), [2, 5, 7, 8]);
    }

    #[test]
    fn takes_up_the_journal_where_it_ended() {
        let mut rows = MemoryRows::default();
        let mut first = ledger(&rows);
        first.record(&NewRecord::of("a", ""));
        first.record(&NewRecord::of("b", ""));
        rows.apply(&take(&mut first, 1));
        assert_eq!(ledger(&rows).head(), first.head());
        assert_eq!(first.head().seq, 2);
    }

    #[test]
    fn time_never_goes_back() {
        let mut ledger = ledger(&MemoryRows::default());
        ledger.advance(Timestamp(5));
        ledger.advance(Timestamp(3));
        assert_eq!(ledger.now(), Timestamp(5));
    }
}
