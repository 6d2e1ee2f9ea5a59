//! What a group stands on besides its store and its network: the async runtime, calls that block, and
//! what openraft is told that no setting should change.
//!
//! The whole-node simulation (`crates/simulation`) compiles this crate's other files against a file of
//! its own in the place of this one. Must never hold anything that decides.

use std::io;

use tokio::task::spawn_blocking;

/// The runtime that openraft runs on.
#[allow(deprecated)] // openraft's macros name it like this too
pub(crate) use openraft::impls::TokioRuntime as Runtime;

/// The default loses acknowledged writes: a leader whose own fsync was not done when it crashed leads
/// again in the same term and gives the same log id to another entry.
pub(crate) fn leader_restore() -> bool {
    false
}

/// Runs what waits for the disk, on a thread where that is allowed.
pub(crate) async fn run_blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, io::Error> {
    spawn_blocking(call).await.map_err(io::Error::other)
}
