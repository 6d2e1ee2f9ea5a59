//! What can be chosen about a store, with defaults that suit a node of the demo's size.

use std::{
    fmt,
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use rocksdb::{Env, LogLevel, Options};
use rustix::fs::OFlags;

use crate::StoreError;

/// Called once, with the reason, when the store stops; the process must then end.
pub type OnFailStop = Arc<dyn Fn(&str) + Send + Sync>;

const MIB: usize = 1 << 20;

/// What can be chosen about a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Free disk space below which [`crate::Space::low`] says that new work must be refused.
    pub reserve_bytes: u64,
    /// Bound of the cache of file blocks, shared by all groups.
    pub block_cache_bytes: usize,
    /// Bound of what all state databases together keep in memory before it is flushed.
    pub state_memory_bytes: usize,
    /// Bound of what the log keeps in memory before it is flushed, over all groups.
    pub log_memory_bytes: usize,
    /// Bound of recent log entries that are kept decoded for replication, over all groups.
    pub log_tail_bytes: usize,
    /// WAL files of the log may grow to this together before memory is flushed to let them go.
    pub wal_bytes_max: u64,
    /// Open files per database; -1 for no bound.
    pub open_files_max: i32,
    /// Reads the whole log and its checksums when the store is opened.
    pub verify_log: bool,
    /// Called once when the store stops.
    pub on_fail_stop: Option<OnFailStop>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 * MIB as u64,
            block_cache_bytes: 64 * MIB,
            state_memory_bytes: 64 * MIB,
            log_memory_bytes: 32 * MIB,
            log_tail_bytes: 16 * MIB,
            wal_bytes_max: 64 * MIB as u64,
            open_files_max: 512,
            verify_log: true,
            on_fail_stop: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("reserve_bytes", &self.reserve_bytes)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("state_memory_bytes", &self.state_memory_bytes)
            .field("log_memory_bytes", &self.log_memory_bytes)
            .field("log_tail_bytes", &self.log_tail_bytes)
            .field("wal_bytes_max", &self.wal_bytes_max)
            .field("open_files_max", &self.open_files_max)
            .field("verify_log", &self.verify_log)
            .finish_non_exhaustive()
    }
}

/// Only the newest few of RocksDB's own log files are kept.
const INFO_LOG_FILES: usize = 2;
const INFO_LOG_BYTES: usize = 4 << 20;
/// Dirty pages are handed to the disk in pieces, so that a sync of the WAL never waits for a pile.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// RocksDB takes 4 MiB otherwise, of a disk that may be nearly full.
const MANIFEST_ALLOCATION_BYTES: usize = 64 << 10;
const FLUSH_THREADS: i32 = 1;
const COMPACTION_THREADS: i32 = 2;

/// What all databases of a node have in common.
pub(crate) fn database(store: &StoreOptions) -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_max_open_files(store.open_files_max);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_use_direct_io_for_flush_and_compaction(true);
    options.set_max_background_jobs(FLUSH_THREADS + COMPACTION_THREADS);
    options.set_manifest_preallocation_size(MANIFEST_ALLOCATION_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// The one environment of the process: its threads serve all databases, and yield to the engine.
pub(crate) fn environment() -> Result<Env, StoreError> {
    let mut env = Env::new().map_err(|error| StoreError::rocksdb("environment", &error))?;
    env.set_low_priority_background_threads(COMPACTION_THREADS);
    env.set_high_priority_background_threads(FLUSH_THREADS);
    env.lower_thread_pool_cpu_priority();
    Ok(env)
}

/// False on file systems that refuse direct I/O, such as tmpfs of older kernels.
pub(crate) fn direct_io_works(dir: &Path) -> bool {
    let probe = dir.join("DIRECT-IO");
    let flags = OFlags::DIRECT.bits().cast_signed();
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(flags)
        .open(&probe);
    let _ = fs::remove_file(&probe);
    opened.is_ok()
}
