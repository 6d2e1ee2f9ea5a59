//! Work: from a partition's leader to the workers that are connected to any node, and back.
//!
//! A worker has one stream to one node (its gateway). A gateway has one stream to each partition's
//! leader, for all its workers (to its own partitions over channels, by the same code). On the leader
//! the actor's effects go to these streams through [`PartitionSink`]. All of it is volatile: after a
//! change of leader the gateway attaches to the new one and says its sessions again.
//!
//! Must never: keep an actor waiting for a slow worker, or make up the outcome of a completion.

mod attach;
mod batch;
mod control;
mod credits;
mod ends;
#[doc(hidden)]
pub mod fuzz;
mod hub;
mod link;
mod poll;
mod progress;
mod session;
mod sink;
mod stream;
mod translate;
mod watchers;

pub use self::sink::PartitionSink;
pub(crate) use self::{
    attach::AttachService,
    control::{ControlService, control_client},
    ends::ExpectedEnd,
    stream::WorkerGateway,
    watchers::{Watch, Watchers},
};
use std::time::Duration;

use crate::{actor::AskError, node::Node};

/// How long streams of work go on once the node has begun to stop: what was completed is answered, and
/// workers have been told to go elsewhere. The leaderships are handed over later.
const LINGER: Duration = Duration::from_secs(4);

/// Waits until the node has begun to stop and streams of work are to end.
async fn linger(node: &Node) {
    node.shutdown.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

/// What a call is answered that would be one too many to wait.
pub(crate) fn too_many_watchers() -> AskError {
    const RETRY_AFTER_MS: u64 = 1_000;
    AskError::Overloaded {
        retry_after_ms: RETRY_AFTER_MS,
    }
}
