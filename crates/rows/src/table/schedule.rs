//! Tables 0x2e (schedules), 0x2f (occurrences), 0x30 (what people did to schedules) and 0x31
//! (backfills): when a flow is due next, and what became of each time that it was due.

use tidemill_types::{ExecutionId, FlowId, Timestamp};

use crate::{
    key::{self, Key, KeyWriter, Table},
    wire::{Hash, stored, stored_enum},
};

stored! {
    /// An occurrence that waits for the execution before it to end (`overlap: queueOne`).
    pub struct QueuedOccurrence {
        /// The instant.
        at: Timestamp = 1,
        /// The local time that the schedule names, as if it were UTC.
        nominal: Timestamp = 2,
    }
}

stored! {
    /// The schedule actor of an armed flow. Its timer is in the timer table.
    pub struct ScheduleRow {
        /// The start that armed it.
        activation: u64 = 1,
        /// The instant of the next occurrence that has no ledger row yet; none when there is no more.
        next_at: Option<Timestamp> = 2,
        /// When its timer is due: the instant plus the jitter.
        timer_due: Option<Timestamp> = 3,
        /// Firings since it was armed.
        fired: u64 = 4,
        /// The execution started last.
        last_execution: Option<ExecutionId> = 5,
        /// At most one waits.
        queued: Option<QueuedOccurrence> = 6,
        /// Since when it is paused.
        paused_at: Option<Timestamp> = 7,
        /// A backfill of this flow is under way.
        backfilling: bool = 8,
        /// When to look for ledger rows that are older than they are kept.
        trim_at: Timestamp = 9,
    }
}

stored_enum! {
    /// What a request asked of a schedule.
    pub enum ScheduleChange {
        Pause = 1 "pause",
        Resume = 2 "resume",
    }
}

stored! {
    /// A request that paused or resumed a schedule, so that a repeat of it changes nothing.
    pub struct ScheduleRequest {
        /// The request id.
        request_id: String = 1,
        /// What it asked for.
        change: ScheduleChange = 2,
        /// Whether that changed anything.
        changed: bool = 3,
    }
}

stored! {
    /// What people did to a flow's schedule. Survives a stop of the flow, as its schedule's row does not.
    pub struct ScheduleControlRow {
        /// Since when it is paused.
        paused_at: Option<Timestamp> = 1,
        /// Why, for people.
        reason: String = 2,
        /// The last requests, oldest first.
        requests: Vec<ScheduleRequest> = 3,
    }
}

stored_enum! {
    /// Where a backfill stands.
    pub enum BackfillState {
        Running = 1 "running",
        Done = 2 "done",
        Stopped = 3 "stopped",
    }
}

stored! {
    /// A past range of a schedule that is run on request, in slices.
    pub struct BackfillRow {
        /// From this instant on.
        from: Timestamp = 1,
        /// Before this one.
        to: Timestamp = 2,
        /// Leave out what started an execution before.
        only_missed: bool = 3,
        /// Occurrences of the range that fire.
        total: u64 = 4,
        /// Those decided so far.
        decided: u64 = 5,
        /// Executions that it has started.
        started: u64 = 6,
        /// The occurrence decided last.
        last_at: Option<Timestamp> = 7,
        /// Its local time: more than one may have one instant.
        last_nominal: Timestamp = 8,
        /// The execution started last.
        last_execution: Option<ExecutionId> = 9,
        /// Where it stands.
        state: BackfillState = 10,
        /// When it was asked for.
        requested_at: Timestamp = 11,
        /// SHA-256 of the request's meaning.
        fingerprint: Hash = 12,
    }
}

stored_enum! {
    /// What became of an occurrence.
    pub enum OccurrenceOutcome {
        Fired = 1 "fired",
        Late = 2 "late",
        Skipped = 3 "skipped",
        Queued = 4 "queued",
    }
}

stored_enum! {
    /// Why an occurrence is one.
    pub enum OccurrenceKind {
        Regular = 1 "regular",
        Manual = 2 "manual",
        Backfill = 3 "backfill",
    }
}

stored! {
    /// The ledger row of an occurrence: exactly one for each.
    pub struct OccurrenceRow {
        /// What became of it.
        outcome: OccurrenceOutcome = 1,
        /// Why it did not fire, or not in time.
        reason: String = 2,
        /// The execution that it started.
        execution: Option<ExecutionId> = 3,
        /// When that was decided.
        decided_at: Timestamp = 4,
        /// The schedule's own, by hand, or of a backfill.
        kind: OccurrenceKind = 5,
    }
}

