//! I8: an execution's state equals the fold of its journal. The fold is written from the records
//! alone: it knows nothing of plans, messages or how the core decides. It also knows which events may
//! follow which.

use std::collections::BTreeMap;

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    journal::{JournalRecord, kind},
    table::{
        ExecutionRow, ExecutionState, StepRow, StepState, execution_key, step_of_key, steps_prefix,
    },
};
use tidemill_types::{ExecutionId, FlowId};

use super::{Checked, Violation, view};

const NAME: &str = "I8 state equals the journal's fold";

/// A step, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldedStep {
    /// Where it stands.
    pub state: StepState,
    /// Attempts so far.
    pub attempt: u32,
    node: String,
}

/// An execution, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The flow.
    pub flow: Option<FlowId>,
    /// Its version.
    pub version: u32,
    /// Where it stands.
    pub state: ExecutionState,
    /// The request id that it was started with.
    pub request_id: String,
    /// Its steps, by number.
    pub steps: Vec<FoldedStep>,
    /// Retention has removed it.
    pub retired: bool,
    /// Request ids that cancelled or redrove it, with what they did.
    pub requests: Vec<(String, String)>,
    /// It has ended at least once, or is being ended.
    pub has_ended: bool,
    /// It is being ended in slices, with this state at the end.
    ending: Option<String>,
}

/// Every execution that the journals tell of.
#[derive(Debug, Default)]
pub struct History {
    executions: BTreeMap<ExecutionId, Folded>,
}

fn illegal(record: &JournalRecord, why: impl Into<String>) -> Violation {
    Violation::new(
        NAME,
        format!(
            "record {}/{} {}: {}",
            record.partition,
            record.seq,
            record.kind,
            why.into()
        ),
    )
}

impl History {
    /// What the journal tells of an execution.
    #[must_use]
    pub fn get(&self, id: ExecutionId) -> Option<&Folded> {
        self.executions.get(&id)
    }

    /// True when retention has removed it.
    #[must_use]
    pub fn is_retired(&self, id: ExecutionId) -> bool {
        self.get(id).is_some_and(|execution| execution.retired)
    }

    /// Takes up a record.
    ///
    /// # Errors
    /// When it cannot follow what was recorded before.
    pub fn on_record(&mut self, record: &JournalRecord) -> Checked {
        let Some(id) = record.execution else {
            return Ok(());
        };
        if record.kind == kind::EXECUTION_STARTED {
            let fresh = Folded {
                flow: record.flow,
                version: record.version,
                state: ExecutionState::Running,
                request_id: record.request_id.clone(),
                steps: Vec::new(),
                retired: false,
                requests: Vec::new(),
                has_ended: false,
                ending: None,
            };
            return match self.executions.insert(id, fresh) {
                None => Ok(()),
                Some(_) => Err(illegal(record, format!("{id} had started before"))),
            };
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return Err(illegal(record, format!("{id} never started")));
        };
        if execution.retired {
            return Err(illegal(record, format!("{id} is retired")));
        }
        if record.step > 0 {
            execution.on_step(record)
        } else {
            execution.on_execution(record)
        }
    }

    /// Compares an execution's rows with its fold.
    ///
    /// # Errors
    /// When they differ.
    pub fn compare(&self, id: ExecutionId, rows: &MemoryRows) -> Checked {
        let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        let steps = view::with_prefix(rows, &steps_prefix(id));
        let differ = |what: String| Err(Violation::new(NAME, format!("{id}: {what}")));
        let Some(folded) = self.get(id) else {
            return differ("has rows but no record of its start".into());
        };
        let Some(row) = row.filter(|_| !folded.retired) else {
            if folded.retired && steps.is_empty() {
                return Ok(());
            }
            return differ(format!(
                "retired by its journal: {}, has {} step rows",
                folded.retired,
                steps.len()
            ));
        };
        if row.ending.is_some() != folded.ending.is_some() {
            return differ(format!(
                "being ended by its row: {:?}, by its journal: {:?}",
                row.ending, folded.ending
            ));
        }
        if (Some(row.flow), row.version, row.state, &row.request_id)
            != (
                folded.flow,
                folded.version,
                folded.state,
                &folded.request_id,
            )
        {
            return differ(format!(
                "its row says {} of version {}, its journal {} of version {}",
                row.state, row.version, folded.state, folded.version
            ));
        }
        if steps.len() != folded.steps.len() {
            return differ(format!(
                "has {} step rows, its journal tells of {}",
                steps.len(),
                folded.steps.len()
            ));
        }
        for (key, value) in steps {
            let number = step_of_key(&key).map_or(u32::MAX, |id| id.step);
            let step: StepRow = view::decode(&key, value)?;
            let Some(told) = folded.steps.get(number as usize) else {
                return differ(format!("its journal does not tell of step {number}"));
            };
            if (step.state, step.attempt) != (told.state, told.attempt) {
                return differ(format!(
                    "step {number} is {} at attempt {} by its row, {} at attempt {} by its journal",
                    step.state, step.attempt, told.state, told.attempt
                ));
            }
        }
        Ok(())
    }
}

