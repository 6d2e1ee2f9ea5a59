//! From an answer that is an error to the gRPC status that says it.

use std::{collections::HashMap, time::Duration};

use tidemill_core::Rejection;
use tidemill_types::ErrorClass;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::actor::AskError;

/// `ErrorInfo.domain` of every error that Tidemill makes.
const DOMAIN: &str = "tidemill";
/// Key in `ErrorInfo.metadata`: the node does not lead. The value is the leader's id, or empty.
const NOT_LEADER: &str = "not_leader";
/// When a caller may come again, where the server cannot say it better.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// When a caller may come again whose flow has too much waiting: workers need a while.
const BACKLOG_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of an error.
pub(crate) fn status(error: AskError) -> Status {
    let message = error.to_string();
    let code = grpc_code(error.class());
    let mut details = ErrorDetails::new();
    match error {
        AskError::NotLeader { leader } => {
            let leader = leader.map(|node| node.to_string()).unwrap_or_default();
            details.set_error_info("TM0201", DOMAIN, [(NOT_LEADER.to_owned(), leader)]);
            details.set_retry_info(Some(RETRY_AFTER));
        }
        AskError::Rejected(rejection) => {
            details.set_error_info(rejection.code(), DOMAIN, HashMap::new());
            match rejection {
                Rejection::Invalid { field, reason } => {
                    details.add_bad_request_violation(field, reason);
                }
                Rejection::InvalidDocument(problems) => {
                    let violations: Vec<FieldViolation> = problems
                        .into_iter()
                        .map(|problem| FieldViolation {
                            field: problem.pointer,
                            description: problem.message,
                            reason: problem.code.to_owned(),
                            localized_message: None,
                        })
                        .collect();
                    details.set_bad_request(violations);
                }
                Rejection::ScheduleBehind(_) => {
                    details.set_retry_info(Some(RETRY_AFTER));
                }
                Rejection::BacklogFull { .. } => {
                    details.set_retry_info(Some(BACKLOG_RETRY_AFTER));
                }
                Rejection::FlowNotFound(_)
                | Rejection::FlowNotActive(_)
                | Rejection::RequestIdReused(_)
                | Rejection::ExecutionNotFound(_)
                | Rejection::NotRedrivable { .. }
                | Rejection::StepNotDead { .. }
                | Rejection::NotServed(_)
                | Rejection::BuiltinNotServed(_)
                | Rejection::StaleActivation { .. }
                | Rejection::Quarantined(_)
                | Rejection::NameTaken { .. }
                | Rejection::RevisionMismatch { .. }
                | Rejection::NothingPublished(_)
                | Rejection::VersionNotFound { .. }
                | Rejection::WrongStatus { .. }
                | Rejection::LimitReached { .. } => {}
            }
        }
        AskError::Unavailable(_) => {
            details.set_error_info("TM0201", DOMAIN, HashMap::new());
            details.set_retry_info(Some(RETRY_AFTER));
        }
        AskError::Overloaded { retry_after_ms } => {
            details.set_error_info("TM0202", DOMAIN, HashMap::new());
            details.set_retry_info(Some(Duration::from_millis(retry_after_ms)));
        }
        AskError::Unknown => {
            details.set_error_info("TM0203", DOMAIN, HashMap::new());
        }
        AskError::Corrupt(_) => {
            details.set_error_info("TM0204", DOMAIN, HashMap::new());
        }
    }
    Status::with_error_details(code, message, details)
}

