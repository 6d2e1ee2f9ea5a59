//! In the place of `crates/store`: the same log and state, over disks that are simulated. A disk keeps what
//! was synced, may keep what was written, and loses the rest when its machine does.

mod disk;
mod log;
mod state;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use tidemill_types::PartitionId;

use crate::StoreError;

use self::log::LogShared;
pub(crate) use self::{
    disk::{Crash, Disk, digest_after},
    log::LogStore,
    state::StateStore,
};

/// Called when what was asked for is synced, or will never be.
pub(crate) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub index: u64,
    pub bytes: Bytes,
}

/// Room on the disk.
pub(crate) struct Space {
    pub free: u64,
    pub low: bool,
    pub critical: bool,
}

/// Set once a write has failed: nothing is written any more, and the process must end.
#[derive(Default)]
pub(crate) struct FailStop(AtomicBool);

impl FailStop {
    pub fn check(&self) -> Result<(), StoreError> {
        if self.has_stopped() {
            return Err(StoreError::Stopped);
        }
        Ok(())
    }

    pub fn stop(&self) {
        self.0.store(true, SeqCst);
    }

    pub fn has_stopped(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// What one process keeps on its disk.
pub(crate) struct NodeStore {
    disk: Arc<Disk>,
    log: Arc<LogShared>,
    stop: Arc<FailStop>,
    dir: PathBuf,
}

impl NodeStore {
    /// Finds what is on the disk. Runs the log's writer on the runtime that it is called on.
    pub fn of(disk: &Arc<Disk>) -> Result<Self, StoreError> {
        let stop = Arc::new(FailStop::default());
        Ok(Self {
            disk: Arc::clone(disk),
            log: LogShared::open(disk, &stop)?,
            stop,
            dir: PathBuf::from("/simulated"),
        })
    }

    /// For the shared files' own tests: a store with a new disk.
    #[cfg(test)]
    pub fn open(dir: &Path, _: &StoreIdentity, _: StoreOptions) -> Result<Self, StoreError> {
        crate::run::begin(0, None, false);
        let mut store = Self::of(&Arc::new(Disk::new()))?;
        store.dir = dir.to_owned();
        Ok(store)
    }

    pub fn log(&self, group: PartitionId) -> LogStore {
        self.log.group(group)
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn state(&self, group: PartitionId) -> Result<StateStore, StoreError> {
        Ok(StateStore::new(group, &self.disk, &self.stop))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[allow(clippy::unnecessary_wraps)] // as the real one
    pub fn space(&self) -> Result<Space, StoreError> {
        let full = self.disk.is_full();
        Ok(Space {
            free: if full { 0 } else { 1 << 30 },
            low: full,
            critical: full,
        })
    }

    /// True once the process must end.
    pub fn has_stopped(&self) -> bool {
        self.stop.has_stopped()
    }
}

/// As the real one, for the shared files' own tests.
#[cfg(test)]
pub(crate) struct StoreIdentity;

#[cfg(test)]
impl StoreIdentity {
    pub fn new(_: &str, _: tidemill_types::NodeId) -> Self {
        Self
    }
}

/// As the real one, for the shared files' own tests.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct StoreOptions(());
