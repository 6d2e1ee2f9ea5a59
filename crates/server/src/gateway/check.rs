//! Checks of requests that need no state: made before anything is proposed.
//!
//! What is wrong is told with the field's name and what is allowed; nothing is left behind.

use bytes::Bytes;
use serde::de::IgnoredAny;
use tidemill_core::{Partition, Rejection};
use tidemill_proto::{convert, v1};
use tidemill_rows::table::MessageRow;
use tidemill_types::{
    ExecutionId, FlowId,
    limits::{FLOW_NAME_CHARS_MAX, REASON_CHARS_MAX, REQUEST_ID_CHARS_MAX, TRACE_BYTES_MAX},
};

use crate::{
    actor::{AskError, GroupHandle},
    clock,
    node::Node,
};

/// The result of a check.
pub(crate) type CheckResult<T> = Result<T, AskError>;

/// A message without data has an empty object, as in OIH.
const NO_DATA: &[u8] = b"{}";

/// A wrong field.
pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> AskError {
    AskError::Rejected(Rejection::invalid(field, reason))
}

/// A flow by id, or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlowRef {
    Id(FlowId),
    Name(String),
}

impl std::fmt::Display for FlowRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// The checks, by what they are of. A namespace: it has no values.
pub(crate) enum Checks {}

impl Checks {
    /// A request id; makes one when it is empty.
    pub fn request_id(text: String) -> CheckResult<String> {
        if text.is_empty() {
            // The time first, as in a ULID: ids that ascend cost the store less.
            let ms = clock::now().as_millis().unsigned_abs();
            let chance = rand::random::<u128>() >> 48;
            return Ok(format!("srv-{ms:012x}{chance:020x}"));
        }
        Self::text("request_id", &text, REQUEST_ID_CHARS_MAX)?;
        Ok(text)
    }

