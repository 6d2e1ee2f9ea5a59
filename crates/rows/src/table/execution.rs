//! Table 0x20: executions. Key: execution id.

use tidemill_types::{ExecutionId, FlowId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{stored, stored_enum},
};

stored_enum! {
    /// `running → succeeded | failed | cancelled | timed_out`, `failed → running` by redrive.
    pub enum ExecutionState {
        Running = 1 "running",
        Succeeded = 2 "succeeded",
        Failed = 3 "failed",
        Cancelled = 4 "cancelled",
        TimedOut = 5 "timed_out",
    }
}

impl ExecutionState {
    /// True once nothing runs any more.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        !matches!(self, Self::Running)
    }
}

stored! {
    /// How often a node with `loop` has run in an execution.
    pub struct LoopCount {
        /// Index of the node in the plan.
        node: u32 = 1,
        /// Steps of it so far.
        count: u32 = 2,
    }
}

stored! {
    /// How an execution ends that has too many live steps to end in one batch.
    pub struct EndingRow {
        /// Cancelled or timed out.
        state: ExecutionState = 1,
        /// Why.
        reason: String = 2,
        /// Who caused it.
        actor: String = 3,
        /// The request that asked for it.
        request_id: String = 4,
        /// When the next slice is due.
        next_at: Timestamp = 5,
    }
}

stored! {
    /// An execution.
    pub struct ExecutionRow {
        /// The flow.
        flow: FlowId = 1,
        /// The version that it runs, whatever is published later.
        version: u32 = 2,
        /// Where it stands.
        state: ExecutionState = 3,
        /// When it began.
        started_at: Timestamp = 4,
        /// When it ended (last).
        ended_at: Option<Timestamp> = 5,
        /// The request id that it was started with; unique in the partition.
        request_id: String = 6,
        /// Why it failed, was cancelled, …
        reason: String = 7,
        /// Steps made so far: the next step's number.
        steps: u32 = 8,
        /// Steps that are pending, running or waiting.
        live: u32 = 9,
        /// Dead steps.
        dead: u32 = 10,
        /// Changes so far.
        revision: u64 = 11,
        /// W3C trace context of whoever started it.
        traceparent: String = 12,
        /// W3C trace context of whoever started it.
        tracestate: String = 13,
        /// Messages stored so far: the next message's number.
        messages: u32 = 14,
        /// Iterations of nodes with `loop`.
        loops: Vec<LoopCount> = 15,
        /// When it will be timed out.
        deadline: Option<Timestamp> = 16,
        /// When retention will remove it.
        retire_at: Option<Timestamp> = 17,
        /// The occurrence that started it; none when somebody did.
        occurrence_at: Option<Timestamp> = 18,
        /// The message with the answer to the request that started it, once a `respond` has given one.
        reply: Option<u32> = 19,
        /// How it is being ended, while that takes several batches: nothing new begins in it.
        ending: Option<EndingRow> = 20,
    }
}

/// The key of an execution.
#[must_use]
pub fn execution_key(id: ExecutionId) -> Key {
    let mut key = key::start(id.partition(), Table::Execution);
    key.put_slice(&id.0);
    key.freeze()
}

/// The execution in a key of this table.
#[must_use]
pub fn execution_of_key(key: &[u8]) -> Option<ExecutionId> {
    key.get(key::PREFIX_LEN..)?.try_into().ok().map(ExecutionId)
}

/// Table 0x2a: executions of a flow by id, which is by time. Value: the state's number, one byte.
#[must_use]
pub fn execution_by_flow_key(flow: FlowId, id: ExecutionId) -> Key {
    let mut key = key::start(id.partition(), Table::ExecutionByFlow);
    key.put_slice(&flow.0);
    key.put_slice(&id.0);
    key.freeze()
}

/// The execution in a key of table 0x2a.
#[must_use]
pub fn execution_of_by_flow_key(key: &[u8]) -> Option<ExecutionId> {
    key.get(key::PREFIX_LEN + 16..)?
        .try_into()
        .ok()
        .map(ExecutionId)
}

/// First bytes of the keys in table 0x2a of one flow.
#[must_use]
pub fn executions_of_flow_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::ExecutionByFlow);
    key.put_slice(&flow.0);
    key.freeze()
}
