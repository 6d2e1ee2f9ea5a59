//! Between the messages of workers and the core's commands and effects.

use std::sync::Arc;

use tidemill_core::command::{
    CompletionStatus, Outcome, OutputMessage, SessionKey, SessionUpdate, Targets, TaskGrant,
};
use tidemill_proto::{
    convert,
    peer::v1::Session,
    v1::{self, completion},
};
use tidemill_rows::table::ErrorRow;
use tidemill_types::{TaskId, limits::NODE_STATE_BYTES_MAX};

use crate::gateway::{CheckResult, Checks};

/// Code of a step's error when its completion was refused for what is in it.
pub(super) const INVALID_COMPLETION: &str = "INVALID_COMPLETION";

/// A task, to the wire.
pub(super) fn task(grant: TaskGrant) -> v1::Task {
    let has_trace = !grant.traceparent.is_empty();
    let joins = grant.inputs.len() > 1;
    let mut input = Vec::with_capacity(grant.inputs.len());
    let mut input_nodes = Vec::with_capacity(grant.inputs.len());
    for (message, node) in grant.inputs {
        input.push(convert::message(message));
        input_nodes.push(node.to_string());
    }
    if !joins && input_nodes.iter().all(String::is_empty) {
        input_nodes.clear();
    }
    v1::Task {
        id: grant.task.to_string(),
        component: grant.component.to_string(),
        function: grant.function.to_string(),
        flow_id: grant.flow.to_string(),
        flow_version: grant.version,
        node: grant.node.to_string(),
        input,
        input_nodes,
        fields: grant.fields,
        node_settings: grant.node_settings,
        node_state: grant.node_state,
        attempt: grant.task.attempt,
        idempotency_key: grant.task.step.to_string(),
        lease_deadline: Some(convert::timestamp(grant.lease_deadline)),
        lease_ms: grant.lease_ms,
        trace: has_trace.then_some(v1::TraceContext {
            traceparent: grant.traceparent,
            tracestate: grant.tracestate,
        }),
        targets: grant.targets.iter().map(ToString::to_string).collect(),
        rebounds: grant.rebounds,
    }
}

/// A completion's answer, to the wire.
pub(super) fn result(task: TaskId, status: CompletionStatus) -> v1::CompletionResult {
    use v1::CompletionStatus as Wire;
    let (status, message) = match status {
        CompletionStatus::Accepted => (Wire::Accepted, String::new()),
        CompletionStatus::Already => (Wire::Already, String::new()),
        CompletionStatus::LeaseLost => (Wire::LeaseLost, String::new()),
        CompletionStatus::Invalid(reason) => (Wire::Invalid, reason),
    };
    v1::CompletionResult {
        task_id: task.to_string(),
        status: status.into(),
        message,
    }
}

/// A session, as a gateway says it to a leader.
pub(super) fn session(gateway: u64, session: Session) -> SessionUpdate {
    SessionUpdate {
        key: SessionKey {
            gateway,
            session: session.id,
        },
        worker: session.worker.into(),
        serves: session
            .serves
            .into_iter()
            .map(|served| (Arc::from(served.component), Arc::from(served.function)))
            .collect(),
        lease_ms: session.lease_ms,
        limit: session.limit,
        gone: session.gone,
        instance: session.instance,
        number: session.number,
        // What cannot be read is no task of ours.
        holds: session
            .holds
            .iter()
            .filter_map(|task| task.parse().ok())
            .collect(),
    }
}

/// What became of an attempt. What is not allowed makes the step fail, with the reason.
pub(super) fn outcome(
    outcome: Option<completion::Outcome>,
    message_bytes_max: usize,
) -> Result<Outcome, String> {
    match outcome {
        None => Err("outcome: must be one of success, error and rebound".into()),
        Some(completion::Outcome::Error(error)) => {
            Ok(Outcome::Failure(convert::step_error_row(error)))
        }
        Some(completion::Outcome::Rebound(rebound)) => Ok(Outcome::Rebound {
            after_ms: rebound.after_ms,
        }),
        Some(completion::Outcome::Success(success)) => {
            success_of(success, message_bytes_max).map_err(|error| error.to_string())
        }
    }
}

fn success_of(success: v1::Success, message_bytes_max: usize) -> CheckResult<Outcome> {
    let mut messages = Vec::with_capacity(success.messages.len());
    for (at, output) in success.messages.into_iter().enumerate() {
        let field = format!("messages[{at}]");
        let message = output.message.unwrap_or_default();
        messages.push(OutputMessage {
            message: Checks::message(&field, message, message_bytes_max)?,
            targets: if output.no_target {
                Targets::None
            } else if output.targets.is_empty() {
                Targets::All
            } else {
                Targets::Named(output.targets)
            },
        });
    }
    // The size is checked first, and by the core: a huge text is not parsed for nothing.
    if let Some(state) = &success.node_state
        && state.len() <= NODE_STATE_BYTES_MAX
    {
        Checks::json("node_state", state)?;
    }
    Ok(Outcome::Success {
        messages,
        node_state: success.node_state,
    })
}

/// The failure that a refused completion makes of its step.
pub(super) fn refused(reason: &str) -> Outcome {
    Outcome::Failure(ErrorRow {
        code: INVALID_COMPLETION.into(),
        message: reason.into(),
        fatal: true,
        ..ErrorRow::default()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn success(data: &'static str, targets: &[&str], no_target: bool) -> completion::Outcome {
        completion::Outcome::Success(v1::Success {
            messages: vec![v1::OutputMessage {
                message: Some(v1::Message {
                    data: Bytes::from_static(data.as_bytes()),
                    ..v1::Message::default()
                }),
                targets: targets.iter().map(ToString::to_string).collect(),
                no_target,
            }],
            node_state: None,
        })
    }

    #[test]
    fn targets_of_a_message() {
        let targets = |wire| match outcome(Some(wire), 100) {
            Ok(Outcome::Success { mut messages, .. }) => messages.remove(0).targets,
            other => panic!("{other:?}"),
        };
        assert_eq!(targets(success("1", &[], false)), Targets::All);
        assert_eq!(targets(success("1", &[], true)), Targets::None);
        assert_eq!(targets(success("1", &["a"], true)), Targets::None);
        let named = Targets::Named(vec!["a".into()]);
        assert_eq!(targets(success("1", &["a"], false)), named);
    }

    #[test]
    fn what_is_not_allowed_has_a_reason() {
        let reason = |wire, max| outcome(wire, max).expect_err("is refused");
        assert!(reason(None, 1).starts_with("outcome: "));
        assert!(reason(Some(success("{", &[], false)), 9).starts_with("messages[0].data: "));
        assert!(reason(Some(success("12345", &[], false)), 4).contains("at most 4"));
        let state = completion::Outcome::Success(v1::Success {
            messages: vec![],
            node_state: Some(Bytes::from_static(b"no")),
        });
        assert!(reason(Some(state), 1).starts_with("node_state: "));
    }
}
