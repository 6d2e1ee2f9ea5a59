//! Everything that a node keeps, in one data directory.
//!
//! ```text
//! IDENTITY                    whose data this is
//! SYNCED                      how far the log was synced
//! BALLAST                     space to start from when the disk is full
//! log/                        RocksDB: the log of all groups
//! state/<group>/CURRENT_STATE which of the directories beside it is the group's state
//! state/<group>/<number>/     RocksDB: the group's state
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tidemill_types::PartitionId;

use crate::{
    LogStore, OpenError, Space, StateStore, StoreError, StoreIdentity, StoreOptions, StoreStats,
    file, log::LogShared, memory::SharedMemory, space::SpaceMonitor, stats::Counters,
    stop::FailStop,
};

/// Everything that a node keeps; one per data directory, which it holds a lock of. The directory is
/// free again when this and all handles from it are dropped.
pub struct NodeStore {
    dir: PathBuf,
    options: StoreOptions,
    stop: Arc<FailStop>,
    counters: Arc<Counters>,
    space: Arc<SpaceMonitor>,
    log: Arc<LogShared>,
    memory: SharedMemory,
    states: Mutex<BTreeMap<PartitionId, StateStore>>,
}

impl NodeStore {
    /// Opens a data directory; makes it when it is new or empty. Checks the log. Waits for the disk.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is somebody else's, in use, or damaged.
    pub fn open(
        dir: &Path,
        identity: &StoreIdentity,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Store {
            dir: dir.display().to_string(),
            error,
        };
        file::create_dir(dir).map_err(failed)?;
        if identity.check(dir)? {
            identity.claim(dir).map_err(failed)?;
        }
        Self::open_files(dir, options).map_err(|error| match error {
            // RocksDB has no error of its own for this.
            StoreError::Io { error, .. } if error.contains("/LOCK:") => OpenError::Locked {
                dir: dir.display().to_string(),
            },
            error => failed(error),
        })
    }

    fn open_files(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let stop = Arc::new(FailStop::new(options.on_fail_stop.clone()));
        let counters = Arc::new(Counters::default());
        let space = Arc::new(SpaceMonitor::open(dir, options.reserve_bytes)?);
        let memory = SharedMemory::new(&options)?;
        let log = LogShared::open(
            dir,
            &options,
            &memory,
            Arc::clone(&stop),
            Arc::clone(&counters),
            Arc::clone(&space),
        )?;
        Ok(Self {
            dir: dir.to_owned(),
            memory,
            options,
            stop,
            counters,
            space,
            log: Arc::new(log),
            states: Mutex::new(BTreeMap::new()),
        })
    }

    /// The data directory: where checkpoints can be made and received, since they are linked.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log of a group. Never waits for the disk.
    #[must_use]
    pub fn log(&self, group: PartitionId) -> LogStore {
        self.log.group(group)
    }

    /// The groups that have anything in the log.
    #[must_use]
    pub fn groups(&self) -> Vec<PartitionId> {
        self.log.groups()
    }

    /// The state of a group; makes an empty one when there is none. Waits for the disk the first time.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened.
    pub fn state(&self, group: PartitionId) -> Result<StateStore, StoreError> {
        let mut states = self.states.lock().expect("nothing panics while it is held");
        if let Some(state) = states.get(&group) {
            return Ok(state.clone());
        }
        let state = StateStore::open(
            group,
            self.dir.join("state").join(group.to_string()),
            &self.options,
            &self.memory,
            Arc::clone(&self.stop),
            Arc::clone(&self.counters),
        )?;
        states.insert(group, state.clone());
        Ok(state)
    }

    /// Stops the store as a failed write does: for a caller who finds that it must not go on.
    pub fn fail_stop(&self, why: &str) {
        self.stop.stop(why);
    }

    /// Why the store has stopped; none while it works. The callback in the options is told at once.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stop.why()
    }

    /// Room on the data directory's file system, now. One system call.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the operating system does not say.
    pub fn space(&self) -> Result<Space, StoreError> {
        self.space.read()
    }

    /// Reads the whole log and compares all checksums. Waits for the disk. State is verified by
    /// [`StateStore::verify`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when anything is damaged.
    pub fn verify_log(&self) -> Result<(), StoreError> {
        self.log.database.verify()
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let mut stats = self.counters.snapshot();
        stats.log_tail_bytes = self.log.tail_bytes() as u64;
        (stats.log_file_bytes, stats.log_memory_bytes) = self.log.database.sizes();
        let states = self.states.lock().expect("nothing panics while it is held");
        for state in states.values() {
            let (files, memory) = state.sizes();
            stats.state_file_bytes += files;
            stats.state_memory_bytes += memory;
        }
        stats.block_cache_bytes = self.memory.cache_bytes();
        stats
    }
}
