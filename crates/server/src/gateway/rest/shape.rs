//! Flows and executions as the Open Integration Hub's clients see them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tidemill_proto::v1;
use tidemill_types::{ExecutionId, FlowId};

use super::ids;

/// Keys that a server adds to a document, and that a change of it cannot mean.
pub(super) const SERVER_KEYS: [&str; 9] = [
    "id",
    "_id",
    "__v",
    "tenant",
    "owners",
    "status",
    "createdAt",
    "updatedAt",
    "fromTemplate",
];

pub(super) fn flow_id(text: &str) -> String {
    text.parse::<FlowId>()
        .map_or_else(|_| text.to_owned(), |id| ids::short(&id.0))
}

/// A flow: its document, and what OIH's server adds. Nothing else is in it, so that what was got can be posted
/// and patched again.
pub(super) fn flow(flow: &v1::Flow) -> Value {
    let document = serde_json::from_str(&flow.document).unwrap_or_default();
    let Value::Object(mut shown) = document else {
        return Value::Null;
    };
    if let Some(Value::Object(graph)) = shown.get_mut("graph") {
        graph.entry("edges").or_insert_with(|| json!([]));
    }
    shown.insert("id".into(), flow_id(&flow.id).into());
    shown.insert("status".into(), status(flow.status()).into());
    shown.insert("owners".into(), json!([]));
    shown.insert("createdAt".into(), time(flow.created_at.as_ref()));
    shown.insert("updatedAt".into(), time(flow.updated_at.as_ref()));
    Value::Object(shown)
}

/// What is ours of a flow, beside it.
pub(super) fn flow_meta(flow: &v1::Flow) -> Value {
    let mut meta = json!({
        "flowId": flow.id,
        "latestVersion": flow.latest_version,
        "activeVersion": flow.active_version,
        "draftRevision": flow.draft_revision,
    });
    if !flow.status_reason.is_empty() {
        meta["statusReason"] = flow.status_reason.as_str().into();
    }
    meta
}

pub(super) const fn status(status: v1::FlowStatus) -> &'static str {
    match status {
        v1::FlowStatus::Inactive | v1::FlowStatus::Unspecified => "inactive",
        v1::FlowStatus::Starting => "starting",
        v1::FlowStatus::Active => "active",
        v1::FlowStatus::Stopping => "stopping",
    }
}

/// How steps at one node went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StepCounter {
    pub taken: u32,
    pub given: u32,
    pub errors: u32,
}

/// An execution. `flowExecId` is its whole id, as OIH's was of its own kind.
pub(super) fn execution(
    execution: &v1::Execution,
    counters: Option<&BTreeMap<String, StepCounter>>,
) -> Value {
    let id = execution.id.parse::<ExecutionId>();
    let (short, long) = id.map_or_else(
        |_| (execution.id.clone(), execution.id.clone()),
        |id| (ids::short(&id.0), ids::long(&id.0)),
    );
    let done = execution
        .steps
        .saturating_sub(execution.steps_live)
        .saturating_sub(execution.steps_dead);
    let mut shown = json!({
        "id": short,
        "flowExecId": long,
        "executionId": execution.id,
        "flowId": flow_id(&execution.flow_id),
        "flowVersion": execution.flow_version,
        "status": state(execution.state()),
        "started": execution.steps,
        "succeeded": done,
        "errors": execution.steps_dead,
        "startedAt": time(execution.started_at.as_ref()),
        "endedAt": time(execution.ended_at.as_ref()),
        "requestId": execution.request_id,
    });
    if !execution.reason.is_empty() {
        shown["reason"] = execution.reason.as_str().into();
    }
    if let Some(counters) = counters {
        let counters: Map<String, Value> = counters
            .iter()
            .map(|(node, counter)| {
                let StepCounter {
                    taken,
                    given,
                    errors,
                } = counter;
                let counter = json!({ "in": taken, "out": given, "errors": errors });
                (node.clone(), counter)
            })
            .collect();
        shown["stepCounters"] = Value::Object(counters);
    }
    shown
}

const fn state(state: v1::ExecutionState) -> &'static str {
    match state {
        v1::ExecutionState::Running | v1::ExecutionState::Unspecified => "running",
        v1::ExecutionState::Succeeded => "succeeded",
        v1::ExecutionState::Failed => "failed",
        v1::ExecutionState::Cancelled => "cancelled",
        v1::ExecutionState::TimedOut => "timed_out",
    }
}

/// RFC 3339 with milliseconds, as JavaScript writes it.
fn time(time: Option<&prost_types::Timestamp>) -> Value {
    let Some(time) = time else {
        return Value::Null;
    };
    let whole = prost_types::Timestamp {
        seconds: time.seconds,
        nanos: 0,
    };
    let text = whole.to_string();
    let millis = time.nanos / 1_000_000;
    match text.strip_suffix('Z') {
        Some(seconds) => format!("{seconds}.{millis:03}Z").into(),
        None => text.into(),
    }
}
