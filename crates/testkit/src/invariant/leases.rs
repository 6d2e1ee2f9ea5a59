//! No lease is freed while its worker has the task: freeing is for what was lost on its way. It would do
//! no harm to the state (the attempt fences), but steps would run again for nothing.

use std::collections::BTreeSet;

use tidemill_rows::journal::{JournalRecord, kind};
use tidemill_types::{StepId, TaskId};

use super::{Checked, Violation};

/// See the module.
#[derive(Debug, Default)]
pub struct Leases {
    held: BTreeSet<TaskId>,
}

impl Leases {
    /// A worker has got a task.
    pub fn on_taken(&mut self, task: TaskId) {
        self.held.insert(task);
    }

    /// Its completion was answered, or the worker is dead.
    pub fn on_let_go(&mut self, task: TaskId) {
        self.held.remove(&task);
    }

    /// The journal tells of a step.
    ///
    /// # Errors
    /// When a lease is freed that is held.
    pub fn on_record(&self, record: &JournalRecord) -> Checked {
        let (Some(execution), 1..) = (record.execution, record.step) else {
            return Ok(());
        };
        let task = TaskId {
            step: StepId {
                execution,
                step: record.step - 1,
            },
            attempt: record.attempt,
        };
        if record.kind == kind::STEP_LEASE_FREED && self.held.contains(&task) {
            return Err(Violation::new(
                "I12 no lease is freed that is held",
                format!("{task} is with its worker (journal record {})", record.seq),
            ));
        }
        Ok(())
    }
}
