//! Room on the disk, asked for now and then: a system call per proposal would be too many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tidemill_store::NodeStore;

/// How often the disk is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// How full the disk is.
#[derive(Default)]
pub(crate) struct SpaceWatch {
    low: AtomicBool,
    critical: AtomicBool,
}

impl SpaceWatch {
    /// So full that this node should lead nothing: a leader with a low disk refuses new work.
    pub fn is_low(&self) -> bool {
        self.low.load(Relaxed)
    }

    /// So full that entries are refused too.
    pub fn is_critical(&self) -> bool {
        self.critical.load(Relaxed)
    }

    /// Runs until it is dropped.
    pub async fn run(self: Arc<Self>, store: Arc<NodeStore>) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            match store.space() {
                Ok(space) => {
                    self.low.store(space.low, Relaxed);
                    if self.critical.swap(space.critical, Relaxed) != space.critical {
                        tracing::warn!(free = space.free, critical = space.critical, "disk space");
                    }
                }
                Err(error) => tracing::warn!(%error, "disk space is not known"),
            }
        }
    }
}
