//! What the built-in `respond` answers: its fields, and what its expression adds to them.
//!
//! Owns what an answer may say, for the document and for the expression alike. Must never let a flow write
//! what belongs to the connection: lengths, hops, the way a body is sent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use tidemill_types::limits::{
    RESPOND_HEADER_CHARS_MAX, RESPOND_HEADERS_MAX, WEBHOOK_NAME_CHARS_MAX,
};

/// Statuses that an answer may have.
const STATUSES: RangeInclusive<u64> = 200..=599;
/// When nothing says another.
const STATUS_DEFAULT: u16 = 200;
/// What the fields may have; an expression gives all but itself.
const FIELDS: [&str; 5] = ["status", "headers", "body", "attachment", "expression"];
/// Headers that are the server's: they say how the answer is sent, not what it is.
const RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-tidemill-execution-id",
];

/// An answer to a webhook request.
#[derive(Clone, Debug, PartialEq)]
pub struct Respond {
    /// The HTTP status.
    pub status: u16,
    /// Headers, with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body; none: the message's data.
    pub body: Option<Value>,
    /// The attachment of the message that is the body, byte for byte, instead.
    pub attachment: Option<String>,
}

impl Default for Respond {
    fn default() -> Self {
        Self {
            status: STATUS_DEFAULT,
            headers: BTreeMap::new(),
            body: None,
            attachment: None,
        }
    }
}

/// What is wrong, and where below the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondError {
    /// The keys to it.
    pub path: Vec<String>,
    /// What is allowed.
    pub message: String,
}

impl RespondError {
    fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|&key| key.to_owned()).collect(),
            message: message.into(),
        }
    }
}

impl std::fmt::Display for RespondError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.join("."), self.message)
    }
}

impl Respond {
    /// The answer that a node's fields say, and all that is wrong with them.
    pub fn of_fields(fields: &Map<String, Value>) -> (Self, Vec<RespondError>) {
        let mut respond = Self::default();
        let mut errors = Vec::new();
        respond.take(fields, &mut errors);
        (respond, errors)
    }

    /// This answer with what an expression gave over it.
    ///
    /// # Errors
    /// What is wrong with what it gave.
    pub fn with(&self, given: &Value) -> Result<Self, RespondError> {
        let Value::Object(given) = given else {
            let message = "must give an object with `status`, `headers`, `body` or `attachment`";
            return Err(RespondError::new(&["expression"], message));
        };
        let mut respond = self.clone();
        let mut errors = Vec::new();
        respond.take(given, &mut errors);
        if given.contains_key("expression") {
            errors.push(RespondError::new(
                &["expression"],
                "is not part of an answer",
            ));
        }
        match errors.into_iter().next() {
            None => Ok(respond),
            Some(error) => Err(error),
        }
    }

