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
const INTERVAL: Duration = Duration::from_millis(500);

/// Whether the disk is so full that entries are refused too.
#[derive(Default)]
pub(crate) struct SpaceWatch(AtomicBool);

impl SpaceWatch {
    pub fn is_critical(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Runs until it is dropped.
    pub async fn run(self: Arc<Self>, store: Arc<NodeStore>) {
        let mut tick = tokio::time::interval(INTERVAL);
        loop {
            tick.tick().await;
            match store.space() {
                Ok(space) => {
                    if self.0.swap(space.critical, Relaxed) != space.critical {
                        tracing::warn!(free = space.free, critical = space.critical, "disk space");
                    }
                }
                Err(error) => tracing::warn!(%error, "disk space is not known"),
            }
        }
    }
}
