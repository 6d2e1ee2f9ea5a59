//! What a call can end in, classed by what its caller does next.

use std::{error::Error, fmt, time::Duration};

use tidemill_proto::code_name;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the document, or the name of the request's field.
    pub field: String,
    /// Stable name of the kind of problem; may be empty.
    pub code: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// The class of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong: fix it. Nothing happened.
    Invalid {
        /// All that is wrong with it.
        problems: Vec<Violation>,
    },
    /// The request is well formed, but a fact of the state (or a missing permission) stands against it.
    Rejected,
    /// The thing asked for does not exist.
    NotFound,
    /// The cluster answered, but could not take the request, until the deadline. Nothing happened.
    Unavailable,
    /// Refused because of load, before any work was done.
    Overloaded {
        /// When to try again, if the server said so.
        retry_after: Option<Duration>,
    },
    /// It may or may not have happened: call again with the same request id.
    Unknown,
    /// Stored data is damaged, or the server failed in a way that it did not foresee: call a person.
    Broken,
    /// No node could be reached. Nothing happened.
    Unreachable,
}

impl ErrorKind {
    /// The class's stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::Rejected => "rejected",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Overloaded { .. } => "overloaded",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
            Self::Unreachable => "unreachable",
        }
    }

    /// True when the error proves that nothing has happened: what was asked for was refused, or never sent.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid { .. }
            | Self::Rejected
            | Self::NotFound
            | Self::Unavailable
            | Self::Overloaded { .. }
            | Self::Unreachable => true,
            Self::Unknown | Self::Broken => false,
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// Stable code, such as `TM0001`; the gRPC code's name when the server gave none.
    pub code: String,
    /// For people.
    pub message: String,
    /// The request id that every attempt carried; empty for reads.
    pub request_id: String,
    /// The node that was asked last.
    pub endpoint: String,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        if let ErrorKind::Invalid { problems } = &self.kind {
            for problem in problems {
                write!(f, "; {}: {}", problem.field, problem.message)?;
            }
        }
        Ok(())
    }
}

impl Error for ClientError {}

impl ClientError {
    /// An error that this side found before it asked anybody.
    #[must_use]
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind: ErrorKind::Invalid {
                problems: vec![Violation {
                    field: field.to_owned(),
                    code: String::new(),
                    message: message.clone(),
                }],
            },
            code: "INVALID_ARGUMENT".to_owned(),
            message,
            request_id: String::new(),
            endpoint: String::new(),
        }
    }
}

/// How far one attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The request cannot have left this machine.
    NotSent,
    /// It may have been taken; no answer came.
    Perhaps,
    /// The server answered.
    Answered,
}

/// Reads a status: how far the attempt got, and what it means for the caller.
pub(crate) fn read_status(status: &Status, endpoint: &str) -> (Reached, ClientError) {
    let reached = reached(status);
    let kind = match reached {
        Reached::NotSent => ErrorKind::Unreachable,
        Reached::Perhaps => ErrorKind::Unknown,
        Reached::Answered => kind_of_answer(status),
    };
    let code = status
        .get_details_error_info()
        .map(|info| info.reason)
        .filter(|reason| !reason.is_empty())
        .unwrap_or_else(|| code_name(status.code()).to_owned());
    let message = match reached {
        Reached::Answered if !status.message().is_empty() => status.message().to_owned(),
        Reached::Answered => status.code().description().to_owned(),
        Reached::NotSent => format!("cannot connect to {endpoint}: {}", root_cause(status)),
        Reached::Perhaps => format!("the connection to {endpoint} broke: {}", root_cause(status)),
    };
    let error = ClientError {
        kind,
        code,
        message,
        request_id: String::new(),
        endpoint: endpoint.to_owned(),
    };
    (reached, error)
}

/// A status with a source was made on this side: the server sent none.
fn reached(status: &Status) -> Reached {
    let mut source = status.source();
    if source.is_none() {
        // tonic answers so, without a source, when the other side is no gRPC server or its answer
        // ends early; it cannot be told from a server's own answer but by these texts.
        let lost = status.code() == Code::Unknown && status.message().contains("transport error");
        return if lost {
            Reached::Perhaps
        } else {
            Reached::Answered
        };
    }
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return Reached::NotSent;
        }
        source = error.source();
    }
    Reached::Perhaps
}

fn kind_of_answer(status: &Status) -> ErrorKind {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid {
            problems: violations(status),
        },
        Code::NotFound => ErrorKind::NotFound,
        Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => ErrorKind::Rejected,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::ResourceExhausted => ErrorKind::Overloaded {
            retry_after: status
                .get_details_retry_info()
                .and_then(|retry| retry.retry_delay),
        },
        Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unknown,
        Code::Internal | Code::DataLoss => ErrorKind::Broken,
        // An error whose code says that there is none: whatever happened, it is not known.
        Code::Ok => ErrorKind::Unknown,
    }
}

fn violations(status: &Status) -> Vec<Violation> {
    let Some(bad_request) = status.get_details_bad_request() else {
        return Vec::new();
    };
    bad_request
        .field_violations
        .into_iter()
        .map(|violation| Violation {
            field: violation.field,
            code: String::new(),
            message: violation.description,
        })
        .collect()
}

/// The innermost error says most ("Connection refused"); the outer ones only "transport error".
fn root_cause(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn details_become_class_code_and_problems() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("TM0101", "tidemill", std::collections::HashMap::new())
            .add_bad_request_violation("/graph/nodes/0/id", "is missing")
            .add_bad_request_violation("/cron", "can never fire");
        let status =
            Status::with_error_details(Code::InvalidArgument, "the flow is invalid", details);
        let (reached, error) = read_status(&status, "here");
        assert_eq!(reached, Reached::Answered);
        assert_eq!(error.code, "TM0101");
        let ErrorKind::Invalid { problems } = &error.kind else {
            panic!("{error:?}");
        };
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[1].field, "/cron");
        assert!(error.to_string().contains("/cron: can never fire"));
    }

    #[test]
    fn retry_info_is_kept() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(250)));
        let status = Status::with_error_details(Code::ResourceExhausted, "too much", details);
        let (_, error) = read_status(&status, "here");
        let expected = ErrorKind::Overloaded {
            retry_after: Some(Duration::from_millis(250)),
        };
        assert_eq!(error.kind, expected);
        assert_eq!(error.code, "RESOURCE_EXHAUSTED");
    }
}
