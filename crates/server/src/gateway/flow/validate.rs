//! `ValidateFlow`. Needs no state: answered by any node.

use tidemill_core::flow::{Problem, Severity};
use tidemill_proto::v1::{self, ValidateFlowRequest, ValidateFlowResponse};

pub(super) fn validate(request: &ValidateFlowRequest) -> ValidateFlowResponse {
    let problems = match tidemill_core::flow::parse(&request.document) {
        Err(problems) => problems,
        Ok(documents) => {
            let many = documents.len() > 1;
            let mut found = Vec::new();
            for (at, document) in documents.iter().enumerate() {
                for mut problem in tidemill_core::flow::validate(document) {
                    if many {
                        problem.pointer.insert_str(0, &format!("/{at}"));
                    }
                    found.push(problem);
                }
            }
            found
        }
    };
    ValidateFlowResponse {
        valid: !problems.iter().any(Problem::is_error),
        problems: problems.into_iter().map(problem).collect(),
    }
}

/// To the wire.
pub(super) fn problem(problem: Problem) -> v1::Problem {
    let severity = match problem.severity {
        Severity::Error => v1::Severity::Error,
        Severity::Warning => v1::Severity::Warning,
    };
    v1::Problem {
        pointer: problem.pointer,
        code: problem.code.to_owned(),
        message: problem.message,
        severity: severity.into(),
    }
}