    /// A short printable text.
    pub fn text(field: &str, text: &str, chars_max: usize) -> CheckResult<()> {
        // Bytes first: counting the characters of a huge text is work for nothing.
        if text.len() > chars_max * 4 || text.chars().count() > chars_max {
            let reason = format!("is too long: at most {chars_max} characters are allowed");
            return Err(invalid(field, reason));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid(field, "must be printable: no control characters"));
        }
        Ok(())
    }

    /// The reason of a cancellation.
    pub fn reason(text: &str) -> CheckResult<()> {
        Self::text("reason", text, REASON_CHARS_MAX)
    }

    /// An execution's id, with the partition that it lives in.
    pub fn execution<'a>(
        text: &str,
        node: &'a Node,
    ) -> CheckResult<(ExecutionId, &'a GroupHandle<Partition>)> {
        let id: ExecutionId = text
            .parse()
            .map_err(|error| invalid("execution_id", format!("{error}")))?;
        node.partition(id.partition())
            .map(|home| (id, home))
            .ok_or(AskError::Rejected(Rejection::ExecutionNotFound(id)))
    }

    /// A flow's id or name.
    pub fn flow(field: &str, text: &str) -> CheckResult<FlowRef> {
        if text.is_empty() {
            return Err(invalid(field, "must be a flow's id or name"));
        }
        if text.starts_with(FlowId::PREFIX) {
            // A name may begin like an id.
            if let Ok(id) = text.parse() {
                return Ok(FlowRef::Id(id));
            }
        }
        Self::text(field, text, FLOW_NAME_CHARS_MAX)?;
        Ok(FlowRef::Name(text.to_owned()))
    }

    /// JSON of any kind.
    pub fn json(field: &str, bytes: &[u8]) -> CheckResult<()> {
        serde_json::from_slice::<IgnoredAny>(bytes)
            .map(|_| ())
            .map_err(|error| invalid(field, format!("is not JSON: {error}")))
    }

    /// A message that begins an execution or comes from a worker.
    pub fn message(field: &str, message: v1::Message, bytes_max: usize) -> CheckResult<MessageRow> {
        let mut row = convert::message_row(message);
        let len = row.payload_len();
        if !row.is_within(bytes_max) {
            let reason = format!("has {len} bytes, at most {bytes_max} are allowed");
            return Err(invalid(field, reason));
        }
        if row.data.is_empty() {
            row.data = Bytes::from_static(NO_DATA);
        } else {
            Self::json(&format!("{field}.data"), &row.data)?;
        }
        if !row.metadata.is_empty() {
            let field = format!("{field}.metadata");
            Self::json(&field, &row.metadata)?;
            if row.metadata.trim_ascii_start().first() != Some(&b'{') {
                return Err(invalid(field, "must be a JSON object"));
            }
        }
        Ok(row)
    }

    /// W3C trace context; one that makes no sense is left out, as the standard asks.
    pub fn trace(context: v1::TraceContext) -> (String, String) {
        let v1::TraceContext {
            traceparent,
            tracestate,
        } = context;
        let is_parent = traceparent.len() >= 55
            && traceparent.len() <= TRACE_BYTES_MAX
            && traceparent
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if !is_parent {
            return (String::new(), String::new());
        }
        let is_state = tracestate.len() <= TRACE_BYTES_MAX
            && tracestate
                .bytes()
                .all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t');
        (
            traceparent,
            if is_state { tracestate } else { String::new() },
        )
    }

    /// The trace of a request: what it carries, or that of the call.
    pub fn trace_of(
        context: Option<v1::TraceContext>,
        metadata: &tonic::metadata::MetadataMap,
    ) -> (String, String) {
        let given = context.map(Self::trace).unwrap_or_default();
        if !given.0.is_empty() {
            return given;
        }
        crate::telemetry::trace_of(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: std::fmt::Debug>(result: CheckResult<T>) -> String {
        result.expect_err("is refused").to_string()
    }

    #[test]
    fn request_ids() {
        let made = Checks::request_id(String::new()).expect("made");
        assert_ne!(made, Checks::request_id(String::new()).expect("made"));
        assert_eq!(Checks::request_id("a-1".into()), Ok("a-1".into()));
        assert!(Checks::request_id("é".repeat(REQUEST_ID_CHARS_MAX)).is_ok());
        for bad in [
            "x".repeat(REQUEST_ID_CHARS_MAX + 1),
            "a\nb".into(),
            "\u{7f}".into(),
        ] {
            assert!(reason(Checks::request_id(bad)).starts_with("request_id: "));
        }
    }

    #[test]
    fn flows_by_id_or_name() {
        let id = FlowId::default();
        assert_eq!(Checks::flow("flow", &id.to_string()), Ok(FlowRef::Id(id)));
        assert_eq!(
            Checks::flow("flow", "flw_x"),
            Ok(FlowRef::Name("flw_x".into()))
        );
        for bad in ["", "a\0b", &"n".repeat(FLOW_NAME_CHARS_MAX + 1)] {
            assert!(reason(Checks::flow("flow", bad)).starts_with("flow: "));
        }
    }

    #[test]
    fn messages() {
        let message = |data: &'static [u8], metadata: &'static [u8]| v1::Message {
            data: Bytes::from_static(data),
            metadata: Bytes::from_static(metadata),
            ..v1::Message::default()
        };
        let check = |m| Checks::message("message", m, 10);
        assert_eq!(check(message(b"", b"")).expect("empty").data, NO_DATA);
        assert!(check(message(b"[1, null]", b"")).is_ok());
        assert!(check(message(b"1", b" {}")).is_ok());
        assert!(reason(check(message(b"{", b""))).starts_with("message.data: is not JSON"));
        assert!(reason(check(message(b"1 2", b""))).starts_with("message.data: "));
        assert!(reason(check(message(b"1", b"[]"))).starts_with("message.metadata: "));
        assert!(
            check(message(b"\"12345678\"", b"{}")).is_ok(),
            "metadata has a limit of its own"
        );
        assert!(reason(check(message(b"\"123456789\"", b"{}"))).contains("at most 10"));
    }

    #[test]
    fn deep_json_is_refused_and_harms_nobody() {
        let deep = "[".repeat(100_000);
        assert!(reason(Checks::json("data", deep.as_bytes())).starts_with("data: "));
    }

    #[test]
    fn traces_that_make_no_sense_are_left_out() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = |traceparent: &str, tracestate: &str| {
            Checks::trace(v1::TraceContext {
                traceparent: traceparent.into(),
                tracestate: tracestate.into(),
            })
        };
        assert_eq!(trace(parent, "a=b"), (parent.into(), "a=b".into()));
        assert_eq!(trace(parent, "a\n"), (parent.into(), String::new()));
        assert_eq!(trace("00-x", "a=b"), Default::default());
        assert_eq!(trace(&"0".repeat(100_000), ""), Default::default());
    }
}
