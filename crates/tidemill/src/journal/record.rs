//! A record for reading: as JSON, as a line, and how ids are written.

use serde_json::{Value, json};
use tidemill_sdk::api::JournalRecord;
use tidemill_types::{ExecutionId, FlowId, Timestamp};

use crate::{
    table::{Style, printable},
    views::hex,
};

/// The readable fields of a record, in the order in which they are written to files.
pub fn fields(record: &JournalRecord) -> Value {
    json!({
        "at": Timestamp(record.at_us).to_string(),
        "kind": record.kind,
        "actor": record.actor,
        "request_id": record.request_id,
        "flow_id": id(&record.flow_id, |bytes| FlowId(bytes).to_string()),
        "execution_id": id(&record.execution_id, |bytes| ExecutionId(bytes).to_string()),
        // In the record it is one more, because 0 there means none.
        "step": record.step.checked_sub(1),
        "attempt": record.attempt,
        "node": record.node,
        "version": record.version,
        "payload_hash": hex(&record.payload_hash),
        "detail": record.detail,
        "number": record.number,
    })
}

fn id(bytes: &[u8], show: impl Fn([u8; 16]) -> String) -> Option<String> {
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Some(show(bytes)),
        Err(_) if bytes.is_empty() => None,
        // Not an id of this version; what it is can still be seen.
        Err(_) => Some(hex(bytes)),
    }
}

/// One line for people.
pub fn line(record: &JournalRecord, color: bool) -> String {
    let value = fields(record);
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let style = match record.kind.rsplit('.').next().unwrap_or_default() {
        "succeeded" | "started" => Style::Green,
        "failed" | "dead" | "timed_out" => Style::Red,
        "cancelled" | "skipped" | "stopped" | "deleted" => Style::Grey,
        _ => Style::Plain,
    };
    let mut parts = vec![
        Style::Grey.paint(&text("at").replace('T', " "), color),
        format!("{}/{}", record.partition, record.seq),
        style.paint(&printable(&record.kind), color),
    ];
    let subject = if record.execution_id.is_empty() {
        text("flow_id")
    } else {
        text("execution_id")
    };
    let step = record.step.checked_sub(1);
    match step {
        Some(step) => parts.push(format!("{subject}/{step}")),
        None => parts.push(subject),
    }
    for (name, value) in [
        ("", record.node.clone()),
        ("attempt ", number(record.attempt.into())),
        ("version ", number(record.version.into())),
        ("by ", record.actor.clone()),
        ("", record.detail.clone()),
    ] {
        if !value.is_empty() {
            parts.push(format!("{name}{}", printable(&value)));
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("  ")
}

fn number(number: u64) -> String {
    if number == 0 {
        String::new()
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_did_what_to_what() {
        let record = JournalRecord {
            seq: 12,
            at_us: 1_795_229_999_123_456,
            partition: 1,
            kind: "step.succeeded".to_owned(),
            actor: "worker:w1".to_owned(),
            execution_id: vec![0; 16].into(),
            step: 1,
            attempt: 2,
            node: "push".to_owned(),
            ..JournalRecord::default()
        };
        assert_eq!(
            line(&record, false),
            "2026-11-21 02:59:59.123456Z  1/12  step.succeeded  \
             exe_00000000000000000000000000/0  push  attempt 2  by worker:w1"
        );
        let fields = fields(&record);
        assert_eq!(fields["step"], 0);
        assert_eq!(fields["flow_id"], Value::Null);
    }
}
