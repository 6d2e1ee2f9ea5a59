//! Rows in memory: for tests and for the simulator.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_rows::{Key, Mutation};

use crate::ledger::{Rows, RowsError};

/// Applied rows, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRows {
    rows: BTreeMap<Key, Bytes>,
}

impl MemoryRows {
    /// Applies mutations in their order.
    pub fn apply(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            match mutation {
                Mutation::Put { key, value } => {
                    self.rows.insert(key.clone(), value.clone());
                }
                Mutation::Delete { key } => {
                    self.rows.remove(key);
                }
                Mutation::DeleteRange { from, to } => {
                    let gone: Vec<Key> = self
                        .rows
                        .range(from.clone()..to.clone())
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in gone {
                        self.rows.remove(&key);
                    }
                }
            }
        }
    }

    /// All rows in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Bytes)> {
        self.rows.iter()
    }
}

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, RowsError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.rows.range::<[u8], _>((
            std::ops::Bound::Included(from),
            std::ops::Bound::Excluded(to),
        ));
        let copy = |(key, value): (&Key, &Bytes)| (key.clone(), value.clone());
        Ok(if reverse {
            range.rev().take(limit).map(copy).collect()
        } else {
            range.take(limit).map(copy).collect()
        })
    }
}
