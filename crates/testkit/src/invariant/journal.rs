//! I6: the journal has no gap, no duplicate, one hash chain. Its time never goes back. (That it is the
//! same on all replicas is part of I7: all their rows are.)

use std::collections::BTreeMap;

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    Hash, Mutation,
    journal::{JournalHead, JournalRecord, chain, journal_key},
    key::Table,
};
use tidemill_types::{PartitionId, Timestamp};

use super::{Checked, Violation, record_of, view};

const NAME: &str = "I6 journal";

/// See the module.
#[derive(Debug, Default)]
pub struct Journal {
    heads: BTreeMap<PartitionId, (JournalHead, Timestamp)>,
}

impl Journal {
    /// A batch writes a journal row: it must be the next one.
    ///
    /// # Errors
    /// When it is not.
    pub fn on_mutation(
        &mut self,
        partition: PartitionId,
        mutation: &Mutation,
    ) -> Result<JournalRecord, Violation> {
        let violation =
            |what: String| Violation::new(NAME, format!("partition {partition}: {what}"));
        let Mutation::Put { key, value } = mutation else {
            return Err(violation("a record was deleted".into()));
        };
        let Some((entry, record)) = record_of(value) else {
            return Err(violation("a record cannot be read".into()));
        };
        let (head, time) = self.heads.entry(partition).or_default();
        let next = head.seq + 1;
        if record.seq != next || *key != journal_key(partition, next) {
            return Err(violation(format!(
                "record {} ({}) was written when {next} was next",
                record.seq, record.kind
            )));
        }
        if entry.hash != chain(head.hash, &entry.record) {
            return Err(violation(format!("the chain breaks at record {next}")));
        }
        if record.at < *time {
            return Err(violation(format!(
                "record {next} is of {:?}, the one before of {time:?}",
                record.at
            )));
        }
        if record.partition != u32::from(partition.0) {
            return Err(violation(format!(
                "record {next} names partition {}",
                record.partition
            )));
        }
        *time = record.at;
        *head = JournalHead {
            seq: next,
            hash: entry.hash,
        };
        Ok(record)
    }

    /// The whole journal, read anew as a verifier would.
    ///
    /// # Errors
    /// When it is not what was written.
    pub fn whole(&self, partition: PartitionId, rows: &MemoryRows) -> Checked {
        let mut before = Hash::default();
        let mut seq = 0;
        for (key, value) in view::table(rows, partition, Table::Journal) {
            seq += 1;
            let entry = record_of(&value).map(|(entry, _)| entry);
            let good = entry.filter(|entry| {
                key == journal_key(partition, seq) && entry.hash == chain(before, &entry.record)
            });
            let Some(entry) = good else {
                return Err(Violation::new(
                    NAME,
                    format!("partition {partition}: record {seq} does not verify"),
                ));
            };
            before = entry.hash;
        }
        let head = self.heads.get(&partition).map(|(head, _)| *head);
        let head = head.unwrap_or_default();
        if (head.seq, head.hash) != (seq, before) {
            return Err(Violation::new(
                NAME,
                format!(
                    "partition {partition}: the journal ends at {seq}, {} were written",
                    head.seq
                ),
            ));
        }
        Ok(())
    }
}
