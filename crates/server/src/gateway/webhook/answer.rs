//! Answers to webhook requests: `{"data": …}` or `{"error": …}`.

use std::time::Duration;

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
    let body = error_body("only GET, HEAD and POST are allowed here", (None, None));
    (StatusCode::METHOD_NOT_ALLOWED, allow, Json(body)).into_response()
}

fn error_body(error: &str, (request_id, execution_id): (Option<&str>, Option<&str>)) -> Value {
    let mut body = json!({ "error": error });
    for (key, id) in [("requestId", request_id), ("executionId", execution_id)] {
        if let Some(id) = id {
            body[key] = id.into();
        }
    }
    body
}

/// Why a request started nothing, or may not have.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    /// With which the request can be repeated safely: only where that may be needed.
    request_id: Option<String>,
    /// What it has started, where that is known.
    execution_id: Option<String>,
    retry_after_seconds: Option<u64>,
    /// What there was too much of, for the metric.
    shed: Option<&'static str>,
    /// The rest of the body will not be read.
    close: bool,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            request_id: None,
            execution_id: None,
            retry_after_seconds: None,
            shed: None,
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

    /// There is too much of something.
    pub fn shed(reason: &'static str, error: &str) -> Self {
        Self {
            shed: Some(reason),
            ..Self::later(StatusCode::TOO_MANY_REQUESTS, error)
        }
    }

    /// So long the caller should wait. Rounded up: who comes back early is sent away again.
    pub fn after(self, wait: Duration) -> Self {
        Self {
            retry_after_seconds: Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            ..self
        }
    }

    /// The answer did not come in time; the execution goes on.
    pub fn no_reply() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the flow has not answered in time; its execution goes on",
        )
    }

    /// The execution ended without an answer, and not well.
    pub fn ended(status: StatusCode, error: &str) -> Self {
        Self::new(status, error)
    }

    /// Of a request that has started an execution.
    pub fn started(self, request_id: &str, execution_id: &str) -> Self {
        Self {
            request_id: Some(request_id.to_owned()),
            execution_id: Some(execution_id.to_owned()),
            ..self
        }
    }

    /// What there was too much of, if that is why.
    pub const fn shed_reason(&self) -> Option<&'static str> {
        self.shed
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
            Code::ResourceExhausted => {
                let default = Duration::from_secs(RETRY_AFTER_SECONDS);
                Self::shed("partition", error).after(retry.unwrap_or(default))
            }
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
        let ids = (self.request_id.as_deref(), self.execution_id.as_deref());
        let body = error_body(&self.error, ids);
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
