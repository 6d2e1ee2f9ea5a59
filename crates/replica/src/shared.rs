//! What the parts of one group on this node tell each other.

use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::raft::{SnapshotMeta, Vote};

/// The leader that was last heard, on the wire, since this node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub term: u64,
    pub node: u64,
    pub at: Instant,
}

/// What the parts of one group tell each other. Holds no lock while anything waits.
pub(crate) struct Shared {
    fault: OnceLock<String>,
    applied: watch::Sender<u64>,
    /// The last index that openraft has given to the log since this node started.
    appended: AtomicU64,
    /// Wakes replication sessions, in the order in which they came: the whole-node simulation relies on it, and
    /// `watch` has none.
    progress: Notify,
    durable: Mutex<Option<SnapshotMeta>>,
    heard: Mutex<Option<Heard>>,
    settled: AtomicBool,
    /// One after the last index that a session wanted to read and that was purged.
    purged_reads: AtomicU64,
    /// Wakes the keeper: another leader was heard, or a snapshot is due.
    pub wake: Notify,
    snapshot_bytes: u64,
    bytes_since_snapshot: AtomicU64,
    pub proposed: AtomicU64,
    pub committed: AtomicU64,
    pub fenced: AtomicU64,
    pub snapshots_sent: AtomicU64,
    pub snapshots_installed: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard is whole even if a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A snapshot is due after `snapshot_bytes` of batches.
    pub fn new(snapshot_bytes: u64) -> Self {
        Self {
            fault: OnceLock::new(),
            applied: watch::Sender::new(0),
            appended: AtomicU64::new(0),
            progress: Notify::new(),
            durable: Mutex::new(None),
            heard: Mutex::new(None),
            settled: AtomicBool::new(true),
            purged_reads: AtomicU64::new(0),
            wake: Notify::new(),
            snapshot_bytes,
            bytes_since_snapshot: AtomicU64::new(0),
            proposed: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            snapshots_sent: AtomicU64::new(0),
            snapshots_installed: AtomicU64::new(0),
        }
    }

    /// Only the first reason counts.
    pub fn set_fault(&self, why: String) {
        if let Err(why) = self.fault.set(why) {
            tracing::debug!(why, "group had stopped already");
        } else {
            tracing::error!(why = self.fault.get(), "group stopped");
            self.wake.notify_one();
        }
    }

    pub fn fault(&self) -> Option<&String> {
        self.fault.get()
    }

    pub fn set_applied(&self, index: u64) {
        self.applied.send_if_modified(|applied| {
            let modified = *applied != index;
            *applied = index;
            modified
        });
    }

    pub fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub fn set_appended(&self, index: u64) {
        self.appended.store(index, Relaxed);
        self.wake_sessions();
    }

    /// Whether openraft has given the log more than up to `index`.
    pub fn has_appended_beyond(&self, index: u64) -> bool {
        self.appended.load(Relaxed) > index
    }

    /// Something that replication sessions wait for has happened.
    pub fn wake_sessions(&self) {
        self.progress.notify_waiters();
    }

    /// Waits for what [`Self::wake_sessions`] tells of.
    pub async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            // Made first, so that it hears of what happens between the look and the wait.
            let progress = self.progress.notified();
            if is_so() {
                return;
            }
            progress.await;
        }
    }

    pub fn count_applied(&self, bytes: u64, fenced: u64, committed: u64) {
        self.fenced.fetch_add(fenced, Relaxed);
        self.committed.fetch_add(committed, Relaxed);
        let since = self.bytes_since_snapshot.fetch_add(bytes, Relaxed) + bytes;
        if since >= self.snapshot_bytes {
            self.wake.notify_one();
        }
    }

    /// True once for every time that enough bytes were applied.
    pub fn take_snapshot_due(&self) -> bool {
        // Only the keeper takes, so nothing is lost between the two.
        self.bytes_since_snapshot.load(Relaxed) >= self.snapshot_bytes
            && self.bytes_since_snapshot.swap(0, Relaxed) >= self.snapshot_bytes
    }

    pub fn count_installed(&self) {
        self.snapshots_installed.fetch_add(1, Relaxed);
    }

    pub fn set_durable(&self, meta: SnapshotMeta) {
        let mut durable = lock(&self.durable);
        if durable
            .as_ref()
            .is_none_or(|d| d.last_log_id <= meta.last_log_id)
        {
            *durable = Some(meta);
        }
    }

    pub fn durable(&self) -> Option<SnapshotMeta> {
        lock(&self.durable).clone()
    }

    /// Whether this node may vote. A node forgets at a restart how long it has promised a leader to give
    /// its vote to nobody else, so it gives it to nobody until that promise must have ended: the leader
    /// may still serve reads by its lease.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Relaxed)
    }

    pub fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Relaxed);
    }

    /// A session wanted to read from this index on, and it was purged.
    pub fn note_purged_read(&self, index: u64) {
        self.purged_reads
            .fetch_max(index.saturating_add(1), Relaxed);
    }

    /// True when a session that goes on from this index can never read it: the log is purged beyond.
    pub fn is_overtaken(&self, index: u64) -> bool {
        index < self.purged_reads.load(Relaxed)
    }

    /// A message of this leader has arrived.
    pub fn hear(&self, vote: &Vote) {
        if !vote.committed {
            return;
        }
        let (term, node) = (vote.leader_id.term, vote.leader_id.voted_for);
        let mut heard = lock(&self.heard);
        let changed = heard.is_none_or(|h| (h.term, h.node) != (term, node));
        if heard.is_some_and(|h| h.term > term) {
            return;
        }
        *heard = Some(Heard {
            term,
            node,
            at: Instant::now(),
        });
        drop(heard);
        if changed {
            self.wake.notify_one();
        }
    }

    pub fn heard(&self) -> Option<Heard> {
        *lock(&self.heard)
    }
}
