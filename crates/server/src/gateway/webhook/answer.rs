//! Answers to webhook requests: `{"data": …}` or `{"error": …}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tidemill_core::webhook::{SignatureError, WebhookError};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::gateway::code_of;

/// When a caller may come again, where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The execution is committed.
pub(super) fn accepted(request_id: &str, execution_id: &str) -> Response {
    let data = json!({
        "requestId": request_id,
        "executionId": execution_id,
        "message": "thank you",
    });
    Json(json!({ "data": data })).into_response()
}

/// To HEAD.
pub(super) fn nothing() -> Response {
    StatusCode::OK.into_response()
}

pub(super) fn method_not_allowed() -> Response {
    let allow = [(header::ALLOW, "GET, HEAD, POST")];
    let body = error_body("only GET, HEAD and POST are allowed here", None);
    (StatusCode::METHOD_NOT_ALLOWED, allow, Json(body)).into_response()
}

fn error_body(error: &str, request_id: Option<&str>) -> Value {
    match request_id {
        None => json!({ "error": error }),
        Some(id) => json!({ "error": error, "requestId": id }),
    }
}

/// Why a request started nothing, or may not have.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    /// With which the request can be repeated safely: only where that may be needed.
    request_id: Option<String>,
    retry_after_seconds: Option<u64>,
    /// The rest of the body will not be read.
    close: bool,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            request_id: None,
            retry_after_seconds: None,
            close: false,
        }
    }

    fn later(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            retry_after_seconds: Some(RETRY_AFTER_SECONDS),
            ..Self::new(status, error)
        }
    }

    pub fn bad(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub fn forbidden(error: &SignatureError) -> Self {
        Self::new(StatusCode::FORBIDDEN, error.to_string())
    }

    pub fn not_found(flow: &str) -> Self {
        let error = format!("Flow {flow} either does not exist or is inactive.");
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub fn has_schedule() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "the flow has a schedule: it takes no webhook requests",
        )
    }

    pub fn too_large(bytes_max: usize) -> Self {
        let error = format!("the body is too large: at most {bytes_max} bytes are allowed");
        Self {
            close: true,
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        }
    }

    pub fn too_slow() -> Self {
        Self {
            close: true,
            ..Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
        }
    }

    pub fn overloaded(error: &str) -> Self {
        Self::later(StatusCode::TOO_MANY_REQUESTS, error)
    }

    pub fn unavailable(error: &str) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// The outcome is not known: the same request id asks again.
    pub fn unknown(request_id: &str) -> Self {
        Self {
            request_id: Some(request_id.to_owned()),
            ..Self::unavailable(
                "the outcome is not known: repeat the request with this x-request-id",
            )
        }
    }

    /// What became of a start that did not succeed.
    pub fn of(status: &Status, flow: &str, request_id: &str) -> Self {
        let error = status.message();
        let retry = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        match status.code() {
            Code::NotFound => Self::not_found(flow),
            Code::FailedPrecondition if code_of(status).as_deref() == Some("TM0102") => {
                Self::not_found(flow)
            }
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
                Self::new(StatusCode::CONFLICT, error)
            }
            Code::InvalidArgument | Code::OutOfRange => Self::bad(error),
            Code::ResourceExhausted => Self {
                // Rounded up: who comes back early is sent away again.
                retry_after_seconds: retry
                    .map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
                    .or(Some(RETRY_AFTER_SECONDS)),
                ..Self::overloaded(error)
            },
            Code::Unavailable => Self::unavailable(error),
            Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => Self::unknown(request_id),
            Code::Ok
            | Code::PermissionDenied
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => {
                tracing::error!(error, "webhook failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
            }
        }
    }

    pub fn into_response(self) -> Response {
        tracing::debug!(
            status = self.status.as_u16(),
            reason = self.error,
            "webhook refused"
        );
        let body = error_body(&self.error, self.request_id.as_deref());
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<WebhookError> for Refusal {
    fn from(error: WebhookError) -> Self {
        let status = match &error {
            WebhookError::Bad(_) => StatusCode::BAD_REQUEST,
            WebhookError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            WebhookError::NoType | WebhookError::UnsupportedType(_) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
        };
        Self::new(status, error.to_string())
    }
}
