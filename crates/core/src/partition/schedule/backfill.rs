//! A past range of a schedule is run on request.
//!
//! Each occurrence of the range has one ledger row of its own kind, whatever became of the regular one,
//! and however often the range is asked for: the row's key is the occurrence. It is run in slices,
//! each a batch with its own progress, so that a new leader goes on where the last one was. It runs
//! beside the regular occurrences, and whether or not the schedule is paused: somebody asked for it.

use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Stored,
    journal::{NewRecord, kind},
    table::{
        BackfillRow, BackfillState, OccurrenceKind, OccurrenceOutcome, OccurrenceRow, ScheduleRow,
        Timer, TimerKind, backfill_key, backfill_occurrence_key, backfills_prefix, occurrence_key,
        request_of_backfill_key, schedule_key,
    },
};
use tidemill_types::{
    ExecutionId, FlowId, StepId, Timestamp,
    limits::{BACKFILL_OCCURRENCES_MAX, BACKFILLS_KEPT_MAX, BACKFILLS_RUNNING_MAX, PAGE_SIZE_MAX},
    schedule::OverlapPolicy,
};

use super::{Armed, Named, firing::Firing};
use crate::{
    Rejection,
    command::{Backfill, PartitionReply},
    ledger::{Damage, Rows},
    partition::{CLIENT, Partition, SYSTEM},
    schedule::{Occurrence, Schedule},
};

/// Most occurrences decided in one slice: other work goes between two of them.
const DECIDED_PER_SLICE_MAX: usize = 100;
/// Between two slices.
const SLICE_PAUSE_MS: u64 = 50;

impl Partition {
    pub(in crate::partition) fn backfill(
        &mut self,
        command: Backfill,
        rows: &dyn Rows,
    ) -> Result<Result<PartitionReply, Rejection>, Damage> {
        let flow = command.flow;
        let fingerprint = fingerprint(&command);
        let key = backfill_key(flow, &command.request_id);
        if !command.dry_run
            && let Some(backfill) = self.ledger.read::<BackfillRow>(rows, &key)?
        {
            return Ok(if backfill.fingerprint == fingerprint {
                Ok(PartitionReply::Backfill {
                    backfill,
                    created: false,
                    occurrences: Vec::new(),
                })
            } else {
                Err(Rejection::RequestIdReused(command.request_id))
            });
        }
        let version = match self.require_schedule(flow, rows)? {
            Ok(version) => version,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let now = self.ledger.now();
        if command.from >= command.to {
            return Ok(Err(Rejection::invalid("to", "must be after from")));
        }
        if command.to > now {
            return Ok(Err(Rejection::invalid(
                "to",
                format!("must not be after now ({now}): what is to come fires by itself"),
            )));
        }
        let plan = self.plan(flow, version, rows)?;
        let Some(schedule) = &plan.schedule else {
            return Ok(Err(no_schedule()));
        };
        let mut occurrences: Vec<Occurrence> = schedule
            .occurrences_after(command.from.as_millis() - 1)
            .take_while(|occurrence| occurrence.at_ms < command.to.as_millis())
            .filter(|occurrence| occurrence.fires)
            .take(BACKFILL_OCCURRENCES_MAX + 1)
            .collect();
        if occurrences.len() > BACKFILL_OCCURRENCES_MAX {
            return Ok(Err(Rejection::invalid(
                "to",
                format!(
                    "the range has more than {BACKFILL_OCCURRENCES_MAX} occurrences, the most \
                     that one backfill runs: ask for a shorter one"
                ),
            )));
        }
        let backfill = BackfillRow {
            from: command.from,
            to: command.to,
            only_missed: command.only_missed,
            total: occurrences.len() as u64,
            requested_at: now,
            fingerprint,
            ..BackfillRow::default()
        };
        if command.dry_run {
            occurrences.truncate(PAGE_SIZE_MAX as usize);
            return Ok(Ok(PartitionReply::Backfill {
                backfill,
                created: false,
                occurrences,
            }));
        }
        if let Err(rejection) = self.make_room(flow, rows)? {
            return Ok(Err(rejection));
        }
        self.ledger.put(key, backfill.to_bytes());
        self.record_backfill(
            flow,
            kind::BACKFILL_STARTED,
            CLIENT,
            &command.request_id,
            &backfill,
        );
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Err(Damage::Missing(format!("the schedule of {flow}")));
        };
        row.backfilling = true;
        self.ledger.put(schedule_key(flow), row.to_bytes());
        self.wake_backfill(flow);
        Ok(Ok(PartitionReply::Backfill {
            backfill,
            created: true,
            occurrences: Vec::new(),
        }))
    }

