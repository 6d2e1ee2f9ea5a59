//! I3: one ledger row per occurrence, none missing; where one fired there is exactly one execution.
//!
//! What is due is computed here from the interval alone: the simulated schedules are intervals in UTC,
//! so the next occurrence is the next multiple. The journal is followed record by record, the ledger's
//! rows batch by batch, and each must tell what the other does.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use tidemill_core::memory::MemoryRows;
use tidemill_rows::{
    Batch, Key, Mutation,
    journal::{JournalRecord, kind},
    key::{PREFIX_LEN, Table},
    table::{
        ArmedFlowRow, BackfillRow, BackfillState, OccurrenceKind, OccurrenceOutcome, OccurrenceRow,
        PlanVersionRow, ScheduleRow, Timer, TimerKind, armed_flow_key, backfill_occurrence_key,
        occurrence_key, occurrence_of_key, plan_version_key, schedule_key, timer_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, StepId, Timestamp};

use super::{Checked, Violation, view};

const NAME: &str = "I3 one ledger row per occurrence";

/// A schedule that is armed.
#[derive(Debug)]
struct Armed {
    every_ms: i64,
    /// The next occurrence that nothing was said of yet.
    next_ms: i64,
    /// One that waits.
    queued_ms: Option<i64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Occurrences {
    armed: BTreeMap<FlowId, Armed>,
    paused: BTreeMap<FlowId, bool>,
    /// The row that names each execution.
    executions: BTreeMap<ExecutionId, Key>,
    /// Each row so far, with what it says.
    rows: BTreeMap<Key, OccurrenceOutcome>,
    /// How often what was seen.
    pub counts: BTreeMap<&'static str, u64>,
}

fn violation(detail: impl Into<String>) -> Checked {
    Err(Violation::new(NAME, detail))
}

fn is_about_occurrence(record: &JournalRecord) -> bool {
    [
        kind::FLOW_EXECUTED,
        kind::OCCURRENCE_SKIPPED,
        kind::OCCURRENCE_QUEUED,
    ]
    .contains(&record.kind.as_str())
}

impl Occurrences {
    /// A batch is in the truth.
    ///
    /// # Errors
    /// The first violation.
    pub fn on_batch(
        &mut self,
        batch: &Batch,
        records: &[JournalRecord],
        rows: &MemoryRows,
    ) -> Checked {
        let mut written = Vec::new();
        for mutation in &batch.mutations {
            if mutation.key()[2] != Table::Occurrence as u8 {
                continue;
            }
            match mutation {
                Mutation::Put { key, value } => written.push(self.on_row(key, value)?),
                _ => self.on_deletion(mutation.key(), records, rows)?,
            }
        }
        for record in records {
            self.on_record(record, rows)?;
        }
        self.compare(&written, records)
    }

    /// A row of the ledger is written.
    fn on_row(&mut self, key: &Key, value: &Bytes) -> Result<(Key, i64, OccurrenceRow), Violation> {
        let row: OccurrenceRow = view::decode(key, value.clone())?;
        let fires = matches!(
            row.outcome,
            OccurrenceOutcome::Fired | OccurrenceOutcome::Late
        );
        let (at, _) = occurrence_of_key(key)
            .ok_or_else(|| Violation::new(NAME, format!("key {key:?} names no occurrence")))?;
        let what = format!("{} occurrence of {at}", row.kind);
        if fires != row.execution.is_some() {
            violation(format!("the {what} is {row:?}"))?;
        }
        match self.rows.insert(key.clone(), row.outcome) {
            None | Some(OccurrenceOutcome::Queued) => {}
            Some(before) => violation(format!("the {what} was {before} and is {}", row.outcome))?,
        }
        if let Some(id) = row.execution
            && let Some(before) = self.executions.insert(id, key.clone())
            && before != *key
        {
            violation(format!("{id} belongs to two occurrences"))?;
        }
        *self
            .counts
            .entry(match (row.kind, row.outcome) {
                (OccurrenceKind::Manual, _) => "occurrences by hand",
                (OccurrenceKind::Backfill, _) => "occurrences backfilled",
                (OccurrenceKind::Regular, OccurrenceOutcome::Fired) => "occurrences fired",
                (OccurrenceKind::Regular, OccurrenceOutcome::Late) => "occurrences late",
                (OccurrenceKind::Regular, OccurrenceOutcome::Queued) => "occurrences queued",
                (OccurrenceKind::Regular, OccurrenceOutcome::Skipped) => "occurrences skipped",
            })
            .or_default() += 1;
        Ok((key.clone(), at.as_millis(), row))
    }

    /// Rows go with their flow only: the simulation is too short for their own retention.
    fn on_deletion(&mut self, key: &Key, records: &[JournalRecord], rows: &MemoryRows) -> Checked {
        let flow = flow_of(key);
        let row: Option<ArmedFlowRow> = view::row(rows, &armed_flow_key(flow))?;
        let is_going = match row {
            Some(row) => row.deleted_at.is_some(),
            None => records
                .iter()
                .any(|record| record.kind == kind::FLOW_FORGOTTEN && record.flow == Some(flow)),
        };
        if !is_going {
            return violation(format!("a ledger row of {flow} was deleted"));
        }
        *self.counts.entry("occurrences forgotten").or_default() += 1;
        self.rows.remove(key);
        Ok(())
    }

    /// The journal tells of something.
    fn on_record(&mut self, record: &JournalRecord, rows: &MemoryRows) -> Checked {
        let Some(flow) = record.flow else {
            return Ok(());
        };
        let at_ms = record.at.as_millis();
        match record.kind.as_str() {
            kind::FLOW_ARMED => {
                self.disarm(flow, at_ms)?;
                if let Some(every_ms) = every_ms(flow, record.version, rows)? {
                    let armed = Armed {
                        every_ms,
                        next_ms: (at_ms.div_euclid(every_ms) + 1) * every_ms,
                        queued_ms: None,
                    };
                    self.armed.insert(flow, armed);
                }
                Ok(())
            }
            kind::FLOW_FORGOTTEN => {
                self.paused.remove(&flow);
                if self.rows.keys().any(|key| flow_of(key) == flow) {
                    return violation(format!("rows of {flow} are left, which is forgotten"));
                }
                Ok(())
            }
            kind::FLOW_DISARMED => self.disarm(flow, at_ms),
            kind::SCHEDULE_PAUSED => self.pause(flow, true),
            kind::SCHEDULE_RESUMED => self.pause(flow, false),
            _ if is_about_occurrence(record) && record.actor == "system" => {
                self.decided(flow, record)
            }
            _ => Ok(()),
        }
    }

    fn pause(&mut self, flow: FlowId, paused: bool) -> Checked {
        let what = if paused { "pauses" } else { "resumes" };
        *self.counts.entry(what).or_default() += 1;
        if self.paused.insert(flow, paused).unwrap_or(false) == paused {
            return violation(format!("{flow}: paused was {paused} before"));
        }
        Ok(())
    }

    /// A flow is not armed any more: everything that was due has been decided.
    fn disarm(&mut self, flow: FlowId, at_ms: i64) -> Checked {
        match self.armed.remove(&flow) {
            Some(Armed { next_ms, .. }) if next_ms <= at_ms => violation(format!(
                "{flow} was disarmed at {at_ms}, its occurrence of {next_ms} has no row"
            )),
            Some(Armed {
                queued_ms: Some(queued),
                ..
            }) => violation(format!(
                "{flow} was disarmed, its occurrence of {queued} still waits"
            )),
            _ => Ok(()),
        }
    }

    /// An occurrence of the schedule itself was decided.
    fn decided(&mut self, flow: FlowId, record: &JournalRecord) -> Checked {
        let of_ms = record.number as i64;
        let Some(armed) = self.armed.get_mut(&flow) else {
            return violation(format!("{flow} is not armed, and was due at {of_ms}"));
        };
        if record.kind == kind::FLOW_EXECUTED && self.paused.get(&flow) == Some(&true) {
            return violation(format!("{flow} is paused, and fired for {of_ms}"));
        }
        if armed.queued_ms == Some(of_ms) {
            armed.queued_ms = None;
            return Ok(());
        }
        if of_ms != armed.next_ms {
            return violation(format!(
                "{flow}: {} is next, {of_ms} was decided",
                armed.next_ms
            ));
        }
        armed.next_ms += armed.every_ms;
        if record.kind == kind::OCCURRENCE_QUEUED {
            if armed.queued_ms.is_some() {
                return violation(format!("{flow}: two occurrences wait"));
            }
            armed.queued_ms = Some(of_ms);
        }
        Ok(())
    }

    /// A batch's rows and its records tell the same, and its executions have their rows in it.
    fn compare(&self, written: &[(Key, i64, OccurrenceRow)], records: &[JournalRecord]) -> Checked {
        let flow_of = |key: &Key| {
            FlowId(
                key[PREFIX_LEN..PREFIX_LEN + 16]
                    .try_into()
                    .unwrap_or_default(),
            )
        };
        for (key, at_ms, row) in written {
            let flow = flow_of(key);
            let is_told = records.iter().any(|record| {
                is_about_occurrence(record)
                    && record.flow == Some(flow)
                    && record.number as i64 == *at_ms
                    && record.execution == row.execution
            });
            if !is_told {
                return violation(format!(
                    "{flow}, {at_ms}: the journal does not tell of {row:?}"
                ));
            }
        }
        for record in records {
            if is_about_occurrence(record) {
                let has_row = written.iter().any(|(key, at_ms, _)| {
                    Some(flow_of(key)) == record.flow && record.number as i64 == *at_ms
                });
                if !has_row {
                    return violation(format!(
                        "the journal says {} of {:?} at {}, no row of its batch does",
                        record.kind, record.flow, record.number
                    ));
                }
            }
            let is_scheduled = record.kind == kind::EXECUTION_STARTED
                && ["schedule/", "backfill/"]
                    .iter()
                    .any(|prefix| record.request_id.starts_with(prefix));
            if is_scheduled
                && !written
                    .iter()
                    .any(|(.., row)| row.execution == record.execution)
            {
                return violation(format!(
                    "{:?} was started for {}, which has no row in its batch",
                    record.execution, record.request_id
                ));
            }
        }
        Ok(())
    }

    /// Rows against what the journal has told.
    ///
    /// # Errors
    /// The first violation.
    pub fn whole(&self, partition: PartitionId, rows: &MemoryRows) -> Checked {
        for (flow, armed) in &self.armed {
            if flow.partition() != partition {
                continue;
            }
            let row: Option<ScheduleRow> = view::row(rows, &schedule_key(*flow))?;
            let next = row.as_ref().and_then(|row| row.next_at);
            if next.map(Timestamp::as_millis) != Some(armed.next_ms) {
                return violation(format!(
                    "{flow} is due next at {next:?}, should be at {}",
                    armed.next_ms
                ));
            }
            let step = StepId {
                execution: ExecutionId(flow.0),
                step: 0,
            };
            let has_timer = row.and_then(|row| row.timer_due).is_some_and(|due| {
                let kind = TimerKind::Occurrence;
                view::has(rows, &timer_key(&Timer { due, step, kind }))
            });
            if !has_timer {
                return violation(format!("{flow} has no timer for {}", armed.next_ms));
            }
        }
        let ledger = view::table(rows, partition, Table::Occurrence);
        let known = self
            .rows
            .keys()
            .filter(|key| key[..2] == partition.0.to_be_bytes());
        if ledger.len() != known.count() {
            return violation("rows of the ledger are gone");
        }
        for (key, value) in view::table(rows, partition, Table::Backfill) {
            backfill(&key, &view::decode(&key, value)?, rows)?;
        }
        Ok(())
    }
}

fn flow_of(key: &[u8]) -> FlowId {
    let id = &key[PREFIX_LEN..PREFIX_LEN + 16];
    FlowId(id.try_into().unwrap_or_default())
}

/// A backfill that is done has dealt with each occurrence of its range.
fn backfill(key: &[u8], row: &BackfillRow, rows: &MemoryRows) -> Checked {
    if row.state != BackfillState::Done {
        return Ok(());
    }
    if row.decided != row.total {
        return violation(format!("a backfill is done: {row:?}"));
    }
    // Its flow may have another interval by now: what it has decided is told by its own rows.
    let flow = flow_of(key);
    let in_range = view::with_prefix(rows, &tidemill_rows::table::occurrences_prefix(flow));
    let in_range = in_range
        .iter()
        .filter_map(|(key, _)| occurrence_of_key(key));
    let mut dealt_with: Vec<Timestamp> = in_range
        .filter(|(at, nominal)| {
            let is_own = view::has(rows, &backfill_occurrence_key(flow, *at, *nominal));
            let is_regular = view::has(rows, &occurrence_key(flow, *at, *nominal));
            *at >= row.from && *at < row.to && (is_own || (row.only_missed && is_regular))
        })
        .map(|(at, _)| at)
        .collect();
    dealt_with.dedup();
    if (dealt_with.len() as u64) < row.total {
        return violation(format!(
            "{flow}: of a backfill's {} occurrences {} have rows",
            row.total,
            dealt_with.len()
        ));
    }
    Ok(())
}

/// The interval of a version's schedule; none when it has none.
fn every_ms(flow: FlowId, version: u32, rows: &MemoryRows) -> Result<Option<i64>, Violation> {
    let row: Option<PlanVersionRow> = view::row(rows, &plan_version_key(flow, version))?;
    let document: Value = row
        .and_then(|row| serde_json::from_slice(&row.document).ok())
        .unwrap_or_default();
    let every = &document["trigger"]["schedule"]["every"];
    Ok(every
        .as_str()
        .and_then(|text| text.strip_suffix('s')?.parse::<i64>().ok())
        .map(|seconds| seconds * 1_000))
}
