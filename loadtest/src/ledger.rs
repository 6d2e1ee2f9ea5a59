//! What clients were told: the side of the account that is not the servers' own.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tidemill_types::ExecutionId;

/// Every request of a run by its outcome, shared by all its clients.
#[derive(Debug)]
pub struct Ledger {
    prefix: String,
    next: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    acknowledged: Vec<ExecutionId>,
    unknown: Vec<String>,
}

impl Ledger {
    /// An empty one; all request ids begin with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            next: AtomicU64::new(0),
            lines: Mutex::default(),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request id that was not given before.
    pub fn request_id(&self) -> String {
        format!("{}-{}", self.prefix, self.next.fetch_add(1, Relaxed))
    }

    /// How many request ids were given; the next one ends in this number.
    pub fn given(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// The server said that it has this execution.
    pub fn acknowledge(&self, execution: ExecutionId) {
        self.lines().acknowledged.push(execution);
    }

    /// Nobody knows what became of this request.
    pub fn not_known(&self, request_id: String) {
        self.lines().unknown.push(request_id);
    }

    /// The requests whose outcome is not known; they are the caller's now.
    pub fn take_unknown(&self) -> Vec<String> {
        std::mem::take(&mut self.lines().unknown)
    }

    /// How many executions were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.lines().acknowledged.len() as u64
    }

    /// All acknowledged executions.
    pub fn executions(&self) -> Vec<ExecutionId> {
        self.lines().acknowledged.clone()
    }
}
