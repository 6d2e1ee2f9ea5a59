//! The end of an execution in which steps are still live: cancelled, or out of time.
//!
//! With very many live steps that takes several batches, so that no batch is too large and nobody waits
//! for long. The first marks the execution: from then on nothing begins in it, and what would move one of
//! its steps cancels that step instead. A timer in the rows stands for the next slice, so a new leader
//! goes on where the old one was.

use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{EndingRow, ExecutionState, StepState, Timer, TimerKind},
};
use tidemill_types::{ExecutionId, StepId, Timestamp};

use super::Partition;

/// Between two slices: others get their turn.
const PAUSE_MS: u64 = 1;

impl Partition {
    /// Ends an execution whatever still lives in it; at once, or by and by.
    pub(super) fn end_early(
        &mut self,
        id: ExecutionId,
        state: ExecutionState,
        reason: &str,
        actor: &str,
        request_id: &str,
    ) {
        let now = self.ledger.now();
        let slice = self.config.steps_ended_per_turn;
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        if execution.row.ending.is_some() {
            return;
        }
        let arrivals: usize = execution.joins.values().map(Vec::len).sum();
        let live = execution.row.live;
        execution.row.ending = Some(EndingRow {
            state,
            reason: reason.into(),
            actor: actor.into(),
            request_id: request_id.into(),
            next_at: now,
        });
        self.touch(id);
        if live as usize + arrivals > slice {
            // Nothing else is to end it meanwhile.
            if let Some(due) = self
                .executions
                .get_mut(&id)
                .and_then(|e| e.row.deadline.take())
            {
                self.remove_timer(Timer {
                    due,
                    step: StepId {
                        execution: id,
                        step: 0,
                    },
                    kind: TimerKind::ExecutionTimeout,
                });
            }
            self.record_execution(
                id,
                NewRecord {
                    detail: state.as_str(),
                    number: u64::from(live),
                    request_id,
                    ..NewRecord::of(kind::EXECUTION_ENDING, actor)
                },
            );
        }
        self.end_slice(id);
    }

    /// Ends some of the steps that are left, and with the last of them the execution.
    pub(super) fn end_slice(&mut self, id: ExecutionId) {
        let now = self.ledger.now();
        let mut left = self.config.steps_ended_per_turn;
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        let Some(ending) = execution.row.ending.clone() else {
            return;
        };
        let flow = execution.row.flow;
        let mut arrivals = Vec::new();
        while left > 0
            && let Some(mut join) = execution.joins.first_entry()
        {
            // From the end: the numbers of those that stay are their places.
            let count = join.get().len();
            let keep = count.saturating_sub(left);
            join.get_mut().truncate(keep);
            arrivals.push((*join.key(), keep..count));
            left -= count - keep;
            if keep == 0 {
                join.remove();
            }
        }
        let live: Vec<u32> = execution
            .steps
            .iter()
            .filter(|(_, step)| step.state.is_live())
            .map(|(number, _)| *number)
            .take(left)
            .collect();
        for (node, numbers) in arrivals {
            self.forget_arrivals(id, node, numbers);
        }
        // One look at the queues for all of its steps; a new leader has found them there again.
        if live.len() > 1 {
            self.work.forget_queued(id, flow);
            self.builtins.retain(|step| step.execution != id);
        }
        for number in live {
            let step = StepId {
                execution: id,
                step: number,
            };
            self.take_out(step);
            self.cancel_step(step, &ending.actor);
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return;
        };
        if execution.row.live == 0 && execution.joins.is_empty() {
            execution.row.ending = None;
            let EndingRow {
                state,
                reason,
                actor,
                request_id,
                ..
            } = ending;
            return self.end(id, state, &reason, &actor, &request_id);
        }
        let due = now.plus_millis(PAUSE_MS);
        if let Some(ending) = &mut execution.row.ending {
            ending.next_at = due;
        }
        self.touch(id);
        self.add_timer(ending_timer(id, due));
    }

    fn cancel_step(&mut self, step: StepId, actor: &str) {
        let now = self.ledger.now();
        self.change_step(step, |step| {
            step.state = StepState::Cancelled;
            step.ended_at = Some(now);
            step.due_at = None;
        });
        self.record_step(step, NewRecord::of(kind::STEP_CANCELLED, actor));
    }

    /// True when the execution is being ended: nothing begins in it.
    pub(super) fn is_ending(&self, id: ExecutionId) -> bool {
        let execution = self.executions.get(&id);
        execution.is_some_and(|execution| execution.row.ending.is_some())
    }

    /// A live step was taken out of the place where it was: in an execution that is being ended it goes
    /// nowhere else. False when it may go on.
    pub(super) fn ends_here(&mut self, step: StepId) -> bool {
        let execution = self.executions.get(&step.execution);
        let Some(ending) = execution.and_then(|execution| execution.row.ending.as_ref()) else {
            return false;
        };
        let actor = ending.actor.clone();
        self.cancel_step(step, &actor);
        true
    }
}

fn ending_timer(id: ExecutionId, due: Timestamp) -> Timer {
    Timer {
        due,
        step: StepId {
            execution: id,
            step: 0,
        },
        kind: TimerKind::Ending,
    }
}
