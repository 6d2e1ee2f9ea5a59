//! Tables 0x27 (queue), 0x28 (lease) and 0x29 (join): where a live step is.
//!
//! Queue and lease rows carry what a new leader needs to hand tasks out again without reading the
//! executions themselves.

use std::sync::Arc;

use tidemill_types::{ExecutionId, FlowId, StepId, Timestamp};

use super::step::{numbered, of_execution};
use crate::{
    key::{self, Key, Table},
    wire::stored,
};

stored! {
    /// A step that waits for a worker.
    pub struct QueueRow {
        /// The component whose worker is to run it.
        component: Arc<str> = 1,
        /// The function.
        function: Arc<str> = 2,
        /// The flow: the queue is fair between flows.
        flow: FlowId = 3,
        /// Index of the node in the plan.
        node: u32 = 4,
        /// Most steps of the node at once in one execution; 0 means no limit.
        concurrency: u32 = 5,
    }
}

stored! {
    /// A step that a worker holds.
    pub struct LeaseRow {
        /// Its place in the queue, should the lease be lost.
        queue: Option<QueueRow> = 1,
        /// The fencing token.
        attempt: u32 = 2,
        /// The worker's name.
        worker: String = 3,
        /// How long the lease runs from its grant or renewal.
        lease_ms: u32 = 4,
        /// When this attempt runs into the node's time-out, whatever is renewed.
        timeout_at: Option<Timestamp> = 5,
        /// The worker instance that holds it: the same over all its sessions; 0 of one that did not say.
        instance: u64 = 6,
        /// The number of the instance's session that it was given to.
        session: u64 = 7,
    }
}

/// The key of a queued step.
#[must_use]
pub fn queue_key(step: StepId) -> Key {
    numbered(step.execution, Table::Queue, step.step)
}

/// The key of a leased step.
#[must_use]
pub fn lease_key(step: StepId) -> Key {
    numbered(step.execution, Table::Lease, step.step)
}

/// The key of the `arrival`-th message at a `join: all` node. Value: an `InputRow`.
#[must_use]
pub fn join_key(execution: ExecutionId, node: u32, arrival: u32) -> Key {
    let mut key = key::start(execution.partition(), Table::Join);
    key.put_slice(&execution.0);
    key.put_u32(node);
    key.put_u32(arrival);
    key.freeze()
}

/// First bytes of the keys of all arrivals in an execution.
#[must_use]
pub fn joins_prefix(execution: ExecutionId) -> Key {
    of_execution(execution, Table::Join)
}

/// The node and the arrival's number in a key of the join table.
#[must_use]
pub fn join_of_key(key: &[u8]) -> Option<(u32, u32)> {
    let rest = key.get(key::PREFIX_LEN + 16..)?;
    let node = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    let arrival = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?);
    Some((node, arrival))
}
