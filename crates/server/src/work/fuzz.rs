//! The checks of requests that need no state, for the fuzzer (`tests/fuzz`), which sees public items only.
//!
//! Not an API: it may change at any time. It calls what the gateways call, and decides nothing.

use tidemill_proto::{peer::v1::Session, v1};
use tidemill_types::{ExecutionId, TaskId, limits::MESSAGE_BYTES_DEFAULT};

use super::{
    stream::{check_hello, check_request},
    translate,
};
use crate::gateway::Checks;

/// What `StartExecution` checks before it looks for the flow. True when nothing is wrong.
#[must_use]
pub fn start_execution(request: v1::StartExecutionRequest) -> bool {
    let flow = Checks::flow("flow", &request.flow);
    let _ = request.trace.map(Checks::trace);
    let message = request.message.unwrap_or_default();
    let message = Checks::message("message", message, MESSAGE_BYTES_DEFAULT);
    let request_id = Checks::request_id(request.request_id);
    flow.is_ok() && message.is_ok() && request_id.is_ok()
}

/// What `CancelExecution` checks, and in part every call that names an execution.
#[must_use]
pub fn cancel_execution(request: v1::CancelExecutionRequest) -> bool {
    let execution = request.execution_id.parse::<ExecutionId>();
    execution.is_ok() && Checks::reason(&request.reason).is_ok()
}

/// What is checked of a message of a worker's stream, and what its completions mean.
#[must_use]
pub fn work(request: v1::WorkRequest) -> bool {
    let fits = check_request(&request).is_ok();
    let hello = request
        .hello
        .is_none_or(|hello| check_hello(&hello).is_ok());
    let mut tasks = true;
    for completion in request.completions {
        tasks &= completion.task_id.parse::<TaskId>().is_ok();
        let _ = translate::outcome(completion.outcome, MESSAGE_BYTES_DEFAULT);
    }
    fits && hello && tasks
}

/// What a leader makes of a session that another node's gateway tells it.
pub fn session(session: Session) {
    let _ = translate::session(1, session);
}
