//! `Redrive`: dead steps run again, in the same execution, which goes on from there.

use tidemill_rows::{
    journal::{NewRecord, kind},
    table::{ExecutionState, StepState, Timer, TimerKind},
};
use tidemill_types::StepId;

use super::{CLIENT, Partition, cancel::fingerprint};
use crate::{
    Rejection,
    command::{PartitionReply, RedriveExecution},
    ledger::{Damage, Rows},
};

impl Partition {
    pub(super) fn redrive(
        &mut self,
        command: RedriveExecution,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let RedriveExecution {
            execution: id,
            mut steps,
            request_id,
        } = command;
        steps.sort_unstable();
        steps.dedup();
        let fingerprint = fingerprint(b"redrive", &steps);
        match self.repeated(id, &request_id, fingerprint, rows)? {
            Some(Err(rejection)) => return Ok(Err(rejection)),
            Some(Ok(steps)) => return Ok(Ok(PartitionReply::Redriven { steps })),
            None => {}
        }
        if !self.hydrate(id, rows)? {
            return Ok(Err(Rejection::ExecutionNotFound(id)));
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return Ok(Err(Rejection::ExecutionNotFound(id)));
        };
        let state = execution.row.state;
        if state != ExecutionState::Failed {
            return Ok(Err(Rejection::NotRedrivable {
                execution: id,
                state,
            }));
        }
        let is_dead = |number: &u32| {
            execution
                .steps
                .get(number)
                .is_some_and(|step| step.state == StepState::Dead)
        };
        if steps.is_empty() {
            steps = execution
                .steps
                .keys()
                .copied()
                .filter(|number| is_dead(number))
                .collect();
        } else if let Some(step) = steps.iter().copied().find(|number| !is_dead(number)) {
            return Ok(Err(Rejection::StepNotDead {
                execution: id,
                step,
            }));
        }
        let flow = execution.row.flow;
        if let Some(rejection) = self.backlog_full(flow) {
            return Ok(Err(rejection));
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return Ok(Err(Rejection::ExecutionNotFound(id)));
        };
        let now = self.ledger.now();
        let retire_at = execution.row.retire_at.take();
        let deadline = execution.plan.timeout_ms.map(|ms| now.plus_millis(ms));
        execution.row.state = ExecutionState::Running;
        execution.row.ended_at = None;
        execution.row.reason.clear();
        execution.row.deadline = deadline;
        execution.index_changed = true;
        self.touch(id);
        let of_execution = StepId {
            execution: id,
            step: 0,
        };
        if let Some(due) = retire_at {
            self.remove_timer(Timer {
                due,
                step: of_execution,
                kind: TimerKind::Retire,
            });
        }
        if let Some(due) = deadline {
            self.add_timer(Timer {
                due,
                step: of_execution,
                kind: TimerKind::ExecutionTimeout,
            });
        }
        let count = steps.len() as u32;
        self.record_execution(
            id,
            NewRecord {
                request_id: &request_id,
                number: u64::from(count),
                ..NewRecord::of(kind::EXECUTION_REDRIVEN, CLIENT)
            },
        );
        for step in steps {
            let step = StepId {
                execution: id,
                step,
            };
            self.change_step(step, |step| {
                step.state = StepState::Pending;
                step.failures = 0;
                step.lost = 0;
                step.rebounds = 0;
                step.ended_at = None;
            });
            self.record_step(step, NewRecord::of(kind::STEP_REDRIVEN, CLIENT));
            self.enqueue(step);
        }
        self.remember(id, &request_id, fingerprint, count);
        Ok(Ok(PartitionReply::Redriven { steps: count }))
    }
}
