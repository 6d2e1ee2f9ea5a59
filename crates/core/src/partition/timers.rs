//! Timers: the near future in memory, the rest in rows ordered by due time.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemill_rows::{
    journal::{NewRecord, kind},
    key::{self, Table, after_prefix},
    table::{ExecutionState, StepState, Timer, TimerKind, timer_key, timer_key_in, timer_of_key},
};
use tidemill_types::{
    ExecutionId, FlowId, StepId, Timestamp,
    limits::{TIMERS_LOADED_MAX, TIMERS_PER_TURN_MAX},
};

use super::{Partition, SYSTEM};
use crate::ledger::{Damage, Rows};

/// How far ahead timers are read. Longer costs memory, shorter costs reads.
const HORIZON_MS: u64 = 60_000;

/// Timers before the boundary are all in memory; the others are in rows only.
#[derive(Debug)]
pub(super) struct Timers {
    near: BTreeSet<Timer>,
    /// A timer and not a time: a million may be due at one instant.
    boundary: Timer,
    /// There may be timers in rows from the boundary on.
    has_more: bool,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            near: BTreeSet::new(),
            boundary: first_of(Timestamp(i64::MIN)),
            has_more: true,
        }
    }
}

/// Before every timer that is due then.
fn first_of(due: Timestamp) -> Timer {
    Timer {
        due,
        step: StepId {
            execution: ExecutionId([0; 16]),
            step: 0,
        },
        kind: TimerKind::Retry,
    }
}

impl Timers {
    /// When the next one is due, or when more are to be read.
    pub fn next_due(&self) -> Option<Timestamp> {
        let load_at = self.has_more.then_some(self.boundary.due);
        self.near
            .first()
            .map(|timer| timer.due)
            .into_iter()
            .chain(load_at)
            .min()
    }

    /// Its row is or will be there.
    fn add(&mut self, timer: Timer) {
        if timer >= self.boundary {
            self.has_more = true;
            return;
        }
        self.near.insert(timer);
        // New ones within the horizon may be many too; the later half is read again when its time comes.
        if self.near.len() > 2 * TIMERS_LOADED_MAX
            && let Some(middle) = self.near.iter().nth(TIMERS_LOADED_MAX).copied()
        {
            self.near.split_off(&middle);
            self.boundary = middle;
            self.has_more = true;
        }
    }
}

impl Partition {
    #[cfg(test)]
    pub(super) fn timers_in_memory(&self) -> usize {
        self.timers.near.len()
    }

    pub(super) fn add_timer(&mut self, timer: Timer) {
        self.ledger.put_fresh(timer_key(&timer), Bytes::new());
        self.timers.add(timer);
    }

    /// Adds a timer that may be there already.
    pub(super) fn add_repeated_timer(&mut self, timer: Timer) {
        // Not as a fresh row: when it fires within this batch, the row from before must go too.
        self.ledger.put(timer_key(&timer), Bytes::new());
        self.timers.add(timer);
    }

    pub(super) fn remove_timer(&mut self, timer: Timer) {
        self.ledger.delete(timer_key(&timer));
        self.timers.near.remove(&timer);
    }

    /// Does what is due, up to a number: the rest follows in the next turn.
    pub(super) fn fire_timers(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let now = self.ledger.now();
        for _ in 0..TIMERS_PER_TURN_MAX {
            // All in memory come before the boundary.
            if self.timers.near.is_empty()
                && self.timers.has_more
                && now >= self.timers.boundary.due
            {
                self.load_timers(rows)?;
            }
            let Some(timer) = self
                .timers
                .near
                .first()
                .copied()
                .filter(|timer| timer.due <= now)
            else {
                return Ok(());
            };
            self.remove_timer(timer);
            self.fire(timer, rows)?;
        }
        Ok(())
    }

    fn load_timers(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let partition = self.ledger.partition();
        let until = self.ledger.now().plus_millis(HORIZON_MS);
        let prefix = key::prefix(partition, Table::Timer);
        let end = after_prefix(&prefix).expect("a table's prefix is not all 0xff");
        let boundary = self.timers.boundary;
        let from = if boundary.due == Timestamp(i64::MIN) {
            key::start(partition, Table::Timer).freeze()
        } else {
            timer_key_in(partition, &boundary)
        };
        // One more than is taken, to know whether there are more.
        let found = self.ledger.scan(rows, &from, &end, TIMERS_LOADED_MAX + 1)?;
        self.timers.boundary = first_of(until);
        self.timers.has_more = false;
        for (at, (key, _)) in found.iter().enumerate() {
            let timer =
                timer_of_key(key).ok_or_else(|| Damage::Missing("a timer's parts".into()))?;
            if at >= TIMERS_LOADED_MAX || timer.due >= until {
                self.timers.boundary = timer.min(self.timers.boundary);
                self.timers.has_more = true;
                break;
            }
            self.timers.near.insert(timer);
        }
        Ok(())
    }

    fn fire(&mut self, timer: Timer, rows: &dyn Rows) -> Result<(), Damage> {
        let id = timer.step.execution;
        if timer.kind == TimerKind::Retire {
            return self.retire(id, rows);
        }
        if timer.kind == TimerKind::Occurrence {
            return self.fire_schedule(FlowId(id.0), rows);
        }
        if timer.kind == TimerKind::Forget {
            return self.forget_slice(FlowId(id.0), rows);
        }
        if timer.kind == TimerKind::Backfill {
            return self.go_on_backfill(FlowId(id.0), rows);
        }
        if !self.hydrate(id, rows)? {
            return Ok(());
        }
        match timer.kind {
            TimerKind::Ending => self.end_slice(id),
            TimerKind::Retry | TimerKind::Wait if self.is_ending(id) => {
                let is_live = self.step_state(timer.step).is_some_and(StepState::is_live);
                if is_live {
                    self.ends_here(timer.step);
                }
            }
            TimerKind::Retry => {
                if self.step_state(timer.step) == Some(StepState::RetryWait) {
                    self.change_step(timer.step, |step| {
                        step.state = StepState::Pending;
                        step.due_at = None;
                    });
                    self.record_step(timer.step, NewRecord::of(kind::STEP_RESUMED, SYSTEM));
                    self.enqueue(timer.step);
                }
            }
            TimerKind::Wait => {
                if self.step_state(timer.step) == Some(StepState::Running) {
                    self.finish_wait(timer.step, rows)?;
                }
            }
            TimerKind::ExecutionTimeout => {
                if self
                    .executions
                    .get(&id)
                    .is_some_and(|e| !e.row.state.is_ended())
                {
                    self.end_early(
                        id,
                        ExecutionState::TimedOut,
                        "the flow's timeout",
                        SYSTEM,
                        "",
                    );
                }
            }
            TimerKind::Retire | TimerKind::Occurrence | TimerKind::Forget | TimerKind::Backfill => {
                unreachable!("handled above")
            }
        }
        Ok(())
    }
}