/// The key of a flow's schedule.
#[must_use]
pub fn schedule_key(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::Schedule);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The key of an occurrence. The local time alone repeats where clocks are put back, so the instant
/// comes first: both together name it.
#[must_use]
pub fn occurrence_key(flow: FlowId, at: Timestamp, nominal: Timestamp) -> Key {
    let mut key = key::start(flow.partition(), Table::Occurrence);
    key.put_slice(&flow.0);
    key.put_u64((at.0 as u64) ^ (1 << 63));
    key.put_u64((nominal.0 as u64) ^ (1 << 63));
    key.freeze()
}

/// The key of an occurrence by hand: the digest of its request id tells two of one millisecond apart.
#[must_use]
pub fn manual_occurrence_key(
    flow: FlowId,
    at: Timestamp,
    nominal: Timestamp,
    request: [u8; 8],
) -> Key {
    let mut key = KeyWriter::after(occurrence_key(flow, at, nominal));
    key.put_u8(OccurrenceKind::Manual as u8);
    key.put_slice(&request);
    key.freeze()
}

/// The key of an occurrence of a backfill. There is one for each occurrence of the schedule, however
/// often it is backfilled, so that none is run twice.
#[must_use]
pub fn backfill_occurrence_key(flow: FlowId, at: Timestamp, nominal: Timestamp) -> Key {
    let mut key = KeyWriter::after(occurrence_key(flow, at, nominal));
    key.put_u8(OccurrenceKind::Backfill as u8);
    key.freeze()
}

/// The key of what people did to a flow's schedule.
#[must_use]
pub fn schedule_control_key(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::ScheduleControl);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The key of a backfill: its request id names it.
#[must_use]
pub fn backfill_key(flow: FlowId, request_id: &str) -> Key {
    let mut key = KeyWriter::after(backfills_prefix(flow));
    key.put_slice(request_id.as_bytes());
    key.freeze()
}

/// First bytes of the keys of a flow's backfills.
#[must_use]
pub fn backfills_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::Backfill);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The request id in the key of a backfill.
#[must_use]
pub fn request_of_backfill_key(key: &[u8]) -> Option<String> {
    String::from_utf8(key.get(key::PREFIX_LEN + 16..)?.to_vec()).ok()
}

/// First bytes of the keys of a flow's occurrences.
#[must_use]
pub fn occurrences_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::Occurrence);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The instant and the local time in a key.
#[must_use]
pub fn occurrence_of_key(key: &[u8]) -> Option<(Timestamp, Timestamp)> {
    // What stands behind them tells occurrences by hand and of backfills apart.
    let rest = key.get(key::PREFIX_LEN + 16..key::PREFIX_LEN + 32)?;
    let time = |bytes: &[u8]| {
        let ordered = u64::from_be_bytes(bytes.try_into().ok()?);
        Some(Timestamp((ordered ^ (1 << 63)) as i64))
    };
    Some((time(&rest[..8])?, time(&rest[8..])?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_types::PartitionId;

    use super::*;

    proptest! {
        #[test]
        fn occurrence_keys_round_trip_and_sort_by_instant(a in any::<(i64, i64)>(), b in any::<(i64, i64)>()) {
            let flow = FlowId::new(1, PartitionId(1), 7);
            let key = |(at, nominal)| occurrence_key(flow, Timestamp(at), Timestamp(nominal));
            prop_assert_eq!(occurrence_of_key(&key(a)), Some((Timestamp(a.0), Timestamp(a.1))));
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }

        #[test]
        fn occurrences_by_hand_and_of_backfills_have_keys_of_their_own(at in any::<i64>(), nominal in any::<i64>(), digest in any::<[u8; 8]>()) {
            let flow = FlowId::new(1, PartitionId(1), 7);
            let (at, nominal) = (Timestamp(at), Timestamp(nominal));
            let keys = [
                occurrence_key(flow, at, nominal),
                manual_occurrence_key(flow, at, nominal, digest),
                backfill_occurrence_key(flow, at, nominal),
            ];
            for key in &keys {
                prop_assert_eq!(occurrence_of_key(key), Some((at, nominal)));
                prop_assert!(key.starts_with(&occurrences_prefix(flow)));
            }
            prop_assert!(keys.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn backfill_keys_round_trip(request_id in ".{1,40}") {
            let flow = FlowId::new(1, PartitionId(1), 7);
            let key = backfill_key(flow, &request_id);
            prop_assert_eq!(request_of_backfill_key(&key), Some(request_id));
            prop_assert!(key.starts_with(&backfills_prefix(flow)));
        }
    }
}
