//! I4: a step has at most one effective completion. By the journal: each attempt begins once and ends
//! once, and a step succeeds once. By what workers are told: `Accepted` once for an attempt and only
//! with its effect in the journal, `Already` only when a worker's completion has taken effect.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_core::command::CompletionStatus;
use tidemill_rows::journal::{JournalRecord, kind};
use tidemill_types::{StepId, TaskId};

use super::{Checked, Violation};

const NAME: &str = "I4 one effective completion";

/// See the module.
#[derive(Debug, Default)]
pub struct Completions {
    begun: BTreeSet<TaskId>,
    /// How each attempt ended, and who caused it.
    ended: BTreeMap<TaskId, (String, String)>,
    succeeded: BTreeSet<StepId>,
    sent: BTreeSet<TaskId>,
    accepted: BTreeSet<TaskId>,
}

impl Completions {
    /// The journal tells of a step.
    ///
    /// # Errors
    /// When an attempt begins or ends twice.
    pub fn on_record(&mut self, record: &JournalRecord) -> Checked {
        let (Some(execution), 1..) = (record.execution, record.step) else {
            return Ok(());
        };
        let step = StepId {
            execution,
            step: record.step - 1,
        };
        let task = TaskId {
            step,
            attempt: record.attempt,
        };
        let twice = |what: &str| {
            Err(Violation::new(
                NAME,
                format!("{task} {what} (journal record {})", record.seq),
            ))
        };
        match record.kind.as_str() {
            kind::STEP_STARTED if !self.begun.insert(task) => return twice("began twice"),
            kind::STEP_SUCCEEDED
            | kind::STEP_RETRY_SCHEDULED
            | kind::STEP_REBOUND
            | kind::STEP_LEASE_EXPIRED
            | kind::STEP_LEASE_FREED
            | kind::STEP_FAILED
            | kind::STEP_DEAD => {
                let how = (record.kind.clone(), record.actor.clone());
                // Attempt 0: a step that died before anybody had it, by its loop's limit.
                if task.attempt > 0
                    && let Some((before, _)) = self.ended.insert(task, how)
                {
                    return twice(&format!("ended twice: {before} and {}", record.kind));
                }
            }
            _ => {}
        }
        if record.kind == kind::STEP_SUCCEEDED && !self.succeeded.insert(step) {
            return twice("succeeded again");
        }
        Ok(())
    }

    /// A worker sends a completion.
    pub fn on_sent(&mut self, task: TaskId) {
        self.sent.insert(task);
    }

    /// A worker is told what became of it.
    ///
    /// # Errors
    /// When the journal tells otherwise.
    pub fn on_answered(&mut self, task: TaskId, status: &CompletionStatus) -> Checked {
        if *status == CompletionStatus::LeaseLost {
            return Ok(());
        }
        let ended = self.ended.get(&task);
        let by_worker = ended.is_some_and(|(kind, actor)| {
            actor.starts_with("worker:") && kind != kind::STEP_LEASE_EXPIRED
        });
        if !by_worker {
            return Err(Violation::new(
                NAME,
                format!("{task} was answered {status:?}, by the journal its end was {ended:?}"),
            ));
        }
        if !self.sent.contains(&task) {
            return Err(Violation::new(
                NAME,
                format!("{task} took effect, and nobody has completed it"),
            ));
        }
        if *status != CompletionStatus::Already && !self.accepted.insert(task) {
            return Err(Violation::new(NAME, format!("{task} was accepted twice")));
        }
        Ok(())
    }
}
