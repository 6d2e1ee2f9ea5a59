//! I5: every live step is in exactly one of queue, lease and timer, and nothing else is; messages wait
//! at joins of running executions only. And the other way round: queue, lease, timer and join rows
//! name what they should.

use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    key::Table,
    table::{
        ArmedFlowRow, ExecutionRow, LeaseRow, ScheduleRow, StepRow, StepState, Timer, TimerKind,
        armed_flow_key, execution_key, joins_prefix, lease_key, messages_prefix, queue_key,
        schedule_key, step_key, step_of_key, steps_prefix, timer_key, timer_of_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, StepId};

use super::{Checked, Violation, view};

const NAME: &str = "I5 every live step is in one place";

fn violation(what: String) -> Checked {
    Err(Violation::new(NAME, what))
}

/// The steps of one execution.
///
/// # Errors
/// When one is in no place, or in several.
pub fn of_execution(id: ExecutionId, rows: &MemoryRows) -> Checked {
    let row: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
    let Some(row) = row else {
        for prefix in [steps_prefix(id), messages_prefix(id), joins_prefix(id)] {
            if let Some((key, _)) = view::with_prefix(rows, &prefix).first() {
                return violation(format!("{id} is gone and has left {key:?}"));
            }
        }
        return Ok(());
    };
    let joins = view::with_prefix(rows, &joins_prefix(id)).len();
    if joins > 0 && row.state.is_ended() {
        return violation(format!("{id} is {}, and {joins} wait at joins", row.state));
    }
    for (key, value) in view::with_prefix(rows, &steps_prefix(id)) {
        let Some(step_id) = step_of_key(&key) else {
            return violation(format!("key {key:?} names no step"));
        };
        let step: StepRow = view::decode(&key, value)?;
        of_step(step_id, &step, rows)?;
        if step.state.is_live() && row.state.is_ended() {
            return violation(format!("{step_id} is {} in an ended execution", step.state));
        }
    }
    Ok(())
}

fn of_step(id: StepId, step: &StepRow, rows: &MemoryRows) -> Checked {
    let queued = view::has(rows, &queue_key(id));
    let lease: Option<LeaseRow> = view::row(rows, &lease_key(id))?;
    let timer = |kind| {
        step.due_at.is_some_and(|due| {
            let timer = Timer {
                due,
                step: id,
                kind,
            };
            view::has(rows, &timer_key(&timer))
        })
    };
    let (retry, wait) = (timer(TimerKind::Retry), timer(TimerKind::Wait));
    let places = (queued, lease.is_some(), retry, wait);
    let good = match step.state {
        StepState::Pending => places == (true, false, false, false),
        StepState::Running => {
            places == (false, true, false, false) || places == (false, false, false, true)
        }
        StepState::RetryWait => places == (false, false, true, false),
        _ => places == (false, false, false, false) && step.due_at.is_none(),
    };
    if !good {
        return violation(format!(
            "{id} is {}; (queue, lease, retry timer, wait timer) = {places:?}, due {:?}",
            step.state, step.due_at
        ));
    }
    if let Some(lease) = lease
        && (lease.attempt, &lease.worker) != (step.attempt, &step.worker)
    {
        return violation(format!(
            "{id} is at attempt {} by {}, its lease at {} by {}",
            step.attempt, step.worker, lease.attempt, lease.worker
        ));
    }
    Ok(())
}

/// All rows of queues, leases, timers and joins: each names something that is there.
///
/// # Errors
/// When one does not.
pub fn whole(partition: PartitionId, rows: &MemoryRows) -> Checked {
    for (table, state) in [
        (Table::Queue, StepState::Pending),
        (Table::Lease, StepState::Running),
    ] {
        for (key, _) in view::table(rows, partition, table) {
            let step = step_of_key(&key).map(|id| view::row::<StepRow>(rows, &step_key(id)));
            let step = step.transpose()?.flatten();
            if step.as_ref().map(|step| step.state) != Some(state) {
                return violation(format!("{table:?} row {key:?} names {step:?}"));
            }
        }
    }
    for (key, _) in view::table(rows, partition, Table::Timer) {
        let Some(timer) = timer_of_key(&key) else {
            return violation(format!("key {key:?} names no timer"));
        };
        let id = timer.step.execution;
        let execution: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        let step: Option<StepRow> = view::row(rows, &step_key(timer.step))?;
        let due = |state| {
            step.as_ref()
                .filter(|step| step.state == state)
                .and_then(|step| step.due_at)
        };
        let expected = match timer.kind {
            TimerKind::Retry => due(StepState::RetryWait),
            TimerKind::Wait => due(StepState::Running),
            TimerKind::ExecutionTimeout => execution
                .filter(|row| !row.state.is_ended())
                .and_then(|row| row.deadline),
            TimerKind::Retire => execution
                .filter(|row| row.state.is_ended())
                .and_then(|row| row.retire_at),
            TimerKind::Ending => execution
                .and_then(|row| row.ending)
                .map(|ending| ending.next_at),
            TimerKind::Forget => {
                let row: Option<ArmedFlowRow> = view::row(rows, &armed_flow_key(FlowId(id.0)))?;
                row.and_then(|row| row.forget_at)
            }
            TimerKind::Occurrence => {
                let row: Option<ScheduleRow> = view::row(rows, &schedule_key(FlowId(id.0)))?;
                row.and_then(|row| row.timer_due)
            }
            // It only says that there may be something to do: one too many does nothing.
            TimerKind::Backfill => Some(timer.due),
        };
        if expected != Some(timer.due) {
            return violation(format!("{timer:?}: expected to be due at {expected:?}"));
        }
    }
    for (key, _) in view::table(rows, partition, Table::Join) {
        let id = step_of_key(&key).map(|id| id.execution).unwrap_or_default();
        let execution: Option<ExecutionRow> = view::row(rows, &execution_key(id))?;
        if execution.is_none_or(|row| row.state.is_ended()) {
            return violation(format!(
                "a message waits at a join of {id}, which does not run"
            ));
        }
    }
    Ok(())
}
