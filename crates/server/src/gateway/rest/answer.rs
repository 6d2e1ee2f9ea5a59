//! Errors: `{"errors": [{"message", "code"}]}`, where the code is the HTTP status.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tidemill_types::limits::REST_BODY_BYTES_MAX;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::gateway::code_of;

/// When a caller may come again, where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    errors: Vec<Value>,
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            errors: vec![json!({ "message": message, "code": status.as_u16() })],
            retry_after_seconds: None,
        }
    }

    fn later(status: StatusCode, message: &str) -> Self {
        Self {
            retry_after_seconds: Some(RETRY_AFTER_SECONDS),
            ..Self::new(status, message)
        }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn starting() -> Self {
        Self::later(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node is starting: it is not part of its cluster yet",
        )
    }

    pub fn overloaded() -> Self {
        Self::later(
            StatusCode::TOO_MANY_REQUESTS,
            "the node has too many requests: try again",
        )
    }

    pub fn another_site() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "pages of other sites are not allowed here: the Origin is not this host",
        )
    }

    pub fn not_json_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type must be application/json",
        )
    }

    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
    }

    pub fn too_large() -> Self {
        let message = format!(
            "the body broke off or is too large: at most {REST_BODY_BYTES_MAX} bytes are allowed"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this method is not allowed here",
        )
    }

    /// The errors alone, for one item of a list.
    pub fn item(self) -> Value {
        json!({ "errors": self.errors })
    }

    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Status> for Refusal {
    fn from(error: Status) -> Self {
        let status = http_status(error.code());
        let reason = code_of(&error);
        let mut refusal = Self::new(status, error.message());
        let violations = error
            .get_details_bad_request()
            .map(|details| details.field_violations)
            .unwrap_or_default();
        if !violations.is_empty() {
            refusal.errors = violations
                .into_iter()
                .map(|violation| {
                    json!({
                        "message": format!("{}: {}", violation.field, violation.description),
                        "code": status.as_u16(),
                        "pointer": violation.field,
                    })
                })
                .collect();
        }
        if let Some(reason) = reason {
            for error in &mut refusal.errors {
                error["reason"] = reason.as_str().into();
            }
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            let delay = error
                .get_details_retry_info()
                .and_then(|info| info.retry_delay);
            let seconds = delay.map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
            refusal.retry_after_seconds = seconds.or(Some(RETRY_AFTER_SECONDS));
        }
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = error.message(), "REST request failed");
        }
        refusal
    }
}

const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Unknown: it may have happened. The same request id asks again.
        Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Ok
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "errors": self.errors });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE
            || self.status == StatusCode::REQUEST_TIMEOUT
        {
            // The rest of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
