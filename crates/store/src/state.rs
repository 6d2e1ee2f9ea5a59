//! The state of one group: rows that can be rebuilt from the log, in a RocksDB without a WAL.
//!
//! A batch of rows is written whole or not at all. Memory is flushed in order, so a crash leaves all
//! batches up to some point and none after it; the group's `applied` row, in each batch, says which.

mod checkpoint;
mod database;
mod families;
mod full;
mod install;
mod view;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use tidemill_rows::{AsChange, Key};
use tidemill_types::PartitionId;

pub use self::{
    checkpoint::{CHECKPOINT_LIST, CheckpointFile, CheckpointFiles},
    database::Verified,
    view::StateView,
};
use self::{database::StateDatabase, full::Recovery};
use crate::{
    StoreError, StoreOptions,
    memory::SharedMemory,
    stats::{Counters, add},
    stop::FailStop,
};

/// Why the store stops when a full disk is over for everybody but RocksDB.
const STUCK: &str = "there is room on the disk again, and the state does not get over having been full: a new start does";

/// The state of one group; clones are the same state.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<StateShared>,
}

pub struct StateShared {
    group: PartitionId,
    /// Holds one directory per installed state, and the file that names the current one.
    dir: PathBuf,
    options: StoreOptions,
    memory: SharedMemory,
    stop: Arc<FailStop>,
    counters: Arc<Counters>,
    /// Replaced by an install. Writers hold it shared, so none writes to a state that was replaced.
    current: RwLock<Arc<StateDatabase>>,
    /// One install or checkpoint at a time.
    exclusive: std::sync::Mutex<()>,
    recovery: Recovery,
}

impl StateStore {
    pub(crate) fn open(
        group: PartitionId,
        dir: PathBuf,
        options: &StoreOptions,
        memory: &SharedMemory,
        stop: Arc<FailStop>,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let current = install::open_current(group, &dir, options, memory)?;
        Ok(Self {
            shared: Arc::new(StateShared {
                group,
                recovery: Recovery::new(dir.clone()),
                dir,
                options: options.clone(),
                memory: memory.clone(),
                stop,
                counters,
                current: RwLock::new(Arc::new(current)),
                exclusive: std::sync::Mutex::new(()),
            }),
        })
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> PartitionId {
        self.shared.group
    }

    fn current(&self) -> Arc<StateDatabase> {
        // The lock guards one pointer, which is whole even if a holder panicked.
        let current = self.shared.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes all changes, in this order, or none. To memory: it waits for the disk only when flushes
    /// cannot keep up. Not durable before [`Self::flush`].
    ///
    /// # Errors
    /// [`StoreError::NoSpace`]: nothing was written, the same must be written when there is space. Any
    /// other error stops the store: a replica that skipped a batch would no longer equal the others.
    pub fn write<C: AsChange>(&self, changes: &[C]) -> Result<(), StoreError> {
        self.shared.stop.check()?;
        let bytes = {
            let current = self.shared.current.read();
            let current = current.unwrap_or_else(PoisonError::into_inner);
            current
                .write(changes)
                .map_err(|error| self.stop_unless_full(error))?
        };
        self.shared.recovery.succeeded();
        add(&self.shared.counters.state_writes, 1);
        add(&self.shared.counters.state_written_bytes, bytes);
        Ok(())
    }

    /// A row. May wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.current().get(key)
    }

    /// The row as a crash now would leave it: what is written but not flushed is not seen. The log may
    /// be purged only up to what `applied`, read like this, says. May wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged.
    pub fn durable(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.current().durable(key)
    }

    /// Up to `limit` rows from `from` up to, without, `to`; from the end backwards when `reverse`. May
    /// wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row is damaged.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.view().scan(from, to, limit, reverse)
    }

    /// Calls `each` with all rows from `from` up to, without, `to`, as they are now, until it breaks.
    /// Holds none of them in memory. May wait for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row is damaged.
    pub fn visit(
        &self,
        from: &[u8],
        to: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.view().visit(from, to, each)
    }

    /// The state as it is now, whatever is written or installed later. Keeps deleted rows on disk for as
    /// long as it lives.
    #[must_use]
    pub fn view(&self) -> StateView {
        StateView::of(self.current())
    }

    /// Makes everything written so far durable. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`]: nothing is lost, try again later. Any other error stops the store.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.stop.check()?;
        self.current()
            .flush()
            .map_err(|error| self.stop_unless_full(error))?;
        self.shared.recovery.succeeded();
        add(&self.shared.counters.flushes, 1);
        Ok(())
    }

    /// Makes a copy of the state as it is now in the new directory `to`, which must be on the same file
    /// system: flushes, links the table files, and lists all files with their checksums. Waits for the
    /// disk and reads the whole copy once.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] and errors of `to`: try again. A failed flush stops the store.
    pub fn checkpoint(&self, to: &Path) -> Result<CheckpointFiles, StoreError> {
        let _exclusive = self
            .shared
            .exclusive
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.flush()?;
        let files = checkpoint::create(&self.current(), to)?;
        add(&self.shared.counters.checkpoints, 1);
        Ok(files)
    }

    /// Replaces the state by a checkpoint, all of whose files, its list too, lie in `from` on the same
    /// file system: checks them, links them into a new directory, and switches to it by one rename. A
    /// crash leaves the old state or the new. Handles see the new state when it returns, views stay with
    /// the old. Waits for the disk. `from` is left as it is.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the files do not fit their list; the state is then as before.
    pub fn install(&self, from: &Path) -> Result<(), StoreError> {
        self.shared.stop.check()?;
        let _exclusive = self
            .shared
            .exclusive
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let installed = install::prepare(
            shared.group,
            &shared.dir,
            from,
            &shared.options,
            &shared.memory,
        )?;
        {
            let current = shared.current.write();
            let mut current = current.unwrap_or_else(PoisonError::into_inner);
            // After a failed switch nobody knows which state a restart would find.
            install::switch(&shared.dir, &installed).map_err(|error| shared.stop.failed(error))?;
            let replaced = std::mem::replace(&mut *current, Arc::new(installed));
            replaced.delete_when_closed();
        }
        add(&shared.counters.installs, 1);
        Ok(())
    }

    /// Reads everything and compares all checksums; gives what was read. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when anything is damaged.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        self.current().verify()
    }

    /// Bytes of table files, and of what is not yet flushed.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        self.current().sizes()
    }

    fn stop_unless_full(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::NoSpace { .. } if self.shared.recovery.failed() => {
                self.shared.stop.stop(STUCK);
                StoreError::Stopped
            }
            StoreError::NoSpace { .. } => error,
            error => self.shared.stop.failed(error),
        }
    }
}
