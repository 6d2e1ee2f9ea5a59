//! The tasks of a replica: owned, and ended with it.

use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Spawns tasks that end when the replica stops, whoever still holds a handle that they serve.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends or the replica stops.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker
            .spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// Runs a task that ends by itself once [`Self::stopped`] is.
    pub fn spawn_stopping<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task).abort_handle()
    }

    /// Ready when the replica stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Tells all tasks to end.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Ready when all tasks have ended.
    pub async fn ended(&self) {
        self.tracker.wait().await;
    }
}
