//! The schedule actor of a flow: what is due is fired once, or has a row that says why not.
//!
//! An occurrence's ledger row, the execution that it starts and the next due time are one batch: it
//! cannot fire twice, whoever is leader. Occurrences are decided in order, whatever their jitter.
//! Here is when an occurrence is due and whether it is wanted; the files below start it, pause the
//! schedule, run a past range again, and note what was started by hand.

mod backfill;
mod control;
mod firing;
mod manual;
mod trim;

use std::sync::Arc;

use tidemill_rows::{
    Stored,
    table::{
        OccurrenceKind, OccurrenceOutcome, ScheduleControlRow, ScheduleRow, Timer, TimerKind,
        schedule_control_key, schedule_key,
    },
};
use tidemill_types::{
    ExecutionId, FlowId, StepId, Timestamp, limits::SCHEDULE_BACKLOG_MAX, schedule::CatchUpPolicy,
};

use super::Partition;
use crate::{
    flow::Plan,
    ledger::{Damage, Rows},
    schedule::{Occurrence, Schedule},
};

/// An occurrence as late as this fell due while nothing could fire. A healthy leader is late by
/// milliseconds; a failover takes about two seconds.
const LATE_MS: u64 = 1_000;
/// Most occurrences of one schedule decided in one turn; the rest follows in the next, so that a long
/// outage does not hold up everybody else.
const DECIDED_PER_TURN_MAX: usize = 200;

/// What names an occurrence: an instant and the local time that the schedule names for it, and why it
/// is one.
#[derive(Clone, Copy)]
struct Named {
    at: Timestamp,
    nominal: Timestamp,
    kind: OccurrenceKind,
}

/// The schedule of the version that is armed.
#[derive(Clone, Copy)]
struct Armed<'a> {
    flow: FlowId,
    version: u32,
    schedule: &'a Schedule,
}

/// An occurrence, and when it is due: never before the one before it.
#[derive(Clone, Copy)]
struct Due {
    occurrence: Occurrence,
    due: Timestamp,
}

impl From<&Occurrence> for Named {
    fn from(occurrence: &Occurrence) -> Self {
        Self {
            at: Timestamp::from_millis(occurrence.at_ms),
            nominal: Timestamp::from_millis(occurrence.nominal.and_utc().timestamp_millis()),
            kind: OccurrenceKind::Regular,
        }
    }
}

impl Partition {
    /// Arms the schedule of a flow that was armed: its first occurrence is the first after now. One
    /// that was paused stays so: a deployment must not undo what an operator did.
    pub(super) fn arm_schedule(
        &mut self,
        flow: FlowId,
        activation: u64,
        schedule: &Schedule,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let control = self
            .ledger
            .read::<ScheduleControlRow>(rows, &schedule_control_key(flow))?;
        let now = self.ledger.now();
        let next = schedule.occurrences_after(now.as_millis()).next();
        let mut row = ScheduleRow {
            activation,
            // From now on, as far as this start is concerned.
            paused_at: control.and_then(|control| control.paused_at).map(|_| now),
            ..ScheduleRow::default()
        };
        self.set_next(flow, &mut row, schedule, next, now);
        self.ledger.put(schedule_key(flow), row.to_bytes());
        Ok(())
    }

