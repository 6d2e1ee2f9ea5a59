//! Tables 0x2e (schedules) and 0x2f (occurrences): when a flow is due next, and what became of each
//! time that it was due.

use bytes::BufMut;
use tidemill_types::{ExecutionId, FlowId, Timestamp};

use crate::{
    key::{self, Key, Table},
    wire::{stored, stored_enum},
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
    }
}

/// The key of a flow's schedule.
#[must_use]
pub fn schedule_key(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::Schedule, 16);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The key of an occurrence. The local time alone repeats where clocks are put back, so the instant
/// comes first: both together name it.
#[must_use]
pub fn occurrence_key(flow: FlowId, at: Timestamp, nominal: Timestamp) -> Key {
    let mut key = key::start(flow.partition(), Table::Occurrence, 32);
    key.put_slice(&flow.0);
    key.put_u64((at.0 as u64) ^ (1 << 63));
    key.put_u64((nominal.0 as u64) ^ (1 << 63));
    key.freeze()
}

/// First bytes of the keys of a flow's occurrences.
#[must_use]
pub fn occurrences_prefix(flow: FlowId) -> Key {
    let mut key = key::start(flow.partition(), Table::Occurrence, 16);
    key.put_slice(&flow.0);
    key.freeze()
}

/// The instant and the local time in a key.
#[must_use]
pub fn occurrence_of_key(key: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let rest: [u8; 16] = key.get(key::PREFIX_LEN + 16..)?.try_into().ok()?;
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
    }
}
