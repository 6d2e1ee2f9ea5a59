//! Executions and steps.

use tidemill_rows::table::{ErrorRow, ExecutionRow, ExecutionState, StepRow, StepState};
use tidemill_types::ExecutionId;

use super::timestamp;
use crate::v1;

/// To the wire.
#[must_use]
pub const fn execution_state(state: ExecutionState) -> v1::ExecutionState {
    match state {
        ExecutionState::Running => v1::ExecutionState::Running,
        ExecutionState::Succeeded => v1::ExecutionState::Succeeded,
        ExecutionState::Failed => v1::ExecutionState::Failed,
        ExecutionState::Cancelled => v1::ExecutionState::Cancelled,
        ExecutionState::TimedOut => v1::ExecutionState::TimedOut,
    }
}

/// From the wire: none for "any". The error is the number that is not a state.
///
/// # Errors
/// The number, when there is no such state.
pub fn execution_state_filter(number: i32) -> Result<Option<ExecutionState>, i32> {
    Ok(
        match v1::ExecutionState::try_from(number).map_err(|_| number)? {
            v1::ExecutionState::Unspecified => None,
            v1::ExecutionState::Running => Some(ExecutionState::Running),
            v1::ExecutionState::Succeeded => Some(ExecutionState::Succeeded),
            v1::ExecutionState::Failed => Some(ExecutionState::Failed),
            v1::ExecutionState::Cancelled => Some(ExecutionState::Cancelled),
            v1::ExecutionState::TimedOut => Some(ExecutionState::TimedOut),
        },
    )
}

/// To the wire.
#[must_use]
pub const fn step_state(state: StepState) -> v1::StepState {
    match state {
        StepState::Pending => v1::StepState::Pending,
        StepState::Running => v1::StepState::Running,
        StepState::RetryWait => v1::StepState::RetryWait,
        StepState::Succeeded => v1::StepState::Succeeded,
        StepState::Failed => v1::StepState::Failed,
        StepState::Dead => v1::StepState::Dead,
        StepState::Skipped => v1::StepState::Skipped,
        StepState::Cancelled => v1::StepState::Cancelled,
    }
}

/// To the wire.
#[must_use]
pub fn step_error(row: ErrorRow) -> v1::StepError {
    v1::StepError {
        code: row.code,
        message: row.message,
        details: row.details,
        fatal: row.fatal,
    }
}

/// From the wire.
#[must_use]
pub fn step_error_row(error: v1::StepError) -> ErrorRow {
    ErrorRow {
        code: error.code,
        message: error.message,
        details: error.details,
        fatal: error.fatal,
    }
}

/// To the wire.
#[must_use]
pub fn execution(id: ExecutionId, row: ExecutionRow) -> v1::Execution {
    let has_trace = !row.traceparent.is_empty();
    v1::Execution {
        id: id.to_string(),
        flow_id: row.flow.to_string(),
        flow_version: row.version,
        state: execution_state(row.state).into(),
        started_at: Some(timestamp(row.started_at)),
        ended_at: row.ended_at.map(timestamp),
        request_id: row.request_id,
        reason: row.reason,
        steps: row.steps,
        steps_live: row.live,
        steps_dead: row.dead,
        revision: row.revision,
        trace: has_trace.then_some(v1::TraceContext {
            traceparent: row.traceparent,
            tracestate: row.tracestate,
        }),
    }
}

/// To the wire, without messages and progress: they are not in the row. `node` is the node's id.
#[must_use]
pub fn step(number: u32, node: &str, row: StepRow) -> v1::Step {
    let mut from_steps: Vec<u32> = row
        .inputs
        .iter()
        .filter_map(|input| input.from_step.checked_sub(1))
        .collect();
    from_steps.dedup();
    v1::Step {
        number,
        node: node.to_owned(),
        state: step_state(row.state).into(),
        attempt: row.attempt,
        worker: row.worker,
        created_at: Some(timestamp(row.created_at)),
        started_at: row.started_at.map(timestamp),
        ended_at: row.ended_at.map(timestamp),
        due_at: row.due_at.map(timestamp),
        error: row.error.map(step_error),
        from_steps,
        input: Vec::new(),
        output: Vec::new(),
        outputs: row.outputs,
        progress: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_filtered_for() {
        for number in 1..=5 {
            let state = ExecutionState::from_number(number).expect("a state");
            let wire = execution_state(state);
            assert_eq!(execution_state_filter(wire.into()), Ok(Some(state)));
            assert!(wire.as_str_name().ends_with(&state.as_str().to_uppercase()));
        }
        assert_eq!(execution_state_filter(0), Ok(None));
        assert_eq!(execution_state_filter(6), Err(6));
    }

    #[test]
    fn step_states_have_the_same_names() {
        for number in 1..=8 {
            let state = StepState::from_number(number).expect("a state");
            let name = step_state(state).as_str_name();
            assert_eq!(
                name,
                format!("STEP_STATE_{}", state.as_str().to_uppercase())
            );
        }
    }

    #[test]
    fn errors_round_trip() {
        let row = ErrorRow {
            code: "A".into(),
            message: "b".into(),
            details: bytes::Bytes::from_static(b"{}"),
            fatal: true,
        };
        assert_eq!(step_error_row(step_error(row.clone())), row);
    }
}
