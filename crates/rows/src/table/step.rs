//! Table 0x21: steps. Key: execution id, step number (4 bytes, big-endian).

use bytes::Bytes;
use tidemill_types::{ExecutionId, StepId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{stored, stored_enum},
};

stored_enum! {
    /// `pending → running → succeeded | failed | dead | skipped | cancelled`,
    /// `running → retry_wait → pending`, lease lost → `pending`, `dead → pending` by redrive.
    pub enum StepState {
        Pending = 1 "pending",
        Running = 2 "running",
        RetryWait = 3 "retry_wait",
        Succeeded = 4 "succeeded",
        Failed = 5 "failed",
        Dead = 6 "dead",
        Skipped = 7 "skipped",
        Cancelled = 8 "cancelled",
    }
}

impl StepState {
    /// True while something will still happen to it without anybody's asking.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::RetryWait)
    }
}

stored! {
    /// Why an attempt failed.
    pub struct ErrorRow {
        /// Stable name.
        code: String = 1,
        /// For people.
        message: String = 2,
        /// JSON; may be empty.
        details: Bytes = 3,
        /// Not to be tried again.
        fatal: bool = 4,
    }
}

stored! {
    /// A message that a step runs on.
    pub struct InputRow {
        /// Number of the message in the execution.
        message: u32 = 1,
        /// Number of the step that gave it, plus 1; 0 for the message that began the execution.
        from_step: u32 = 2,
        /// Index of the edge that it came along, plus 1; 0 for the message that began the execution.
        edge: u32 = 3,
    }
}

stored! {
    /// One run of one node on one message (on several with `join: all`).
    pub struct StepRow {
        /// Index of the node in the plan.
        node: u32 = 1,
        /// Where it stands.
        state: StepState = 2,
        /// Leases given so far; the fencing token of the last one.
        attempt: u32 = 3,
        /// Attempts that failed since it was made or redriven.
        failures: u32 = 4,
        /// Leases that ran out since it was made or redriven.
        lost: u32 = 5,
        /// How often it asked to be run again later.
        rebounds: u32 = 6,
        /// Worker of the last attempt.
        worker: String = 7,
        /// When it was made.
        created_at: Timestamp = 8,
        /// When the last attempt began.
        started_at: Option<Timestamp> = 9,
        /// When it ended.
        ended_at: Option<Timestamp> = 10,
        /// When its retry or the end of its wait is due: it is in the timer table then.
        due_at: Option<Timestamp> = 11,
        /// The last error.
        error: Option<ErrorRow> = 12,
        /// What it runs on.
        inputs: Vec<InputRow> = 13,
        /// Number of its first output message.
        first_output: u32 = 14,
        /// How many messages it gave; their numbers follow each other.
        outputs: u32 = 15,
        /// The last attempt whose completion took effect; 0 for none.
        completed_attempt: u32 = 16,
    }
}

/// The key of a step.
#[must_use]
pub fn step_key(id: StepId) -> Key {
    numbered(id.execution, Table::Step, id.step)
}

/// First bytes of the keys of an execution's steps.
#[must_use]
pub fn steps_prefix(execution: ExecutionId) -> Key {
    of_execution(execution, Table::Step)
}

/// A key of an execution's own table: execution id and number.
pub(crate) fn numbered(execution: ExecutionId, table: Table, number: u32) -> Key {
    let mut key = key::start(execution.partition(), table);
    key.put_slice(&execution.0);
    key.put_u32(number);
    key.freeze()
}

/// First bytes of the keys of one execution in a table.
pub(crate) fn of_execution(execution: ExecutionId, table: Table) -> Key {
    let mut key = key::start(execution.partition(), table);
    key.put_slice(&execution.0);
    key.freeze()
}

/// The execution and number in a key made of both.
#[must_use]
pub fn step_of_key(key: &[u8]) -> Option<StepId> {
    let execution = key
        .get(key::PREFIX_LEN..key::PREFIX_LEN + 16)?
        .try_into()
        .ok()?;
    let step = key
        .get(key::PREFIX_LEN + 16..key::PREFIX_LEN + 20)?
        .try_into()
        .ok()?;
    Some(StepId {
        execution: ExecutionId(execution),
        step: u32::from_be_bytes(step),
    })
}
