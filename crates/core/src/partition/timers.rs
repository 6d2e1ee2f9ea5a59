//! Timers: the near future in memory, the rest in rows ordered by due time.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidemill_rows::{
    journal::kind,
    key::{self, Table, after_prefix},
    table::{ExecutionState, StepState, Timer, TimerKind, timer_key, timer_of_key, timers_from},
};
use tidemill_types::{
    FlowId, Timestamp,
    limits::{TIMERS_LOADED_MAX, TIMERS_PER_TURN_MAX},
};

use super::{Partition, SYSTEM};
use crate::ledger::{Damage, Rows};

/// How far ahead timers are read. Longer costs memory, shorter costs reads.
const HORIZON_MS: u64 = 60_000;

/// Timers due before `loaded_until` are all in memory; later ones are in rows only.
#[derive(Debug)]
pub(super) struct Timers {
    near: BTreeSet<Timer>,
    loaded_until: Timestamp,
    /// There may be timers in rows beyond `loaded_until`.
    has_more: bool,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            near: BTreeSet::new(),
            loaded_until: Timestamp(i64::MIN),
            has_more: true,
        }
    }
}

impl Timers {
    /// When the next one is due, or when more are to be read.
    pub fn next_due(&self) -> Option<Timestamp> {
        let load_at = self.has_more.then_some(self.loaded_until);
        self.near
            .first()
            .map(|timer| timer.due)
            .into_iter()
            .chain(load_at)
            .min()
    }
}

impl Partition {
    pub(super) fn add_timer(&mut self, timer: Timer) {
        self.ledger.put_fresh(timer_key(&timer), Bytes::new());
        if timer.due < self.timers.loaded_until {
            self.timers.near.insert(timer);
        } else {
            self.timers.has_more = true;
        }
    }

    /// Adds a timer that may be there already.
    pub(super) fn add_repeated_timer(&mut self, timer: Timer) {
        // Not as a fresh row: when it fires within this batch, the row from before must go too.
        self.ledger.put(timer_key(&timer), Bytes::new());
        if timer.due < self.timers.loaded_until {
            self.timers.near.insert(timer);
        } else {
            self.timers.has_more = true;
        }
    }

    pub(super) fn remove_timer(&mut self, timer: Timer) {
        self.ledger.delete(timer_key(&timer));
        self.timers.near.remove(&timer);
    }

    /// Does what is due, up to a number: the rest follows in the next turn.
    pub(super) fn fire_timers(&mut self, rows: &dyn Rows) -> Result<(), Damage> {
        let now = self.ledger.now();
        for _ in 0..TIMERS_PER_TURN_MAX {
            if self.timers.has_more && now >= self.timers.loaded_until {
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
        let from = if self.timers.loaded_until == Timestamp(i64::MIN) {
            key::start(partition, Table::Timer, 0).freeze()
        } else {
            timers_from(partition, self.timers.loaded_until)
        };
        // One more than is taken, to know whether there are more.
        let found = self.ledger.scan(rows, &from, &end, TIMERS_LOADED_MAX + 1)?;
        let mut loaded_until = until;
        let mut has_more = false;
        for (at, (key, _)) in found.iter().enumerate() {
            let timer =
                timer_of_key(key).ok_or_else(|| Damage::Missing("a timer's parts".into()))?;
            // Timers of one instant stay together: the boundary is a time, not a key.
            let is_full = at >= TIMERS_LOADED_MAX;
            if is_full || timer.due >= until {
                has_more = true;
                if is_full {
                    loaded_until = loaded_until.min(timer.due);
                }
                break;
            }
            self.timers.near.insert(timer);
        }
        if loaded_until <= self.timers.loaded_until {
            // More timers of one instant than are read at once: read all of that instant.
            loaded_until = Timestamp(self.timers.loaded_until.0 + 1);
            let to = timers_from(partition, loaded_until);
            for (key, _) in self.ledger.scan(rows, &from, &to, usize::MAX)? {
                self.timers.near.extend(timer_of_key(&key));
            }
        }
        self.timers.near.retain(|timer| timer.due < loaded_until);
        self.timers.loaded_until = loaded_until;
        self.timers.has_more = has_more;
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
                    self.record_step(timer.step, kind::STEP_RESUMED, SYSTEM, |_| {});
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