    /// The version whose schedule is armed, or why there is none.
    pub(super) fn require_schedule(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<Result<u32, Rejection>, Damage> {
        let armed = self.armed_flow(flow, rows)?.filter(|flow| flow.row.armed);
        let Some(armed) = armed else {
            return Ok(Err(Rejection::FlowNotActive(flow)));
        };
        let has_schedule = self.ledger.get(rows, &schedule_key(flow))?.is_some();
        Ok(if has_schedule {
            Ok(armed.row.version)
        } else {
            Err(no_schedule())
        })
    }

    /// Forgets the oldest backfills that have ended; refuses when too many run.
    fn make_room(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<Result<(), Rejection>, Damage> {
        let mut all = self.backfills(flow, rows)?;
        let is_under_way = |(_, row): &&(String, BackfillRow)| row.state == BackfillState::Running;
        if all.iter().filter(is_under_way).count() >= BACKFILLS_RUNNING_MAX {
            return Ok(Err(Rejection::LimitReached {
                what: "the number of the flow's backfills under way",
                limit: BACKFILLS_RUNNING_MAX as u64,
            }));
        }
        let excess = (all.len() + 1).saturating_sub(BACKFILLS_KEPT_MAX);
        all.retain(|(_, row)| row.state != BackfillState::Running);
        for (request_id, _) in all.into_iter().take(excess) {
            self.ledger.delete(backfill_key(flow, &request_id));
        }
        Ok(Ok(()))
    }

    /// A flow's backfills, oldest first.
    fn backfills(
        &self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<Vec<(String, BackfillRow)>, Damage> {
        let mut all = Vec::new();
        for (key, value) in self.ledger.scan_prefix(rows, &backfills_prefix(flow))? {
            let request_id = request_of_backfill_key(&key).ok_or_else(|| {
                Damage::Missing(format!("the request id of a backfill of {flow}"))
            })?;
            all.push((request_id, BackfillRow::from_bytes(value)?));
        }
        all.sort_by_key(|(_, row)| row.requested_at);
        Ok(all)
    }

    /// Has a slice run as soon as what is being decided now is.
    pub(super) fn wake_backfill(&mut self, flow: FlowId) {
        let now = self.ledger.now();
        self.add_repeated_timer(timer(flow, now));
    }

    /// The timer of a flow's backfills is due: a slice of the oldest one that runs.
    pub(in crate::partition) fn go_on_backfill(
        &mut self,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        let Some((version, plan)) = self.armed_plan(flow, rows)? else {
            return Ok(());
        };
        let Some(schedule) = &plan.schedule else {
            return Ok(());
        };
        let mut running = self.backfills(flow, rows)?;
        running.retain(|(_, row)| row.state == BackfillState::Running);
        let more = running.len() > 1;
        let Some((request_id, mut backfill)) = running.into_iter().next() else {
            row.backfilling = false;
            self.ledger.put(schedule_key(flow), row.to_bytes());
            return Ok(());
        };
        let armed = Armed {
            flow,
            version,
            schedule,
        };
        match self.slice(armed, &mut backfill, rows)? {
            Slice::Again => {
                let due = self.ledger.now().plus_millis(SLICE_PAUSE_MS);
                self.add_repeated_timer(timer(flow, due));
            }
            // Its end wakes the backfill.
            Slice::Waits => {}
            Slice::Over => {
                backfill.state = BackfillState::Done;
                self.record_backfill(flow, kind::BACKFILL_DONE, SYSTEM, &request_id, &backfill);
                if more {
                    self.wake_backfill(flow);
                } else {
                    row.backfilling = false;
                    self.ledger.put(schedule_key(flow), row.to_bytes());
                }
            }
        }
        self.ledger
            .put(backfill_key(flow, &request_id), backfill.to_bytes());
        Ok(())
    }

    fn slice(
        &mut self,
        armed: Armed<'_>,
        backfill: &mut BackfillRow,
        rows: &dyn Rows,
    ) -> Result<Slice, Damage> {
        let Armed {
            flow,
            version,
            schedule,
        } = armed;
        let todo = left(schedule, backfill, DECIDED_PER_SLICE_MAX + 1);
        for (index, occurrence) in todo.iter().enumerate() {
            if index >= DECIDED_PER_SLICE_MAX {
                return Ok(Slice::Again);
            }
            if schedule.overlap() != OverlapPolicy::Allow
                && let Some(before) = backfill.last_execution
                && self.execution_runs(before, rows)?
            {
                return Ok(Slice::Waits);
            }
            let named = Named {
                kind: OccurrenceKind::Backfill,
                ..Named::from(occurrence)
            };
            if self.is_wanted(flow, named, backfill.only_missed, rows)? {
                let next = schedule
                    .next_after(occurrence.at_ms)
                    .map(|next| Timestamp::from_millis(next.at_ms));
                let firing = Firing {
                    named,
                    next,
                    outcome: OccurrenceOutcome::Fired,
                    reason: "",
                };
                if let Some(execution) = self.fire_occurrence(flow, version, firing, rows)? {
                    backfill.started += 1;
                    backfill.last_execution = Some(execution);
                    // It may be over at once: the next one need not wait then.
                    self.run_builtins(rows)?;
                }
            }
            backfill.decided += 1;
            backfill.last_at = Some(named.at);
            backfill.last_nominal = named.nominal;
        }
        Ok(Slice::Over)
    }

    fn execution_runs(&mut self, id: ExecutionId, rows: &dyn Rows) -> Result<bool, Damage> {
        Ok(self.hydrate(id, rows)?
            && self
                .executions
                .get(&id)
                .is_some_and(|execution| !execution.row.state.is_ended()))
    }

    /// False when a backfill has run it before, or the regular one did and only others are wanted.
    fn is_wanted(
        &self,
        flow: FlowId,
        named: Named,
        only_missed: bool,
        rows: &dyn Rows,
    ) -> Result<bool, Damage> {
        let Named { at, nominal, .. } = named;
        let own = backfill_occurrence_key(flow, at, nominal);
        if self.ledger.get(rows, &own)?.is_some() {
            return Ok(false);
        }
        if !only_missed {
            return Ok(true);
        }
        let regular = self
            .ledger
            .read::<OccurrenceRow>(rows, &occurrence_key(flow, at, nominal))?;
        Ok(regular.is_none_or(|row| row.outcome == OccurrenceOutcome::Skipped))
    }

    /// The flow is stopped: its backfills end where they are.
    pub(super) fn stop_backfills(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        for (request_id, mut backfill) in self.backfills(flow, rows)? {
            if backfill.state == BackfillState::Running {
                backfill.state = BackfillState::Stopped;
                self.record_backfill(flow, kind::BACKFILL_STOPPED, SYSTEM, &request_id, &backfill);
                self.ledger
                    .put(backfill_key(flow, &request_id), backfill.to_bytes());
            }
        }
        Ok(())
    }

    fn record_backfill(
        &mut self,
        flow: FlowId,
        kind: &str,
        actor: &str,
        request_id: &str,
        backfill: &BackfillRow,
    ) {
        self.ledger.record(&NewRecord {
            kind,
            actor,
            request_id,
            flow: Some(flow),
            detail: &format!("from {} to {}", backfill.from, backfill.to),
            number: match kind {
                kind::BACKFILL_STARTED => backfill.total,
                _ => backfill.started,
            },
            ..NewRecord::default()
        });
    }
}

/// How a slice ended.
enum Slice {
    /// More is to be done.
    Again,
    /// The next one waits for an execution to end.
    Waits,
    /// The range is done.
    Over,
}

/// The first occurrences of a backfill that are not decided yet.
fn left(schedule: &Schedule, backfill: &BackfillRow, most: usize) -> Vec<Occurrence> {
    let from = backfill.last_at.unwrap_or(backfill.from);
    let done = backfill.last_at.map(|at| (at, backfill.last_nominal));
    schedule
        .occurrences_after(from.as_millis() - 1)
        .take_while(|occurrence| occurrence.at_ms < backfill.to.as_millis())
        .filter(|occurrence| {
            let named = Named::from(occurrence);
            occurrence.fires && done.is_none_or(|done| (named.at, named.nominal) > done)
        })
        .take(most)
        .collect()
}

fn no_schedule() -> Rejection {
    Rejection::invalid("flow", "has no schedule")
}

fn timer(flow: FlowId, due: Timestamp) -> Timer {
    let step = StepId {
        execution: ExecutionId(flow.0),
        step: 0,
    };
    Timer {
        due,
        step,
        kind: TimerKind::Backfill,
    }
}

fn fingerprint(command: &Backfill) -> Hash {
    let digest = Sha256::new()
        .chain_update(command.from.0.to_be_bytes())
        .chain_update(command.to.0.to_be_bytes())
        .chain_update([u8::from(command.only_missed)]);
    Hash(digest.finalize().into())
}