impl Folded {
    fn on_execution(&mut self, record: &JournalRecord) -> Checked {
        let live = self.steps.iter().filter(|s| s.state.is_live()).count();
        let dead = self.steps.iter().any(|s| s.state == StepState::Dead);
        if record.kind == kind::EXECUTION_ENDING {
            if self.state != ExecutionState::Running || self.ending.is_some() || live == 0 {
                return Err(illegal(record, format!("it was {}", self.state)));
            }
            self.note_request(record);
            self.ending = Some(record.detail.clone());
            self.has_ended = true;
            return Ok(());
        }
        let state = match record.kind.as_str() {
            kind::EXECUTION_SUCCEEDED => ExecutionState::Succeeded,
            kind::EXECUTION_FAILED => ExecutionState::Failed,
            kind::EXECUTION_CANCELLED => ExecutionState::Cancelled,
            kind::EXECUTION_TIMED_OUT => ExecutionState::TimedOut,
            kind::EXECUTION_REDRIVEN => {
                if self.state != ExecutionState::Failed {
                    return Err(illegal(record, format!("it was {}", self.state)));
                }
                self.note_request(record);
                self.state = ExecutionState::Running;
                return Ok(());
            }
            kind::EXECUTION_RETIRED => {
                if !self.state.is_ended() {
                    return Err(illegal(record, format!("it was {}", self.state)));
                }
                self.retired = true;
                return Ok(());
            }
            _ => return Err(illegal(record, "no such event of an execution")),
        };
        if self.state != ExecutionState::Running || live > 0 {
            return Err(illegal(
                record,
                format!("it was {} with {live} live steps", self.state),
            ));
        }
        if (state == ExecutionState::Succeeded && dead)
            || (state == ExecutionState::Failed && !dead)
        {
            return Err(illegal(record, format!("dead steps: {dead}")));
        }
        if let Some(ending) = self.ending.take()
            && ending != state.as_str()
        {
            return Err(illegal(record, format!("it was being {ending}")));
        }
        self.note_request(record);
        self.state = state;
        self.has_ended = true;
        Ok(())
    }

    fn note_request(&mut self, record: &JournalRecord) {
        if !record.request_id.is_empty() {
            self.requests
                .push((record.request_id.clone(), record.kind.clone()));
        }
    }

    fn on_step(&mut self, record: &JournalRecord) -> Checked {
        let number = record.step as usize - 1;
        if self.state != ExecutionState::Running {
            return Err(illegal(record, format!("the execution was {}", self.state)));
        }
        if self.ending.is_some() && record.kind != kind::STEP_CANCELLED {
            return Err(illegal(record, "the execution was being ended"));
        }
        if record.kind == kind::STEP_SCHEDULED {
            if number != self.steps.len() {
                return Err(illegal(record, format!("{} was next", self.steps.len())));
            }
            self.steps.push(FoldedStep {
                state: StepState::Pending,
                attempt: record.attempt,
                node: record.node.clone(),
            });
            return Ok(());
        }
        let Some(step) = self.steps.get_mut(number) else {
            return Err(illegal(record, format!("step {number} was never made")));
        };
        if step.node != record.node {
            return Err(illegal(
                record,
                format!("the step is of node {}", step.node),
            ));
        }
        use StepState::{Cancelled, Dead, Failed, Pending, RetryWait, Running, Succeeded};
        // A built-in step may begin and end at once, without a record of its beginning.
        let (from, to): (&[StepState], StepState) = match record.kind.as_str() {
            kind::STEP_STARTED => (&[Pending], Running),
            kind::STEP_SUCCEEDED => (&[Running, Pending], Succeeded),
            kind::STEP_RETRY_SCHEDULED => (&[Running, Pending], RetryWait),
            kind::STEP_REBOUND => (&[Running], RetryWait),
            kind::STEP_LEASE_EXPIRED | kind::STEP_LEASE_FREED => (&[Running], Pending),
            kind::STEP_FAILED => (&[Running, Pending], Failed),
            kind::STEP_DEAD => (&[Running, Pending], Dead),
            kind::STEP_CANCELLED => (&[Pending, Running, RetryWait], Cancelled),
            kind::STEP_REDRIVEN => (&[Dead], Pending),
            kind::STEP_RESUMED => (&[RetryWait], Pending),
            _ => return Err(illegal(record, "no such event of a step")),
        };
        if !from.contains(&step.state) {
            return Err(illegal(record, format!("step {number} was {}", step.state)));
        }
        let begins = record.kind == kind::STEP_STARTED
            || (step.state == Pending && matches!(to, Succeeded | RetryWait | Failed));
        let may_begin = begins || (step.state == Pending && to == Dead);
        let expected = step.attempt + u32::from(begins);
        let good = record.attempt == expected || (may_begin && record.attempt == step.attempt + 1);
        if !good {
            return Err(illegal(
                record,
                format!(
                    "attempt {} of step {number}, expected {expected}",
                    record.attempt
                ),
            ));
        }
        step.attempt = record.attempt;
        step.state = to;
        Ok(())
    }
}
