//! The schedule actor of a flow: what is due is fired once, or has a row that says why not.
//!
//! An occurrence's ledger row, the execution that it starts and the next due time are one batch: it
//! cannot fire twice, whoever is leader. Occurrences are decided in order, whatever their jitter.

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Stored,
    journal::{JournalRecord, kind, payload_hash},
    table::{
        ExecutionState, MessageRow, OccurrenceOutcome, OccurrenceRow, QueuedOccurrence,
        ScheduleRow, Timer, TimerKind, occurrence_key, schedule_key,
    },
};
use tidemill_types::{
    ExecutionId, FlowId, StepId, Timestamp,
    schedule::{CatchUpPolicy, OverlapPolicy},
};

use super::{Partition, SYSTEM, start::Begin};
use crate::{
    ledger::{Damage, Rows},
    schedule::{Occurrence, Schedule},
};

/// An occurrence later than this fell due while nothing could fire. A healthy leader is late by
/// milliseconds; a failover takes about two seconds.
const LATE_MS: u64 = 1_000;
/// Most occurrences of one schedule decided in one turn; the rest follows in the next, so that a long
/// outage does not hold up everybody else.
const DECIDED_PER_TURN_MAX: usize = 200;

/// An instant and the local time that the schedule names for it.
#[derive(Clone, Copy)]
struct Named {
    at: Timestamp,
    nominal: Timestamp,
}

/// The schedule of the version that is armed.
#[derive(Clone, Copy)]
struct Armed<'a> {
    flow: FlowId,
    version: u32,
    schedule: &'a Schedule,
}

/// How an occurrence fires.
struct Firing<'a> {
    named: Named,
    /// The one after it, for the message.
    next: Option<Timestamp>,
    outcome: OccurrenceOutcome,
    reason: &'a str,
}

impl From<&Occurrence> for Named {
    fn from(occurrence: &Occurrence) -> Self {
        Self {
            at: Timestamp::from_millis(occurrence.at_ms),
            nominal: Timestamp::from_millis(occurrence.nominal.and_utc().timestamp_millis()),
        }
    }
}

impl Partition {
    /// Arms the schedule of a flow that was armed: its first occurrence is the first after now.
    pub(super) fn arm_schedule(&mut self, flow: FlowId, activation: u64, schedule: &Schedule) {
        let mut row = ScheduleRow {
            activation,
            ..ScheduleRow::default()
        };
        self.set_next(flow, &mut row, schedule, self.ledger.now().as_millis());
        self.ledger.put(schedule_key(flow), row.to_bytes());
    }

