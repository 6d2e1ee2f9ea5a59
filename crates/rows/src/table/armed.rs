//! Tables 0x2b (armed flows), 0x2c (plan versions), 0x23 (node state), 0x24 (requests), 0x2d (quarantine).

use bytes::Bytes;
use tidemill_types::{ExecutionId, FlowId, PartitionId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{Hash, stored},
};

stored! {
    /// A flow that may be started in this partition.
    pub struct ArmedFlowRow {
        /// The version that new executions run.
        version: u32 = 1,
        /// The catalog's number of the start; a stop or start of an earlier one is stale.
        activation: u64 = 2,
        /// Since when.
        armed_at: Timestamp = 3,
        /// False once it was disarmed: the row stays, so that a late arm of an earlier activation is refused.
        armed: bool = 4,
        /// Name of the flow, for people.
        name: String = 5,
        /// Set once the flow was deleted: its rows go when no execution needs them any more, and this row
        /// last, so that a late arm is refused until then.
        deleted_at: Option<Timestamp> = 6,
        /// When the next slice of its rows goes; none while executions need them.
        forget_at: Option<Timestamp> = 7,
    }
}

stored! {
    /// A published version, as this partition's executions run it.
    pub struct PlanVersionRow {
        /// Canonical JSON.
        document: Bytes = 1,
        /// Its SHA-256.
        content_hash: Hash = 2,
    }
}

stored! {
    /// The state of a node that survives executions.
    pub struct NodeStateRow {
        /// JSON.
        state: Bytes = 1,
        /// When it was last set.
        updated_at: Timestamp = 2,
        /// The execution that set it.
        by: ExecutionId = 3,
    }
}

stored! {
    /// What a request id led to.
    pub struct RequestRow {
        /// SHA-256 of the request's meaning: the same id with another meaning is refused.
        fingerprint: Hash = 1,
        /// The execution.
        execution: ExecutionId = 2,
        /// Number in the answer: steps redriven, 1 for a change, 0 for none.
        number: u32 = 3,
    }
}

stored! {
    /// A command that is refused because the partition's logic panics on it.
    pub struct QuarantineRow {
        /// When it was quarantined.
        at: Timestamp = 1,
        /// Name of the command.
        command: String = 2,
        /// The panic's message.
        reason: String = 3,
    }
}

/// The key of an armed flow.
#[must_use]
pub fn armed_flow_key(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::ArmedFlow);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The key of a plan version.
#[must_use]
pub fn plan_version_key(flow: FlowId, version: u32) -> Key {
    let mut key = key::start(flow.partition(), Table::PlanVersion);
    key.put_slice(&flow.0);
    key.put_u32(version);
    key.freeze()
}

/// First bytes of the keys of a flow's versions.
#[must_use]
pub fn plan_versions_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::PlanVersion);
    key.put_slice(&flow.0);
    key.freeze()
}

/// First bytes of the keys of the states of a flow's nodes.
#[must_use]
pub fn node_states_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::NodeState);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The key of a node's state.
#[must_use]
pub fn node_state_key(flow: FlowId, node: &str) -> Key {
    let mut key = key::start(flow.partition(), Table::NodeState);
    key.put_slice(&flow.0);
    key.put_slice(node.as_bytes());
    key.freeze()
}

/// The key of a request id that started an execution.
#[must_use]
pub fn start_request_key(partition: PartitionId, request_id: &str) -> Key {
    let mut key = key::start(partition, Table::Request);
    key.put_u8(0);
    key.put_slice(request_id.as_bytes());
    key.freeze()
}

/// The key of a request id that changed an execution; it goes when the execution goes.
#[must_use]
pub fn execution_request_key(execution: ExecutionId, request_id: &str) -> Key {
    let mut key = key::start(execution.partition(), Table::Request);
    key.put_u8(1);
    key.put_slice(&execution.0);
    key.put_slice(request_id.as_bytes());
    key.freeze()
}

/// First bytes of the keys of all request ids that changed an execution.
#[must_use]
pub fn execution_requests_prefix(execution: ExecutionId) -> Key {
    execution_request_key(execution, "")
}

/// The key of a quarantined command.
#[must_use]
pub fn quarantine_key(partition: PartitionId, digest: Hash) -> Key {
    let mut key = key::start(partition, Table::Quarantine);
    key.put_slice(&digest.0);
    key.freeze()
}
