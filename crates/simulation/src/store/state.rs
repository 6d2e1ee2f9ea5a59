//! In the place of `crates/store/src/state.rs`.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::{Rows as _, memory::MemoryRows};
use tidemill_types::PartitionId;

use super::{FailStop, disk::Disk};
use crate::{AsChange, Key, Mutation, StoreError, Table, key, options::Planted, run};

/// The state of one group; clones are the same state.
#[derive(Clone)]
pub(crate) struct StateStore {
    group: PartitionId,
    disk: Arc<Disk>,
    stop: Arc<FailStop>,
}

impl StateStore {
    pub fn new(group: PartitionId, disk: &Arc<Disk>, stop: &Arc<FailStop>) -> Self {
        Self {
            group,
            disk: Arc::clone(disk),
            stop: Arc::clone(stop),
        }
    }

    /// Does something with the rows as they are now.
    pub fn rows<T>(&self, read: impl FnOnce(&MemoryRows) -> T) -> T {
        self.disk.read_rows(self.group, |rows, _| read(rows))
    }

    pub fn write<C: AsChange>(&self, changes: &[C]) -> Result<(), StoreError> {
        self.stop.check()?;
        let mutations = changes
            .iter()
            .map(|change| change.as_change().to_mutation());
        let mutations: Vec<_> = mutations.collect();
        if run::planted(Planted::MembersNotUpdated) {
            let members = members_key(self.group);
            let is_known = self.get(&members)?.is_some();
            let kept = |mutation: &Mutation| !is_known || *mutation.key() != members;
            let kept: Vec<_> = mutations.into_iter().filter(kept).collect();
            return self.stop_unless_full(self.disk.write_rows(self.group, &kept));
        }
        self.stop_unless_full(self.disk.write_rows(self.group, &mutations))
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows(|rows| rows.get(key).expect("rows in memory")))
    }

    pub fn flush(&self) -> Result<(), StoreError> {
        self.stop.check()?;
        run::count("flushes");
        let flushed = self.disk.flush_rows(self.group);
        if run::planted(Planted::FlushErrorIgnored) {
            return Ok(());
        }
        self.stop_unless_full(flushed)
    }

    /// As the real one: a full disk is waited out, after any other error nothing is written any more.
    fn stop_unless_full(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        result.inspect_err(|error| {
            if !matches!(error, StoreError::NoSpace { .. }) {
                self.stop.stop();
            }
        })
    }

    pub fn checkpoint(&self) -> Result<MemoryRows, StoreError> {
        self.flush()?;
        let mut copy = self.rows(MemoryRows::clone);
        if run::planted(Planted::SnapshotWithoutFence) {
            let key = key::start(self.group, Table::Fence).freeze();
            copy.apply(&[Mutation::Delete { key }]);
        }
        Ok(copy)
    }

    pub fn install(&self, rows: MemoryRows) -> Result<(), StoreError> {
        self.stop.check()?;
        run::count("snapshots installed");
        self.disk.replace_rows(self.group, rows);
        Ok(())
    }
}

/// The replica's own row of the members, as in `crates/replica/src/machine.rs`.
fn members_key(group: PartitionId) -> Key {
    let mut key = key::start(group, Table::Replica);
    key.put_u8(2);
    key.freeze()
}