    /// Disarms the schedule of a flow; an occurrence that waits will not fire.
    pub(super) fn disarm_schedule(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        let Some(row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        if let Some(due) = row.timer_due {
            self.remove_timer(timer(flow, due));
        }
        if let Some(queued) = row.queued {
            let named = Named {
                at: queued.at,
                nominal: queued.nominal,
            };
            self.skip(flow, named, "the flow was stopped");
        }
        self.ledger.delete(schedule_key(flow));
        Ok(())
    }

    /// Sets the timer to the first occurrence after an instant.
    fn set_next(
        &mut self,
        flow: FlowId,
        row: &mut ScheduleRow,
        schedule: &Schedule,
        after_ms: i64,
    ) {
        let is_over = schedule.end_after().is_some_and(|after| row.fired >= after);
        let next = if is_over {
            None
        } else {
            schedule.occurrences_after(after_ms).next()
        };
        row.next_at = next.map(|next| Timestamp::from_millis(next.at_ms));
        row.timer_due = next.map(|next| due(flow, schedule, &next));
        if let Some(due) = row.timer_due {
            self.add_timer(timer(flow, due));
        }
    }

    /// A schedule's timer is due: decides every occurrence that is due by now, in order.
    pub(super) fn fire_schedule(&mut self, flow: FlowId, rows: &dyn Rows) -> Result<(), Damage> {
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        let Some(next_at) = row.next_at else {
            return Ok(());
        };
        let Some(armed) = self.armed_flow(flow, rows)?.filter(|armed| armed.row.armed) else {
            return Ok(());
        };
        let plan = self.plan(flow, armed.row.version, rows)?;
        let Some(schedule) = &plan.schedule else {
            return Ok(());
        };
        let now = self.ledger.now();
        let mut occurrences = schedule
            .occurrences_after(next_at.as_millis() - 1)
            .peekable();
        let mut pending = Vec::new();
        while pending.len() < DECIDED_PER_TURN_MAX
            && let Some(next) = occurrences.next_if(|next| due(flow, schedule, next) <= now)
        {
            pending.push(next);
        }
        // All occurrences of one instant are decided in one turn: the row remembers an instant only.
        if let Some(last) = pending.last().copied() {
            while let Some(same) = occurrences.next_if(|next| next.at_ms == last.at_ms) {
                pending.push(same);
            }
        }
        let following = occurrences.peek().copied();
        let is_all = following.is_none_or(|next| due(flow, schedule, &next) > now);
        let armed = Armed {
            flow,
            version: armed.row.version,
            schedule,
        };
        self.decide(armed, &mut row, &pending, is_all, rows)?;
        let after_ms = pending
            .last()
            .map_or(next_at.as_millis() - 1, |last| last.at_ms);
        self.set_next(flow, &mut row, schedule, after_ms);
        self.ledger.put(schedule_key(flow), row.to_bytes());
        Ok(())
    }

    /// Decides occurrences that are due. `is_all`: no later one is due yet.
    fn decide(
        &mut self,
        armed: Armed<'_>,
        row: &mut ScheduleRow,
        pending: &[Occurrence],
        is_all: bool,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let now = self.ledger.now();
        let Armed { flow, schedule, .. } = armed;
        let firing = pending.iter().filter(|occurrence| occurrence.fires).count();
        let mut seen = 0;
        for occurrence in pending {
            let named = Named::from(occurrence);
            if !occurrence.fires {
                let note = occurrence
                    .note
                    .map(|note| note.to_string())
                    .unwrap_or_default();
                self.skip(flow, named, &note);
                continue;
            }
            seen += 1;
            if schedule.end_after().is_some_and(|after| row.fired >= after) {
                // Beyond the schedule's end: no occurrence at all.
                return Ok(());
            }
            let late_ms = now.millis_since(due(flow, schedule, occurrence));
            let is_latest = is_all && seen == firing;
            let is_late = late_ms > LATE_MS || !is_latest;
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

    /// Starts the execution of an occurrence, unless the one before still runs and that matters.
    fn start_occurrence(
        &mut self,
        armed: Armed<'_>,
        row: &mut ScheduleRow,
        named: Named,
        outcome: OccurrenceOutcome,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let Armed {
            flow,
            version,
            schedule,
        } = armed;
        if let Some(before) = row.last_execution
            && schedule.overlap() != OverlapPolicy::Allow
            && self.hydrate(before, rows)?
            && self
                .executions
                .get(&before)
                .is_some_and(|e| !e.row.state.is_ended())
        {
            match schedule.overlap() {
                OverlapPolicy::Allow => {}
                OverlapPolicy::Skip => {
                    self.skip(
                        flow,
                        named,
                        "the execution before still runs (overlap: skip)",
                    );
                    return Ok(());
                }
                OverlapPolicy::QueueOne if row.queued.is_some() => {
                    self.skip(
                        flow,
                        named,
                        "another occurrence waits already (overlap: queueOne)",
                    );
                    return Ok(());
                }
                OverlapPolicy::QueueOne => {
                    row.queued = Some(QueuedOccurrence {
                        at: named.at,
                        nominal: named.nominal,
                    });
                    self.write_occurrence(
                        flow,
                        named,
                        OccurrenceOutcome::Queued,
                        "waits for the execution before (overlap: queueOne)",
                        None,
                        kind::OCCURRENCE_QUEUED,
                    );
                    return Ok(());
                }
                OverlapPolicy::CancelPrevious => {
                    let reason = "the next occurrence is due (overlap: cancelPrevious)";
                    self.end_early(before, ExecutionState::Cancelled, reason, SYSTEM, "");
                }
            }
        }
        let next = schedule
            .next_after(named.at.as_millis())
            .map(|next| Timestamp::from_millis(next.at_ms));
        let firing = Firing {
            named,
            next,
            outcome,
            reason: "",
        };
        self.fire_now(flow, version, row, firing, rows)
    }

    fn fire_now(
        &mut self,
        flow: FlowId,
        version: u32,
        row: &mut ScheduleRow,
        firing: Firing<'_>,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let Firing {
            named,
            next,
            outcome,
            reason,
        } = firing;
        let data = json!({
            "scheduledTimestamp": named.at.to_string(),
            "nextScheduledTimestamp": next.map(|next| next.to_string()),
        });
        let metadata = json!({ "source": { "name": "scheduler", "type": "scheduler" } });
        let message = MessageRow {
            data: Bytes::from(data.to_string()),
            metadata: Bytes::from(metadata.to_string()),
            ..MessageRow::default()
        };
        let hash = payload_hash(&message.to_bytes());
        let digest: [u8; 32] = Sha256::new()
            .chain_update(flow.0)
            .chain_update(named.at.0.to_be_bytes())
            .chain_update(named.nominal.0.to_be_bytes())
            .finalize()
            .into();
        let begin = Begin {
            flow,
            version,
            message,
            request_id: format!("schedule/{flow}/{}/{}", named.at, named.nominal),
            fingerprint: Hash(digest),
            traceparent: String::new(),
            tracestate: String::new(),
            entropy: u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes")),
            occurrence_at: Some(named.at),
        };
        // The id is drawn from the occurrence itself: it is in use only if 64 bits of SHA-256 met.
        let Some(execution) = self.begin(begin, hash, rows)? else {
            self.skip(flow, named, "its execution id is in use");
            return Ok(());
        };
        row.fired += 1;
        row.last_execution = Some(execution);
        self.write_occurrence(
            flow,
            named,
            outcome,
            reason,
            Some(execution),
            kind::OCCURRENCE_FIRED,
        );
        Ok(())
    }

    /// An execution of a schedule has ended: the occurrence that waits for it starts.
    pub(super) fn after_scheduled(
        &mut self,
        ended: ExecutionId,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        if row.last_execution != Some(ended) {
            return Ok(());
        }
        let Some(queued) = row.queued.take() else {
            return Ok(());
        };
        let Some(armed) = self.armed_flow(flow, rows)?.filter(|armed| armed.row.armed) else {
            return Ok(());
        };
        let named = Named {
            at: queued.at,
            nominal: queued.nominal,
        };
        let firing = Firing {
            named,
            next: row.next_at,
            outcome: OccurrenceOutcome::Late,
            reason: "waited for the execution before (overlap: queueOne)",
        };
        self.fire_now(flow, armed.row.version, &mut row, firing, rows)?;
        self.ledger.put(schedule_key(flow), row.to_bytes());
        Ok(())
    }

    fn skip(&mut self, flow: FlowId, named: Named, reason: &str) {
        self.write_occurrence(
            flow,
            named,
            OccurrenceOutcome::Skipped,
            reason,
            None,
            kind::OCCURRENCE_SKIPPED,
        );
    }

    /// The one ledger row of an occurrence, with its record.
    fn write_occurrence(
        &mut self,
        flow: FlowId,
        named: Named,
        outcome: OccurrenceOutcome,
        reason: &str,
        execution: Option<ExecutionId>,
        kind: &str,
    ) {
        let row = OccurrenceRow {
            outcome,
            reason: reason.into(),
            execution,
            decided_at: self.ledger.now(),
        };
        self.ledger.put(
            occurrence_key(flow, named.at, named.nominal),
            row.to_bytes(),
        );
        self.ledger.record(JournalRecord {
            kind: kind.into(),
            actor: SYSTEM.into(),
            flow: Some(flow),
            execution,
            detail: reason.into(),
            number: named.at.as_millis().unsigned_abs(),
            ..JournalRecord::default()
        });
    }
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