    /// Disarms the schedule of a flow. What is due by now is decided first, or else it would be
    /// missing from the ledger; what waits will not fire. False: too much is due, it takes turns.
    pub(super) fn disarm_schedule(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<bool, Damage> {
        if !self.settle_schedule(flow, rows)? {
            return Ok(false);
        }
        let Some(row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(true);
        };
        if let Some(due) = row.timer_due {
            self.remove_timer(timer(flow, due));
        }
        self.skip_delayed(flow, &row, rows)?;
        if let Some(queued) = row.queued {
            let named = Named {
                at: queued.at,
                nominal: queued.nominal,
                kind: OccurrenceKind::Regular,
            };
            self.skip(flow, named, "the flow was stopped");
        }
        if row.backfilling {
            self.stop_backfills(flow, rows)?;
        }
        self.ledger.delete(schedule_key(flow));
        Ok(true)
    }

    /// Occurrences whose instant has come, and whose jitter is not over, when the flow is stopped.
    fn skip_delayed(
        &mut self,
        flow: FlowId,
        row: &ScheduleRow,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let now = self.ledger.now();
        let Some(next_at) = row.next_at.filter(|next| *next <= now) else {
            return Ok(());
        };
        let Some(armed) = self.armed_flow(flow, rows)? else {
            return Ok(());
        };
        let plan = self.plan(flow, armed.row.version, rows)?;
        let Some(schedule) = &plan.schedule else {
            return Ok(());
        };
        let delayed: Vec<Occurrence> = schedule
            .occurrences_after(next_at.as_millis() - 1)
            .take_while(|occurrence| occurrence.at_ms <= now.as_millis())
            // Jitter is at most a day: more than this of them is a schedule of an absurd rate.
            .take(SCHEDULE_BACKLOG_MAX)
            .collect();
        for occurrence in &delayed {
            let reason = if occurrence.fires {
                "the flow was stopped before its jitter was over".to_owned()
            } else {
                occurrence.note_text()
            };
            self.skip(flow, occurrence.into(), &reason);
        }
        Ok(())
    }

    /// Sets the timer to the occurrence that comes next, unless the schedule is over; it is due at
    /// `not_before` at the earliest.
    fn set_next(
        &mut self,
        flow: FlowId,
        row: &mut ScheduleRow,
        schedule: &Schedule,
        next: Option<Occurrence>,
        not_before: Timestamp,
    ) {
        let is_over = schedule.end_after().is_some_and(|after| row.fired >= after);
        let next = next.filter(|_| !is_over);
        row.next_at = next.map(|next| Timestamp::from_millis(next.at_ms));
        row.timer_due = next.map(|next| due(flow, schedule, &next).max(not_before));
        if let Some(due) = row.timer_due {
            self.add_timer(timer(flow, due));
        }
    }

    /// The version that is armed, and its plan; none when the flow is not armed.
    fn armed_plan(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<Option<(u32, Arc<Plan>)>, Damage> {
        let Some(armed) = self.armed_flow(flow, rows)?.filter(|armed| armed.row.armed) else {
            return Ok(None);
        };
        let version = armed.row.version;
        Ok(Some((version, self.plan(flow, version, rows)?)))
    }

    /// A schedule's timer is due: decides what is due by now, in order, up to a number.
    pub(super) fn fire_schedule(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        self.decide_due(flow, DECIDED_PER_TURN_MAX, rows).map(drop)
    }

    /// Decides all that is due by now. False: it is more than may be decided at once, and nothing was.
    fn settle_schedule(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<bool, Damage> {
        let Some(row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(true);
        };
        let now = self.ledger.now();
        let Some(timer_due) = row.timer_due.filter(|due| *due <= now) else {
            return Ok(true);
        };
        if let Some((_, plan)) = self.armed_plan(flow, rows)?
            && let Some(schedule) = &plan.schedule
        {
            let pending = pending(flow, schedule, &row, now, SCHEDULE_BACKLOG_MAX + 1);
            if pending.len() > SCHEDULE_BACKLOG_MAX {
                return Ok(false);
            }
        }
        self.remove_timer(timer(flow, timer_due));
        self.decide_due(flow, SCHEDULE_BACKLOG_MAX, rows)?;
        Ok(true)
    }

    /// Decides at most about `most` occurrences that are due; the timer that led here is gone.
    fn decide_due(&mut self, flow: FlowId, most: usize, rows: &dyn Rows) -> Result<(), Damage> {
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        let Some(next_at) = row.next_at else {
            return Ok(());
        };
        let Some((version, plan)) = self.armed_plan(flow, rows)? else {
            return Ok(());
        };
        let Some(schedule) = &plan.schedule else {
            return Ok(());
        };
        let now = self.ledger.now();
        let pending = pending(flow, schedule, &row, now, most);
        let (after_ms, not_before) = match pending.last() {
            Some(last) => (last.occurrence.at_ms, last.due),
            None => (next_at.as_millis() - 1, row.timer_due.unwrap_or(now)),
        };
        let following = schedule.occurrences_after(after_ms).next();
        let is_all = following.is_none_or(|next| due(flow, schedule, &next).max(not_before) > now);
        let armed = Armed {
            flow,
            version,
            schedule,
        };
        self.decide(armed, &mut row, &pending, is_all, rows)?;
        self.trim_ledger(flow, &mut row, rows)?;
        self.set_next(flow, &mut row, schedule, following, not_before);
        self.ledger.put(schedule_key(flow), row.to_bytes());
        Ok(())
    }

    /// Decides occurrences that are due. `is_all`: no later one is due yet.
    fn decide(
        &mut self,
        armed: Armed<'_>,
        row: &mut ScheduleRow,
        pending: &[Due],
        is_all: bool,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let now = self.ledger.now();
        let Armed { flow, schedule, .. } = armed;
        let firing = pending.iter().filter(|due| due.occurrence.fires).count();
        let mut seen = 0;
        for Due { occurrence, due } in pending {
            let named = Named::from(occurrence);
            if !occurrence.fires {
                self.skip(flow, named, &occurrence.note_text());
                continue;
            }
            seen += 1;
            if schedule.end_after().is_some_and(|after| row.fired >= after) {
                // Beyond the schedule's end: no occurrence at all.
                return Ok(());
            }
            // What was due before the pause was decided when it began.
            if row.paused_at.is_some() {
                self.skip(flow, named, PAUSED);
                continue;
            }
            let late_ms = now.millis_since(*due);
            let is_latest = is_all && seen == firing;
            let is_late = late_ms >= LATE_MS;
            let is_wanted = match schedule.catch_up() {
                _ if !is_late => true,
                _ if late_ms > schedule.catch_up_window_ms() => false,
                CatchUpPolicy::All => true,
                CatchUpPolicy::One => is_latest,
                CatchUpPolicy::None => false,
            };
            if is_wanted {
                let outcome = if is_late {
                    OccurrenceOutcome::Late
                } else {
                    OccurrenceOutcome::Fired
                };
                self.start_occurrence(armed, row, named, outcome, rows)?;
            } else if late_ms > schedule.catch_up_window_ms() {
                self.skip(
                    flow,
                    named,
                    "fell due while nothing could fire, longer ago than catchUp.window",
                );
            } else {
                self.skip(
                    flow,
                    named,
                    "fell due while nothing could fire, and catchUp does not want it",
                );
            }
        }
        Ok(())
    }
}

/// Why an occurrence of a paused schedule does not fire.
const PAUSED: &str = "the schedule is paused";

/// At most about `most` occurrences that are due and not decided, in order. Those of one instant stay
/// together: the row remembers an instant only.
fn pending(
    flow: FlowId,
    schedule: &Schedule,
    row: &ScheduleRow,
    now: Timestamp,
    most: usize,
) -> Vec<Due> {
    let (Some(next_at), Some(mut not_before)) = (row.next_at, row.timer_due) else {
        return Vec::new();
    };
    let mut pending: Vec<Due> = Vec::new();
    for occurrence in schedule.occurrences_after(next_at.as_millis() - 1) {
        let due = due(flow, schedule, &occurrence).max(not_before);
        let is_same = pending
            .last()
            .is_some_and(|last| last.occurrence.at_ms == occurrence.at_ms);
        if !is_same && (due > now || pending.len() >= most) {
            break;
        }
        // One whose jitter is long holds up those behind it.
        not_before = due;
        pending.push(Due { occurrence, due });
    }
    pending
}

/// When an occurrence's timer is due: its instant and its jitter.
fn due(flow: FlowId, schedule: &Schedule, occurrence: &Occurrence) -> Timestamp {
    let seed = u64::from_be_bytes(flow.0[8..].try_into().expect("an id has 16 bytes"));
    Timestamp::from_millis(
        occurrence
            .at_ms
            .saturating_add(schedule.jitter_ms(seed, occurrence)),
    )
}

/// The timer of a flow's schedule.
fn timer(flow: FlowId, due: Timestamp) -> Timer {
    let step = StepId {
        execution: ExecutionId(flow.0),
        step: 0,
    };
    Timer {
        due,
        step,
        kind: TimerKind::Occurrence,
    }
}
