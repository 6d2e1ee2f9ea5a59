//! The API's messages as JSON and as words: the one place that knows how a state is called and coloured.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost_types::Timestamp;
use serde_json::{Map, Value, json};
use tidemill_sdk::api::{
    Execution, ExecutionState, Flow, FlowStatus, FlowVersion, Message, Step, StepError, StepState,
};

use crate::table::{Cell, Style};

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn micros(at: &Timestamp) -> i64 {
    at.seconds
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(at.nanos) / 1_000)
}

/// RFC 3339, or nothing.
pub fn time(at: Option<&Timestamp>) -> String {
    at.map(|at| tidemill_types::Timestamp(micros(at)).to_string())
        .unwrap_or_default()
}

/// Without the parts that people do not read: `2026-11-21 03:14:07`.
pub fn short_time(at: Option<&Timestamp>) -> String {
    let mut text = time(at).replace('T', " ");
    text.truncate("2026-11-21 03:14:07".len());
    text
}

/// How long something took, such as `0.012s`; nothing when it has no end.
pub fn took(from: Option<&Timestamp>, to: Option<&Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else {
        return String::new();
    };
    let micros = micros(to).saturating_sub(micros(from)).max(0);
    let (seconds, millis) = (micros / 1_000_000, micros / 1_000 % 1_000);
    match seconds {
        0..60 => format!("{seconds}.{millis:03}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

pub fn flow_status(status: FlowStatus) -> (&'static str, Style) {
    match status {
        FlowStatus::Unspecified => ("unknown", Style::Plain),
        FlowStatus::Inactive => ("inactive", Style::Grey),
        FlowStatus::Starting => ("starting", Style::Yellow),
        FlowStatus::Active => ("active", Style::Green),
        FlowStatus::Stopping => ("stopping", Style::Yellow),
    }
}

pub fn execution_state(state: ExecutionState) -> (&'static str, Style) {
    match state {
        ExecutionState::Unspecified => ("unknown", Style::Plain),
        ExecutionState::Running => ("running", Style::Yellow),
        ExecutionState::Succeeded => ("succeeded", Style::Green),
        ExecutionState::Failed => ("failed", Style::Red),
        ExecutionState::Cancelled => ("cancelled", Style::Grey),
        ExecutionState::TimedOut => ("timed_out", Style::Red),
    }
}

pub fn step_state(state: StepState) -> (&'static str, Style) {
    match state {
        StepState::Unspecified => ("unknown", Style::Plain),
        StepState::Pending => ("pending", Style::Plain),
        StepState::Running => ("running", Style::Yellow),
        StepState::RetryWait => ("retry_wait", Style::Yellow),
        StepState::Succeeded => ("succeeded", Style::Green),
        StepState::Failed => ("failed", Style::Red),
        StepState::Dead => ("dead", Style::Red),
        StepState::Skipped => ("skipped", Style::Grey),
        StepState::Cancelled => ("cancelled", Style::Grey),
    }
}

/// A word with its colour, as a cell.
pub fn cell((word, style): (&'static str, Style)) -> Cell {
    Cell::styled(word, style)
}

/// JSON bytes as JSON; what is none, as the text that it is.
fn bytes_as_json(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

fn optional(text: String) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        Value::String(text)
    }
}

pub fn flow(flow: &Flow) -> Value {
    let labels: std::collections::BTreeMap<_, _> = flow.labels.iter().collect();
    let mut value = json!({
        "id": flow.id,
        "name": flow.name,
        "description": flow.description,
        "labels": labels,
        "status": flow_status(flow.status()).0,
        "status_reason": flow.status_reason,
        "draft_revision": flow.draft_revision,
        "latest_version": flow.latest_version,
        "active_version": flow.active_version,
        "partition": flow.partition,
        "created_at": optional(time(flow.created_at.as_ref())),
        "updated_at": optional(time(flow.updated_at.as_ref())),
    });
    if !flow.document.is_empty() {
        value["document"] = bytes_as_json(flow.document.as_bytes());
    }
    value
}

pub fn version(version: &FlowVersion) -> Value {
    let mut value = json!({
        "flow_id": version.flow_id,
        "version": version.version,
        "content_hash": version.content_hash,
        "published_at": optional(time(version.published_at.as_ref())),
    });
    if !version.document.is_empty() {
        value["document"] = bytes_as_json(version.document.as_bytes());
    }
    value
}

pub fn message(message: &Message) -> Value {
    let mut value = Map::new();
    value.insert("data".to_owned(), bytes_as_json(&message.data));
    if !message.headers.is_empty() {
        let headers: std::collections::BTreeMap<_, _> = message.headers.iter().collect();
        value.insert("headers".to_owned(), json!(headers));
    }
    if !message.attachments.is_empty() {
        let attachments: std::collections::BTreeMap<_, _> = message
            .attachments
            .iter()
            .map(|(name, bytes)| (name, BASE64.encode(bytes)))
            .collect();
        value.insert("attachments".to_owned(), json!(attachments));
    }
    if !message.metadata.is_empty() {
        value.insert("metadata".to_owned(), bytes_as_json(&message.metadata));
    }
    Value::Object(value)
}

pub fn messages(messages: &[Message]) -> Value {
    Value::Array(messages.iter().map(message).collect())
}

pub fn execution(execution: &Execution) -> Value {
    let mut value = json!({
        "id": execution.id,
        "flow_id": execution.flow_id,
        "flow_version": execution.flow_version,
        "state": execution_state(execution.state()).0,
        "reason": execution.reason,
        "started_at": optional(time(execution.started_at.as_ref())),
        "ended_at": optional(time(execution.ended_at.as_ref())),
        "request_id": execution.request_id,
        "steps": execution.steps,
        "steps_live": execution.steps_live,
        "steps_dead": execution.steps_dead,
        "revision": execution.revision,
    });
    if let Some(trace) = execution
        .trace
        .as_ref()
        .filter(|trace| !trace.traceparent.is_empty())
    {
        value["traceparent"] = json!(trace.traceparent);
    }
    value
}

fn step_error(error: &StepError) -> Value {
    json!({
        "code": error.code,
        "message": error.message,
        "details": bytes_as_json(&error.details),
        "fatal": error.fatal,
    })
}

/// A step; with its messages if they were asked for.
pub fn step(step: &Step, with_messages: bool) -> Value {
    let mut value = json!({
        "number": step.number,
        "node": step.node,
        "state": step_state(step.state()).0,
        "attempt": step.attempt,
        "worker": step.worker,
        "created_at": optional(time(step.created_at.as_ref())),
        "started_at": optional(time(step.started_at.as_ref())),
        "ended_at": optional(time(step.ended_at.as_ref())),
        "due_at": optional(time(step.due_at.as_ref())),
        "error": step.error.as_ref().map(step_error),
        "from_steps": step.from_steps,
        "outputs": step.outputs,
        "progress": step.progress,
    });
    if with_messages {
        value["input"] = messages(&step.input);
        value["output"] = messages(&step.output);
    }
    value
}

/// What there is to say about a step beside its state: its error, or its progress.
pub fn step_remark(step: &Step) -> String {
    match &step.error {
        Some(error) => format!("{}: {}", error.code, error.message),
        None => step.progress.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos })
    }

    #[test]
    fn times_are_for_people_and_for_programs() {
        let begun = at(1_795_229_999, 123_456_000);
        assert_eq!(time(begun.as_ref()), "2026-11-21T02:59:59.123456Z");
        assert_eq!(short_time(begun.as_ref()), "2026-11-21 02:59:59");
        assert_eq!(time(None), "");
        assert_eq!(
            took(at(1, 0).as_ref(), at(1, 12_000_000).as_ref()),
            "0.012s"
        );
        assert_eq!(took(at(1, 0).as_ref(), at(62, 0).as_ref()), "1m01s");
        assert_eq!(took(at(0, 0).as_ref(), at(7_260, 0).as_ref()), "2h01m");
        assert_eq!(took(at(1, 0).as_ref(), None), "");
    }

    #[test]
    fn a_message_shows_what_it_has() {
        let mut text = Message {
            data: "{\"a\":1}".into(),
            ..Message::default()
        };
        assert_eq!(message(&text), json!({"data": {"a": 1}}));
        text.attachments.insert("f".to_owned(), vec![0, 255].into());
        assert_eq!(message(&text)["attachments"]["f"], "AP8=");
        text.data = "no json".into();
        assert_eq!(message(&text)["data"], "no json");
    }
}
