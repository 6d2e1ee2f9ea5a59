//! Whether RocksDB gets over a full disk.
//!
//! It tries by itself, every 5 s once there is room. But with a flush waiting, its attempt may never begin:
//! `DBImpl::ResumeImpl` waits until no flush is scheduled, and while it waits `MaybeScheduleFlushOrCompaction` schedules the
//! flush that failed again and again (RocksDB 11.8). Only a new start helps then, so the store must notice.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::fs::statvfs;

/// With less room than this RocksDB does not try (`SstFileManagerImpl` wants 32 MiB), and is not to blame.
const ROOM_BYTES: u64 = 64 << 20;
/// How long it may take when there is room: it looks every 5 s, and then flushes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of writes after the disk was full.
pub struct Recovery {
    dir: PathBuf,
    is_failing: AtomicBool,
    /// Since when writes fail for want of space although there is room.
    since: Mutex<Option<Instant>>,
}

impl Recovery {
    /// Of a state on the file system of `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            is_failing: AtomicBool::new(false),
            since: Mutex::new(None),
        }
    }

    /// A write or a flush went well.
    pub fn succeeded(&self) {
        if self.is_failing.load(Relaxed) {
            self.is_failing.store(false, Relaxed);
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// One failed for want of space. True when waiting will not help.
    pub fn failed(&self) -> bool {
        let free = statvfs(&self.dir).map_or(0, |at| at.f_bavail.saturating_mul(at.f_frsize));
        self.failed_with(free, Instant::now())
    }

    fn failed_with(&self, free: u64, now: Instant) -> bool {
        self.is_failing.store(true, Relaxed);
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if free < ROOM_BYTES {
            *since = None;
            return false;
        }
        let since = *since.get_or_insert(now);
        now.saturating_duration_since(since) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_given_up_only_when_there_was_room_all_the_time() {
        let recovery = Recovery::new(PathBuf::new());
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!recovery.failed_with(0, begun));
        assert!(!recovery.failed_with(0, after(3_600)), "the disk is full");
        assert!(!recovery.failed_with(ROOM_BYTES, after(3_601)));
        assert!(!recovery.failed_with(ROOM_BYTES - 1, after(3_611)));
        assert!(
            !recovery.failed_with(ROOM_BYTES, after(3_615)),
            "it was full again"
        );
        assert!(!recovery.failed_with(ROOM_BYTES, after(3_634)));
        assert!(recovery.failed_with(ROOM_BYTES, after(3_635)));
        recovery.succeeded();
        assert!(!recovery.failed_with(ROOM_BYTES, after(3_700)));
    }
}
