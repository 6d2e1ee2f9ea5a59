//! When an attempt fails: retry with backoff, error edges, dead steps.

use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{ErrorRow, MessageRow, StepState, Timer, TimerKind},
};
use tidemill_types::{
    StepId,
    limits::{ERROR_CODE_BYTES_MAX, ERROR_DETAILS_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX},
};

use super::{Partition, SYSTEM, cut};
use crate::{
    command::Targets,
    flow::{On, RetryPolicy},
};

impl Partition {
    /// An attempt has failed. The step was taken out of its lease before.
    pub(super) fn fail(&mut self, id: StepId, error: ErrorRow, actor: &str) {
        if self.ends_here(id) {
            return;
        }
        let error = bounded(error);
        let now = self.ledger.now();
        let Some(execution) = self.executions.get(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return;
        };
        let retry = execution.node(step.node).retry;
        let failures = step.failures + 1;
        // An attempt that we end ourselves was completed by nobody: its worker, late, is to hear that
        // the lease is lost, not that its answer was taken before.
        let completed_attempt = if actor == SYSTEM {
            step.completed_attempt
        } else {
            step.attempt
        };
        if !error.fatal && failures < retry.max_attempts {
            let delay_ms = backoff_ms(&retry, failures, id);
            let due = now.plus_millis(delay_ms);
            self.change_step(id, |step| {
                step.state = StepState::RetryWait;
                step.failures = failures;
                step.completed_attempt = completed_attempt;
                step.due_at = Some(due);
                step.error = Some(error.clone());
            });
            self.add_timer(Timer {
                due,
                step: id,
                kind: TimerKind::Retry,
            });
            self.record_step(
                id,
                NewRecord {
                    detail: &error.code,
                    number: delay_ms,
                    ..NewRecord::of(kind::STEP_RETRY_SCHEDULED, actor)
                },
            );
            return;
        }
        self.change_step(id, |step| {
            step.failures = failures;
            step.completed_attempt = completed_attempt;
        });
        self.fail_for_good(id, error, actor);
        self.settle(id.execution);
    }

    /// Follows the error edges; without one that matches the step is dead.
    fn fail_for_good(&mut self, id: StepId, error: ErrorRow, actor: &str) {
        let now = self.ledger.now();
        let Some(execution) = self.executions.get(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return;
        };
        let has_error_edge = execution
            .node(step.node)
            .outgoing
            .iter()
            .any(|edge| execution.plan.edges[edge.index()].on == On::Error);
        if !has_error_edge {
            return self.bury_as(id, error, actor);
        }
        let message = error_message(&error, &execution.node(step.node).id, id.step);
        let messages = [(message, Targets::All)];
        match Self::routes(execution, step.node, On::Error, &messages) {
            // A condition on the error edge that fails must not hide the first error.
            Err(second) => {
                let both = ErrorRow {
                    message: cut(
                        format!("{}; and its error edge: {}", error.message, second.message),
                        ERROR_MESSAGE_BYTES_MAX,
                    ),
                    ..error
                };
                self.bury_as(id, both, actor);
            }
            Ok(routes) if routes.iter().all(Vec::is_empty) => self.bury_as(id, error, actor),
            Ok(routes) => {
                let [(message, _)] = messages;
                let first = self.add_message(id.execution, message);
                let code = error.code.clone();
                self.change_step(id, |step| {
                    step.state = StepState::Failed;
                    step.ended_at = Some(now);
                    step.due_at = None;
                    step.error = Some(error);
                    step.first_output = first;
                    step.outputs = 1;
                });
                self.record_step(
                    id,
                    NewRecord {
                        detail: &code,
                        ..NewRecord::of(kind::STEP_FAILED, actor)
                    },
                );
                self.deliver(id, first, &routes);
            }
        }
    }

    /// A step is dead for a reason of our own.
    pub(super) fn bury(&mut self, id: StepId, error: ErrorRow) {
        self.bury_as(id, error, SYSTEM);
    }

    fn bury_as(&mut self, id: StepId, error: ErrorRow, actor: &str) {
        let now = self.ledger.now();
        let code = error.code.clone();
        self.change_step(id, |step| {
            step.state = StepState::Dead;
            step.ended_at = Some(now);
            step.due_at = None;
            step.error = Some(error);
        });
        self.record_step(
            id,
            NewRecord {
                detail: &code,
                ..NewRecord::of(kind::STEP_DEAD, actor)
            },
        );
    }
}

/// Keeps what a worker sends within its limits.
fn bounded(error: ErrorRow) -> ErrorRow {
    let code = if error.code.is_empty() {
        "ERROR".into()
    } else {
        error.code
    };
    let fits = error.details.len() <= ERROR_DETAILS_BYTES_MAX;
    ErrorRow {
        code: cut(code, ERROR_CODE_BYTES_MAX),
        message: cut(error.message, ERROR_MESSAGE_BYTES_MAX),
        details: if fits {
            error.details
        } else {
            bytes::Bytes::new()
        },
        fatal: error.fatal,
    }
}

/// What an error edge carries: the error as the message.
fn error_message(error: &ErrorRow, node: &str, step: u32) -> MessageRow {
    let details: serde_json::Value =
        serde_json::from_slice(&error.details).unwrap_or(serde_json::Value::Null);
    let data = json!({
        "error": { "code": error.code, "message": error.message, "details": details },
        "node": node,
        "step": step,
    });
    MessageRow {
        data: data.to_string().into(),
        ..MessageRow::default()
    }
}

/// The delay before attempt `failures + 1`: exponential, capped, with the jitter drawn from the step's
/// id, so that the same decision is the same everywhere and retries of many steps still spread.
pub(super) fn backoff_ms(retry: &RetryPolicy, failures: u32, id: StepId) -> u64 {
    let mut delay_ms = u128::from(retry.initial_delay_ms);
    for _ in 1..failures {
        delay_ms = delay_ms * u128::from(retry.multiplier_milli) / 1_000;
        if delay_ms >= u128::from(retry.max_delay_ms) {
            break;
        }
    }
    let delay_ms = delay_ms.min(u128::from(retry.max_delay_ms)) as u64;
    let span_ms = u128::from(delay_ms) * u128::from(retry.jitter_milli) / 1_000;
    let digest = Sha256::new()
        .chain_update(id.execution.0)
        .chain_update(id.step.to_be_bytes())
        .chain_update(failures.to_be_bytes())
        .finalize();
    let drawn = u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes"));
    let less_ms = (span_ms * u128::from(drawn) / (u128::from(u64::MAX) + 1)) as u64;
    delay_ms - less_ms
}

#[cfg(test)]
mod tests {
    use tidemill_types::ExecutionId;

    use super::*;

    #[test]
    fn backoff_grows_is_capped_and_jittered_downwards() {
        let id = StepId {
            execution: ExecutionId([7; 16]),
            step: 3,
        };
        let exact = RetryPolicy {
            jitter_milli: 0,
            ..RetryPolicy::DEFAULT
        };
        let delays: Vec<u64> = (1..=9).map(|n| backoff_ms(&exact, n, id)).collect();
        assert_eq!(
            delays,
            [
                1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000
            ]
        );
        let jittered = RetryPolicy {
            jitter_milli: 500,
            ..RetryPolicy::DEFAULT
        };
        let delay = backoff_ms(&jittered, 3, id);
        assert!((2_000..=4_000).contains(&delay), "{delay}");
        assert_eq!(
            delay,
            backoff_ms(&jittered, 3, id),
            "the same draw every time"
        );
        let other = StepId { step: 4, ..id };
        assert_ne!(delay, backoff_ms(&jittered, 3, other));
    }
}
