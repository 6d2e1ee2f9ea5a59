//! An occurrence becomes an execution, or a row that says why not.

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidemill_rows::{
    Hash, Key, Stored,
    journal::{NewRecord, kind, payload_hash},
    table::{
        ExecutionState, MessageRow, OccurrenceKind, OccurrenceOutcome, OccurrenceRow,
        QueuedOccurrence, ScheduleRow, backfill_occurrence_key, manual_occurrence_key,
        occurrence_key, schedule_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, Timestamp, schedule::OverlapPolicy};

use super::{Armed, Named, PAUSED};
use crate::{
    command::TellEnd,
    ledger::{Damage, Rows},
    partition::{CLIENT, Partition, SYSTEM, start::Begin},
};

/// How an occurrence fires.
pub(super) struct Firing<'a> {
    pub named: Named,
    /// The one after it, for the message.
    pub next: Option<Timestamp>,
    pub outcome: OccurrenceOutcome,
    pub reason: &'a str,
}

/// What is said of an occurrence.
pub(super) struct Decision<'a> {
    pub outcome: OccurrenceOutcome,
    pub reason: &'a str,
    pub execution: Option<ExecutionId>,
    pub request_id: &'a str,
}

impl Partition {
    /// Starts the execution of an occurrence, unless the one before still runs and that matters.
    pub(super) fn start_occurrence(
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
                    let decision = Decision {
                        outcome: OccurrenceOutcome::Queued,
                        reason: "waits for the execution before (overlap: queueOne)",
                        execution: None,
                        request_id: "",
                    };
                    self.write_occurrence(flow, named, decision);
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
        if let Some(execution) = self.fire_occurrence(flow, version, firing, rows)? {
            row.fired += 1;
            row.last_execution = Some(execution);
        }
        Ok(())
    }

    /// Starts the execution of an occurrence and writes its row. None: it could not be started, and
    /// the row says so.
    pub(super) fn fire_occurrence(
        &mut self,
        flow: FlowId,
        version: u32,
        firing: Firing<'_>,
        rows: &dyn Rows,
    ) -> Result<Option<ExecutionId>, Damage> {
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
        let mut digest = Sha256::new()
            .chain_update(flow.0)
            .chain_update(named.at.0.to_be_bytes())
            .chain_update(named.nominal.0.to_be_bytes());
        let source = match named.kind {
            OccurrenceKind::Backfill => {
                digest.update("backfill");
                "backfill"
            }
            OccurrenceKind::Regular | OccurrenceKind::Manual => "schedule",
        };
        let digest: [u8; 32] = digest.finalize().into();
        let begin = Begin {
            flow,
            version,
            message,
            request_id: format!("{source}/{flow}/{}/{}", named.at, named.nominal),
            fingerprint: Hash(digest),
            traceparent: String::new(),
            tracestate: String::new(),
            entropy: u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes")),
            occurrence_at: Some(named.at),
            tell_end: TellEnd::No,
        };
        // The id is drawn from the occurrence itself: it is in use only if 64 bits of SHA-256 met.
        let Some(execution) = self.begin(begin, hash, rows)? else {
            self.skip(flow, named, "its execution id is in use");
            return Ok(None);
        };
        self.write_occurrence(
            flow,
            named,
            Decision {
                outcome,
                reason,
                execution: Some(execution),
                request_id: "",
            },
        );
        Ok(Some(execution))
    }

    /// An execution of a schedule has ended: the occurrence that waits for it starts, or its backfill
    /// goes on.
    pub(in crate::partition) fn after_scheduled(
        &mut self,
        ended: ExecutionId,
        flow: FlowId,
        rows: &dyn Rows,
    ) -> Result<(), Damage> {
        let Some(mut row) = self.ledger.read::<ScheduleRow>(rows, &schedule_key(flow))? else {
            return Ok(());
        };
        if row.backfilling {
            self.wake_backfill(flow);
        }
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
            kind: OccurrenceKind::Regular,
        };
        if row.paused_at.is_some() {
            self.skip(flow, named, PAUSED);
        } else {
            let firing = Firing {
                named,
                next: row.next_at,
                outcome: OccurrenceOutcome::Late,
                reason: "waited for the execution before (overlap: queueOne)",
            };
            self.fire_now(flow, armed.row.version, &mut row, firing, rows)?;
        }
        self.ledger.put(schedule_key(flow), row.to_bytes());
        Ok(())
    }

    pub(super) fn skip(&mut self, flow: FlowId, named: Named, reason: &str) {
        let decision = Decision {
            outcome: OccurrenceOutcome::Skipped,
            reason,
            execution: None,
            request_id: "",
        };
        self.write_occurrence(flow, named, decision);
    }

    /// The one ledger row of an occurrence, with its record.
    pub(super) fn write_occurrence(&mut self, flow: FlowId, named: Named, decision: Decision<'_>) {
        let Decision {
            outcome,
            reason,
            execution,
            request_id,
        } = decision;
        let row = OccurrenceRow {
            outcome,
            reason: reason.into(),
            execution,
            decided_at: self.ledger.now(),
            kind: named.kind,
        };
        let actor = match named.kind {
            OccurrenceKind::Regular => SYSTEM,
            OccurrenceKind::Manual | OccurrenceKind::Backfill => CLIENT,
        };
        let kind = match outcome {
            OccurrenceOutcome::Fired | OccurrenceOutcome::Late => kind::FLOW_EXECUTED,
            OccurrenceOutcome::Skipped => kind::OCCURRENCE_SKIPPED,
            OccurrenceOutcome::Queued => kind::OCCURRENCE_QUEUED,
        };
        self.ledger
            .put(key(flow, named, request_id), row.to_bytes());
        self.ledger.record(&NewRecord {
            kind,
            actor,
            request_id,
            flow: Some(flow),
            execution,
            detail: reason,
            number: named.at.as_millis().unsigned_abs(),
            ..NewRecord::default()
        });
    }
}

fn key(flow: FlowId, named: Named, request_id: &str) -> Key {
    let Named { at, nominal, kind } = named;
    match kind {
        OccurrenceKind::Regular => occurrence_key(flow, at, nominal),
        OccurrenceKind::Manual => {
            let digest = Sha256::digest(request_id.as_bytes());
            let digest = digest[..8].try_into().expect("SHA-256 has 32 bytes");
            manual_occurrence_key(flow, at, nominal, digest)
        }
        OccurrenceKind::Backfill => backfill_occurrence_key(flow, at, nominal),
    }
}
