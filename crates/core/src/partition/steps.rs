//! The life of a step, as far as several commands share it: made, begun, put back, ended; and the
//! end of its execution.

use tidemill_rows::{
    Stored,
    journal::{NewRecord, kind},
    table::{
        ErrorRow, ExecutionState, InputRow, QueueRow, StepRow, StepState, Timer, TimerKind,
        queue_key,
    },
};
use tidemill_types::{ExecutionId, StepId};

use super::{Partition, SYSTEM};
use crate::flow::NodeIndex;

/// About how many bytes a new step's row has, with its key.
const STEP_BYTES: usize = 160;

impl Partition {
    /// Makes a step. It waits in the queue (in no table yet when it begins within this batch).
    pub(super) fn add_step(&mut self, id: ExecutionId, node: NodeIndex, inputs: Vec<InputRow>) {
        let now = self.ledger.now();
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let step = StepId {
            execution: id,
            step: execution.row.steps,
        };
        execution.row.steps += 1;
        execution.row.live += 1;
        *execution.live_at.entry(node.0).or_insert(0) += 1;
        let from = inputs.first().map_or(0, |input| input.from_step);
        let row = StepRow {
            node: node.0,
            state: StepState::Pending,
            created_at: now,
            inputs,
            ..StepRow::default()
        };
        execution.steps.insert(step.step, row);
        execution.steps_changed.insert(step.step);
        self.unwritten_bytes += STEP_BYTES;
        self.touch(id);
        self.record_step(
            step,
            NewRecord {
                number: u64::from(from),
                ..NewRecord::of(kind::STEP_SCHEDULED, SYSTEM)
            },
        );
        self.enqueue(step);
    }

    /// Puts a pending step where it waits: for a worker, or for its turn as a built-in.
    pub(super) fn enqueue(&mut self, id: StepId) {
        let Some(execution) = self.executions.get(&id.execution) else {
            return;
        };
        let Some(step) = execution.steps.get(&id.step) else {
            return;
        };
        let node = execution.node(step.node);
        let row = QueueRow {
            component: node.component.clone(),
            function: node.function.clone(),
            flow: execution.row.flow,
            node: step.node,
            concurrency: node.concurrency.unwrap_or(0),
        };
        let is_builtin = node.builtin.is_some();
        self.ledger.put_fresh(queue_key(id), row.to_bytes());
        if is_builtin {
            self.builtins.push(row.flow, id);
        } else {
            self.work.enqueue(id, row);
        }
    }

    /// A step has succeeded; its messages were stored.
    pub(super) fn succeed(&mut self, id: StepId, actor: &str, first_output: u32, outputs: u32) {
        let now = self.ledger.now();
        self.change_step(id, |step| {
            step.state = StepState::Succeeded;
            step.ended_at = Some(now);
            step.due_at = None;
            if actor != SYSTEM {
                step.completed_attempt = step.attempt;
            }
            step.first_output = first_output;
            step.outputs = outputs;
        });
        self.record_step(
            id,
            NewRecord {
                number: u64::from(outputs),
                ..NewRecord::of(kind::STEP_SUCCEEDED, actor)
            },
        );
    }

    /// Takes a step out of wherever it waits: queue, lease or timer.
    pub(super) fn take_out(&mut self, id: StepId) {
        self.ledger.delete(queue_key(id));
        self.work.remove(id, &mut self.ledger);
        let due = self
            .executions
            .get(&id.execution)
            .and_then(|e| e.steps.get(&id.step))
            .and_then(|step| {
                let kind = if step.state == StepState::RetryWait {
                    TimerKind::Retry
                } else {
                    TimerKind::Wait
                };
                Some(Timer {
                    due: step.due_at?,
                    step: id,
                    kind,
                })
            });
        if let Some(timer) = due {
            self.remove_timer(timer);
        }
    }

    /// Runs the joins that are quiet now, and ends the execution when nothing is left to do.
    pub(super) fn settle(&mut self, id: ExecutionId) {
        if self.is_ending(id) {
            return;
        }
        self.fire_joins(id);
        let Some(execution) = self.executions.get(&id) else {
            return;
        };
        if execution.row.state.is_ended() || execution.row.live > 0 {
            return;
        }
        let dead = execution.row.dead;
        if dead == 0 {
            self.end(id, ExecutionState::Succeeded, "", SYSTEM, "");
        } else {
            self.end(
                id,
                ExecutionState::Failed,
                &format!("{dead} dead step(s)"),
                SYSTEM,
                "",
            );
        }
    }

    /// Ends an execution whose steps are all ended.
    pub(super) fn end(
        &mut self,
        id: ExecutionId,
        state: ExecutionState,
        reason: &str,
        actor: &str,
        request_id: &str,
    ) {
        let now = self.ledger.now();
        let default_ms = self.config.retention_ms;
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let retire_at = now.plus_millis(execution.plan.retention_ms.unwrap_or(default_ms));
        execution.row.state = state;
        execution.row.ended_at = Some(now);
        execution.row.reason = reason.into();
        execution.row.retire_at = Some(retire_at);
        execution.index_changed = true;
        if execution.row.occurrence_at.is_some() {
            self.ended_scheduled.push((id, execution.row.flow));
        }
        let deadline = execution.row.deadline;
        let step = StepId {
            execution: id,
            step: 0,
        };
        if let Some(due) = deadline {
            self.remove_timer(Timer {
                due,
                step,
                kind: TimerKind::ExecutionTimeout,
            });
        }
        self.add_timer(Timer {
            due: retire_at,
            step,
            kind: TimerKind::Retire,
        });
        self.touch(id);
        self.tell_end(id);
        if let Some(execution) = self.executions.get_mut(&id) {
            execution.messages.clear();
        }
        let kind = match state {
            ExecutionState::Succeeded => kind::EXECUTION_SUCCEEDED,
            ExecutionState::Failed => kind::EXECUTION_FAILED,
            ExecutionState::Cancelled => kind::EXECUTION_CANCELLED,
            ExecutionState::TimedOut => kind::EXECUTION_TIMED_OUT,
            ExecutionState::Running => unreachable!("an execution does not end as running"),
        };
        self.record_execution(
            id,
            NewRecord {
                detail: reason,
                request_id,
                ..NewRecord::of(kind, actor)
            },
        );
    }
}

/// An error of our own making.
pub(super) fn error(code: &str, message: impl Into<String>, fatal: bool) -> ErrorRow {
    ErrorRow {
        code: code.into(),
        message: message.into(),
        details: bytes::Bytes::new(),
        fatal,
    }
}