    fn take(&mut self, given: &Map<String, Value>, errors: &mut Vec<RespondError>) {
        for key in given.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
            let message = format!("unknown key; known here: {}", FIELDS.join(", "));
            errors.push(RespondError::new(&[key], message));
        }
        let value = |key: &str| given.get(key).filter(|value| !value.is_null());
        if let Some(status) = value("status") {
            match status.as_u64().filter(|status| STATUSES.contains(status)) {
                Some(status) => self.status = u16::try_from(status).expect("at most 599"),
                None => errors.push(RespondError::new(
                    &["status"],
                    format!(
                        "must be a whole number from {} to {}",
                        STATUSES.start(),
                        STATUSES.end()
                    ),
                )),
            }
        }
        if let Some(headers) = value("headers") {
            self.take_headers(headers, errors);
        }
        if let Some(name) = value("attachment") {
            match name.as_str() {
                Some(name) => self.attachment = Some(name.to_owned()),
                None => errors.push(RespondError::new(
                    &["attachment"],
                    "must be the name of an attachment of the message",
                )),
            }
        }
        // A body that is null is one: `null`.
        if let Some(body) = given.get("body") {
            self.body = Some(body.clone());
        }
        if self.body.is_some() && self.attachment.is_some() {
            let message = "`body` and `attachment` are two bodies: keep one of them";
            errors.push(RespondError::new(&["attachment"], message));
        }
    }

    fn take_headers(&mut self, headers: &Value, errors: &mut Vec<RespondError>) {
        let Value::Object(headers) = headers else {
            errors.push(RespondError::new(
                &["headers"],
                "must be an object of strings",
            ));
            return;
        };
        for (name, value) in headers {
            let mut refuse = |message: String| {
                errors.push(RespondError::new(&["headers", name], message));
            };
            let lower = name.to_ascii_lowercase();
            if name.is_empty() || name.len() > WEBHOOK_NAME_CHARS_MAX || !name.bytes().all(is_token)
            {
                refuse(format!(
                    "is no name of a header: letters, digits, `-`, `_` and `.`, at most {WEBHOOK_NAME_CHARS_MAX}"
                ));
                continue;
            }
            if RESERVED.contains(&lower.as_str()) {
                refuse("is the server's own header".into());
                continue;
            }
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => {
                    refuse("must be a string".into());
                    continue;
                }
            };
            if text.len() > RESPOND_HEADER_CHARS_MAX
                || !text
                    .bytes()
                    .all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
            {
                refuse(format!(
                    "must be printable ASCII, at most {RESPOND_HEADER_CHARS_MAX} characters"
                ));
                continue;
            }
            self.headers.insert(lower, text);
        }
        if self.headers.len() > RESPOND_HEADERS_MAX {
            let message = format!("has more than {RESPOND_HEADERS_MAX} headers");
            errors.push(RespondError::new(&["headers"], message));
        }
    }
}

/// Of a header's name, as far as anybody uses them.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> (Respond, Vec<String>) {
        let Value::Object(fields) = value else {
            panic!("an object");
        };
        let (respond, errors) = Respond::of_fields(&fields);
        (respond, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_expression_goes_over_the_fields() {
        let (respond, errors) = fields(json!({"status": 201, "headers": {"X-A": "1", "X-B": 2}}));
        assert_eq!(errors, Vec::<String>::new());
        let with = respond.with(&json!({"headers": {"x-a": "3"}, "body": null}));
        let with = with.expect("allowed");
        assert_eq!((with.status, &with.headers["x-a"]), (201, &"3".to_owned()));
        assert_eq!(with.headers["x-b"], "2");
        assert_eq!(with.body, Some(Value::Null));
        for bad in [
            json!(1),
            json!({"status": "200"}),
            json!({"expression": "$"}),
        ] {
            assert!(respond.with(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_the_connections_is_refused() {
        for (value, want) in [
            (
                json!({"status": 199}),
                "status: must be a whole number from 200 to 599",
            ),
            (json!({"status": 600}), "status: "),
            (json!({"status": 200.5}), "status: "),
            (
                json!({"headers": {"Content-Length": "5"}}),
                "headers.Content-Length: is the server's",
            ),
            (json!({"headers": {"a b": "5"}}), "headers.a b: is no name"),
            (
                json!({"headers": {"a": "x\r\ny: z"}}),
                "headers.a: must be printable",
            ),
            (
                json!({"headers": {"a": ["x"]}}),
                "headers.a: must be a string",
            ),
            (json!({"headers": "a"}), "headers: must be an object"),
            (json!({"staus": 201}), "staus: unknown key"),
            (
                json!({"body": 1, "attachment": "x"}),
                "attachment: `body` and",
            ),
            (json!({"attachment": 1}), "attachment: must be the name"),
        ] {
            let (_, errors) = fields(value.clone());
            assert!(
                errors.iter().any(|error| error.starts_with(want)),
                "{value}: {errors:?}"
            );
        }
        let many: Map<String, Value> = (0..=RESPOND_HEADERS_MAX)
            .map(|n| (format!("x-{n}"), json!("v")))
            .collect();
        let (_, errors) = fields(json!({"headers": many}));
        assert_eq!(errors.len(), 1, "{errors:?}");
        let long = "x".repeat(RESPOND_HEADER_CHARS_MAX + 1);
        assert_eq!(fields(json!({"headers": {"a": long}})).1.len(), 1);
    }
}
