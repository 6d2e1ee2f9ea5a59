//! What a webhook request means: whether it is who it says, and which message it becomes.
//!
//! Owns the translation of a request's bytes and the checks of signatures, all of them pure: the time and
//! the secret are parameters. Must never: read a clock or the environment, or let a caller's credentials
//! into a message, which is shown and kept.

mod body;
mod form;
mod headers;
mod signature;
#[cfg(test)]
mod tests;
mod xml;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use thiserror::Error;
use tidemill_rows::table::MessageRow;
use tidemill_types::flow::WebhookTrigger;

use body::Content;
pub use headers::Headers;
pub use signature::{Secret, SecretError, SignatureError, verify};

/// The name of the attachment that a body becomes when it is of no kind that is parsed. (OIH's name.)
pub const ATTACHMENT: &str = "payload";

/// The data of a message without data.
const NO_DATA: &[u8] = b"{}";

/// Methods that start an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The query is the data.
    Get,
    /// The body is.
    Post,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A request to `/hook/{flow}[/suffix]`, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// What follows the flow in the path, decoded; empty where nothing does.
    pub suffix: String,
    /// What follows `?`, as it came.
    pub query: String,
    /// The headers.
    pub headers: Headers,
    /// The body, as it came.
    pub body: Bytes,
}

/// Why a request becomes no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// The body or the query is not what it says it is.
    #[error("{0}")]
    Bad(String),
    /// The message would be over the limit.
    #[error("the message has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// Nothing says what the body is.
    #[error("Content-Type header is missing")]
    NoType,
    /// The body is in a type or an encoding that cannot be read.
    #[error("{0}")]
    UnsupportedType(String),
}

impl WebhookError {
    /// The HTTP status that says so.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::TooLarge { .. } => 413,
            Self::NoType | Self::UnsupportedType(_) => 415,
        }
    }
}

impl Request {
    /// What a signature is over, besides what the scheme adds: what becomes the data.
    fn signed(&self) -> &[u8] {
        match self.method {
            Method::Get => self.query.as_bytes(),
            Method::Post => &self.body,
        }
    }

    /// The id that makes the request safe to repeat, where the caller gave one.
    ///
    /// A signed id comes first: a replayed request cannot change it. Then what the caller chose; last what
    /// may also come from a proxy on the way.
    #[must_use]
    pub fn request_id(&self, trigger: &WebhookTrigger) -> Option<&str> {
        let signed = signature::signed_id_header(trigger.signature.as_ref());
        signed
            .into_iter()
            .chain(["idempotency-key", "x-request-id"])
            .filter_map(|name| self.headers.get(name))
            .find(|id| !id.is_empty())
    }
}

/// The message that a request becomes.
///
/// # Errors
/// [`WebhookError`] says what is wrong with the request.
pub fn message(
    request: &Request,
    trigger: &WebhookTrigger,
    bytes_max: usize,
) -> Result<MessageRow, WebhookError> {
    let mut metadata = json!({
        "source": { "name": "webhooks", "type": "webhook" },
        "method": request.method.name(),
    });
    if !request.suffix.is_empty() {
        metadata["pathSuffix"] = Value::from(request.suffix.as_str());
    }
    let content = match request.method {
        Method::Get if !request.body.is_empty() => {
            let reason = "a GET request has no body: its query is the data";
            return Err(WebhookError::Bad(reason.into()));
        }
        Method::Get => Content::Data(to_json(&form::parse(&request.query, "query")?)),
        Method::Post => {
            if !request.query.is_empty() {
                metadata["query"] = form::parse(&request.query, "query")?;
            }
            body::read(&request.headers, &request.body)?
        }
    };
    let (data, attachments) = match content {
        Content::Data(data) => (data, BTreeMap::new()),
        Content::Attachment => {
            let attachments = BTreeMap::from([(ATTACHMENT.to_owned(), request.body.clone())]);
            (Bytes::from_static(NO_DATA), attachments)
        }
    };
    let signature = signature::header_of(trigger.signature.as_ref());
    let message = MessageRow {
        data,
        headers: request.headers.shown(signature),
        attachments,
        metadata: to_json(&metadata),
    };
    if !message.is_within(bytes_max) {
        let bytes = message.payload_len();
        return Err(WebhookError::TooLarge { bytes, bytes_max });
    }
    Ok(message)
}

fn to_json(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