/// A start of a flow that was refused; `reason` is what the flow's row says.
pub(crate) fn start_refused(reason: &str) -> Status {
    // The activator puts the code of what stood against it first.
    let code = reason
        .split_once(": ")
        .map(|(code, _)| code)
        .filter(|code| code.len() == 6 && code.starts_with("TM"))
        .unwrap_or("TM0117");
    let details = ErrorDetails::with_error_info(code, DOMAIN, HashMap::new());
    let message = format!("the flow was not started: {reason}");
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

const fn grpc_code(class: ErrorClass) -> Code {
    match class {
        ErrorClass::Invalid => Code::InvalidArgument,
        ErrorClass::Rejected => Code::FailedPrecondition,
        ErrorClass::NotFound => Code::NotFound,
        ErrorClass::Unavailable => Code::Unavailable,
        ErrorClass::Overloaded => Code::ResourceExhausted,
        ErrorClass::Unknown => Code::Unknown,
        ErrorClass::Corrupt => Code::DataLoss,
    }
}

/// The stable code in a status that a node of Tidemill made; none in one that the transport made.
pub(crate) fn code_of(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some(info.reason)
}

/// Whether the node that answered only said that it does not lead.
pub(crate) fn is_not_leader(status: &Status) -> bool {
    status
        .get_details_error_info()
        .is_some_and(|info| info.domain == DOMAIN && info.metadata.contains_key(NOT_LEADER))
}

#[cfg(test)]
mod tests {
    use tidemill_core::flow::{Problem, Severity};
    use tidemill_rows::table::{ExecutionState, FlowStatus};
    use tidemill_types::{ExecutionId, FlowId, NodeId};

    use super::*;

    fn rejected(rejection: Rejection) -> AskError {
        AskError::Rejected(rejection)
    }

    #[test]
    fn every_error_has_its_status_and_code() {
        let flow = FlowId::default();
        let execution = ExecutionId::default();
        let table = [
            (
                AskError::NotLeader { leader: None },
                Code::Unavailable,
                "TM0201",
            ),
            (
                AskError::Unavailable("x".into()),
                Code::Unavailable,
                "TM0201",
            ),
            (
                AskError::Overloaded { retry_after_ms: 7 },
                Code::ResourceExhausted,
                "TM0202",
            ),
            (AskError::Unknown, Code::Unknown, "TM0203"),
            (AskError::Corrupt("x".into()), Code::DataLoss, "TM0204"),
            (
                rejected(Rejection::invalid("f", "r")),
                Code::InvalidArgument,
                "TM0001",
            ),
            (
                rejected(Rejection::InvalidDocument(vec![])),
                Code::InvalidArgument,
                "TM0002",
            ),
            (
                rejected(Rejection::FlowNotFound("f".into())),
                Code::NotFound,
                "TM0101",
            ),
            (
                rejected(Rejection::FlowNotActive(flow)),
                Code::FailedPrecondition,
                "TM0102",
            ),
            (
                rejected(Rejection::RequestIdReused("r".into())),
                Code::FailedPrecondition,
                "TM0103",
            ),
            (
                rejected(Rejection::ExecutionNotFound(execution)),
                Code::NotFound,
                "TM0104",
            ),
            (
                rejected(Rejection::NotRedrivable {
                    execution,
                    state: ExecutionState::Running,
                }),
                Code::FailedPrecondition,
                "TM0105",
            ),
            (
                rejected(Rejection::BacklogFull {
                    scope: "the flow",
                    waiting: 9,
                    limit: "limits.flow_backlog",
                    most: 9,
                }),
                Code::ResourceExhausted,
                "TM0205",
            ),
            (
                rejected(Rejection::VersionNotFound { flow, version: 1 }),
                Code::NotFound,
                "TM0114",
            ),
            (
                rejected(Rejection::WrongStatus {
                    flow,
                    status: FlowStatus::Active,
                    needed: "n",
                }),
                Code::FailedPrecondition,
                "TM0115",
            ),
        ];
        for (error, code, reason) in table {
            let text = error.to_string();
            let status = status(error);
            assert_eq!(status.code(), code, "{text}");
            assert_eq!(code_of(&status).as_deref(), Some(reason), "{text}");
            assert_eq!(status.message(), text);
        }
    }

    #[test]
    fn details_say_what_and_when() {
        let problem = Problem {
            pointer: "/graph".into(),
            code: "missing",
            message: "m".into(),
            severity: Severity::Error,
        };
        let invalid = status(rejected(Rejection::InvalidDocument(vec![problem])));
        let violations = invalid
            .get_details_bad_request()
            .expect("violations")
            .field_violations;
        assert_eq!(violations[0].field, "/graph");
        assert_eq!(violations[0].reason, "missing");
        let overloaded = status(AskError::Overloaded { retry_after_ms: 7 });
        let retry = overloaded.get_details_retry_info().expect("retry info");
        assert_eq!(retry.retry_delay, Some(Duration::from_millis(7)));
    }

    #[test]
    fn a_status_of_the_transport_is_told_from_ours() {
        assert!(is_not_leader(&status(AskError::NotLeader {
            leader: Some(NodeId(2))
        })));
        assert!(!is_not_leader(&status(AskError::Unavailable("x".into()))));
        assert_eq!(code_of(&Status::unavailable("broken pipe")), None);
    }

    #[test]
    fn a_refused_start_carries_the_code_of_its_reason() {
        let code = |reason| code_of(&start_refused(reason)).expect("a code");
        assert_eq!(code("TM0107: no worker serves a"), "TM0107");
        assert_eq!(code("its home partition did not answer"), "TM0117");
    }
}
