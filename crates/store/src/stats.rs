//! Counters, for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals since the store was opened, and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Syncs of the log's WAL.
    pub syncs: u64,
    /// Time spent in writes with a sync, in microseconds.
    pub sync_micros: u64,
    /// The longest write with a sync, in microseconds.
    pub sync_micros_max: u64,
    /// Log entries appended.
    pub appended_entries: u64,
    /// Bytes of log entries appended.
    pub appended_bytes: u64,
    /// Votes saved.
    pub votes: u64,
    /// Log reads that the tail in memory could not answer alone.
    pub log_disk_reads: u64,
    /// Batches written to state.
    pub state_writes: u64,
    /// Bytes of keys and values written to state.
    pub state_written_bytes: u64,
    /// Flushes of state that were asked for.
    pub flushes: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Checkpoints installed.
    pub installs: u64,
    /// Bytes of log entries held in memory for replication.
    pub log_tail_bytes: u64,
    /// Bytes of the log's table files.
    pub log_file_bytes: u64,
    /// Bytes of the log not yet in table files.
    pub log_memory_bytes: u64,
    /// Bytes of all state's table files.
    pub state_file_bytes: u64,
    /// Bytes of all state not yet flushed.
    pub state_memory_bytes: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
}

#[derive(Default)]
pub struct Counters {
    pub syncs: AtomicU64,
    pub sync_micros: AtomicU64,
    pub sync_micros_max: AtomicU64,
    pub appended_entries: AtomicU64,
    pub appended_bytes: AtomicU64,
    pub votes: AtomicU64,
    pub log_disk_reads: AtomicU64,
    pub state_writes: AtomicU64,
    pub state_written_bytes: AtomicU64,
    pub flushes: AtomicU64,
    pub checkpoints: AtomicU64,
    pub installs: AtomicU64,
}

/// Adds to a counter; they order nothing.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    pub fn snapshot(&self) -> StoreStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            syncs: get(&self.syncs),
            sync_micros: get(&self.sync_micros),
            sync_micros_max: get(&self.sync_micros_max),
            appended_entries: get(&self.appended_entries),
            appended_bytes: get(&self.appended_bytes),
            votes: get(&self.votes),
            log_disk_reads: get(&self.log_disk_reads),
            state_writes: get(&self.state_writes),
            state_written_bytes: get(&self.state_written_bytes),
            flushes: get(&self.flushes),
            checkpoints: get(&self.checkpoints),
            installs: get(&self.installs),
            ..StoreStats::default()
        }
    }
}
