//! Why a well-formed command is refused: facts of the state. Part of the reply, never a failure.

use thiserror::Error;
use tidemill_rows::table::{ExecutionState, FlowStatus};
use tidemill_types::{ErrorClass, ExecutionId, FlowId};

use crate::flow::Problem;

/// A refusal; nothing was changed. Each has a stable code with a page in `docs/errors/`.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Rejection {
    /// A field of the request is wrong.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name, or a JSON pointer.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A flow document has errors.
    #[error("the flow document has {} problem(s)", .0.len())]
    InvalidDocument(Vec<Problem>),
    /// There is no such flow.
    #[error("there is no flow {0:?}; `tidemill flow list` shows those that exist")]
    FlowNotFound(String),
    /// The flow is not active.
    #[error("flow {0} is not active; start it with `tidemill flow start`")]
    FlowNotActive(FlowId),
    /// The request id was used for something else.
    #[error("request id {0:?} was used before with another meaning; use a new one")]
    RequestIdReused(String),
    /// There is no such execution (any more).
    #[error("there is no execution {0}; finished ones are removed when their retention ends")]
    ExecutionNotFound(ExecutionId),
    /// Only failed executions can be redriven.
    #[error("execution {execution} is {state}, only a failed one can be redriven")]
    NotRedrivable {
        /// The execution.
        execution: ExecutionId,
        /// Its state.
        state: ExecutionState,
    },
    /// A step that was to be redriven is not dead.
    #[error("step {step} of execution {execution} is not dead")]
    StepNotDead {
        /// The execution.
        execution: ExecutionId,
        /// The step.
        step: u32,
    },
    /// Nobody serves components that the flow needs.
    #[error("no worker serves {}; start one, or start the flow with `--without-workers`", .0.join(", "))]
    NotServed(Vec<String>),
    /// The flow uses a built-in component that this version does not run.
    #[error("built-in component {0:?} is not available in this version")]
    BuiltinNotServed(String),
    /// A newer start or stop of the flow is under way.
    #[error("activation {got} of flow {flow} is stale, the newest is {current}")]
    StaleActivation {
        /// The flow.
        flow: FlowId,
        /// The activation in the command.
        got: u64,
        /// The newest known.
        current: u64,
    },
    /// The command made the partition's logic panic before.
    #[error("this command is quarantined because it made the partition fail: {0}")]
    Quarantined(String),
    /// Another flow has this name.
    #[error("the name {name:?} belongs to flow {owner}")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        owner: FlowId,
    },
    /// The draft was edited since.
    #[error("the draft has revision {current}, not {expected}: read it again, then apply")]
    RevisionMismatch {
        /// In the request.
        expected: u64,
        /// In the catalog.
        current: u64,
    },
    /// No version was published.
    #[error("flow {0} has no published version; publish it with `tidemill flow publish`")]
    NothingPublished(FlowId),
    /// There is no such version.
    #[error("flow {flow} has no version {version}")]
    VersionNotFound {
        /// The flow.
        flow: FlowId,
        /// The version asked for.
        version: u32,
    },
    /// The flow's status stands against it.
    #[error("flow {flow} is {status}: {needed}")]
    WrongStatus {
        /// The flow.
        flow: FlowId,
        /// Its status.
        status: FlowStatus,
        /// What status it must have.
        needed: &'static str,
    },
    /// So much of a schedule is due that it has to be decided in turns first.
    #[error("the schedule of flow {0} has much to catch up; retry in a moment")]
    ScheduleBehind(FlowId),
    /// Too much of what was started waits to be run.
    #[error(
        "{waiting} steps of {scope} wait to be run and {limit} allows {most}: run more workers, start slower, or raise it"
    )]
    BacklogFull {
        /// Whose steps.
        scope: &'static str,
        /// How many wait.
        waiting: u64,
        /// The option that sets the limit.
        limit: &'static str,
        /// The limit, or this flow's share of it.
        most: u64,
    },
    /// The catalog is full.
    #[error("{what} has reached its limit of {limit}")]
    LimitReached {
        /// What is full.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl Rejection {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "TM0001",
            Self::InvalidDocument(_) => "TM0002",
            Self::FlowNotFound(_) => "TM0101",
            Self::FlowNotActive(_) => "TM0102",
            Self::RequestIdReused(_) => "TM0103",
            Self::ExecutionNotFound(_) => "TM0104",
            Self::NotRedrivable { .. } => "TM0105",
            Self::StepNotDead { .. } => "TM0106",
            Self::NotServed(_) => "TM0107",
            Self::BuiltinNotServed(_) => "TM0108",
            Self::StaleActivation { .. } => "TM0109",
            Self::Quarantined(_) => "TM0110",
            Self::NameTaken { .. } => "TM0111",
            Self::RevisionMismatch { .. } => "TM0112",
            Self::NothingPublished(_) => "TM0113",
            Self::VersionNotFound { .. } => "TM0114",
            Self::WrongStatus { .. } => "TM0115",
            Self::LimitReached { .. } => "TM0116",
            Self::ScheduleBehind(_) => "TM0130",
            Self::BacklogFull { .. } => "TM0205",
        }
    }

    /// What the caller should do.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid { .. } | Self::InvalidDocument(_) => ErrorClass::Invalid,
            Self::FlowNotFound(_) | Self::ExecutionNotFound(_) | Self::VersionNotFound { .. } => {
                ErrorClass::NotFound
            }
            Self::ScheduleBehind(_) => ErrorClass::Unavailable,
            Self::BacklogFull { .. } => ErrorClass::Overloaded,
            Self::FlowNotActive(_)
            | Self::RequestIdReused(_)
            | Self::NotRedrivable { .. }
            | Self::StepNotDead { .. }
            | Self::NotServed(_)
            | Self::BuiltinNotServed(_)
            | Self::StaleActivation { .. }
            | Self::Quarantined(_)
            | Self::NameTaken { .. }
            | Self::RevisionMismatch { .. }
            | Self::NothingPublished(_)
            | Self::WrongStatus { .. }
            | Self::LimitReached { .. } => ErrorClass::Rejected,
        }
    }

    /// A wrong field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}
