//! Table 0x26: timers. Key: due time (8 bytes, order-preserving), execution id, step number (4 bytes),
//! kind (1 byte). Value: empty. All that waits is ordered by when it is due, so that a leader reads
//! the near future only.

use bytes::Buf;
use tidemill_types::{ExecutionId, PartitionId, StepId, Timestamp};

use crate::key::{self, Key, Table};

/// What is to happen at the due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimerKind {
    /// A step in `retry_wait` becomes pending.
    Retry = 1,
    /// A step of the `wait` component succeeds.
    Wait = 2,
    /// The execution is timed out.
    ExecutionTimeout = 3,
    /// Retention removes the execution.
    Retire = 4,
    /// A flow's schedule is due. The id is the flow's: both have one form.
    Occurrence = 5,
    /// The execution is being ended in slices: the next one.
    Ending = 6,
    /// A deleted flow's rows are removed in slices: the next one. The id is the flow's.
    Forget = 7,
    /// A flow's backfills go on. The id is the flow's.
    Backfill = 8,
}

impl TimerKind {
    /// True when the timer's id is a flow's.
    #[must_use]
    pub const fn is_of_flow(self) -> bool {
        matches!(self, Self::Occurrence | Self::Forget | Self::Backfill)
    }
}

/// A timer, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// When it is due.
    pub due: Timestamp,
    /// What it concerns; the step is 0 where the kind is about the execution.
    pub step: StepId,
    /// What is to happen.
    pub kind: TimerKind,
}

/// Flips the sign bit, so that negative times sort before positive ones.
fn ordered(time: Timestamp) -> u64 {
    (time.0 as u64) ^ (1 << 63)
}

/// The key of a timer.
#[must_use]
pub fn timer_key(timer: &Timer) -> Key {
    timer_key_in(timer.step.execution.partition(), timer)
}

/// Its key in a partition, whatever its execution's id says: a place to read from.
#[must_use]
pub fn timer_key_in(partition: PartitionId, timer: &Timer) -> Key {
    let mut key = key::start(partition, Table::Timer);
    key.put_u64(ordered(timer.due));
    key.put_slice(&timer.step.execution.0);
    key.put_u32(timer.step.step);
    key.put_u8(timer.kind as u8);
    key.freeze()
}

/// The timer in a key.
#[must_use]
pub fn timer_of_key(key: &[u8]) -> Option<Timer> {
    let mut rest = key.get(key::PREFIX_LEN..)?;
    if rest.len() != 29 {
        return None;
    }
    let due = Timestamp((rest.get_u64() ^ (1 << 63)) as i64);
    let mut execution = [0; 16];
    rest.copy_to_slice(&mut execution);
    let step = StepId {
        execution: ExecutionId(execution),
        step: rest.get_u32(),
    };
    let kind = match rest.get_u8() {
        1 => TimerKind::Retry,
        2 => TimerKind::Wait,
        3 => TimerKind::ExecutionTimeout,
        4 => TimerKind::Retire,
        5 => TimerKind::Occurrence,
        6 => TimerKind::Ending,
        7 => TimerKind::Forget,
        8 => TimerKind::Backfill,
        _ => return None,
    };
    Some(Timer { due, step, kind })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timer() -> impl Strategy<Value = Timer> {
        let kind = prop_oneof![
            Just(TimerKind::Retry),
            Just(TimerKind::Wait),
            Just(TimerKind::ExecutionTimeout),
            Just(TimerKind::Retire),
            Just(TimerKind::Occurrence),
            Just(TimerKind::Ending),
            Just(TimerKind::Forget),
            Just(TimerKind::Backfill)
        ];
        (any::<i64>(), any::<i64>(), any::<u64>(), any::<u32>(), kind).prop_map(
            |(due, at, entropy, step, kind)| Timer {
                due: Timestamp(due),
                step: StepId {
                    execution: ExecutionId::new(at, PartitionId(3), entropy),
                    step,
                },
                kind,
            },
        )
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_sort_as_timers(a in timer(), b in timer()) {
            prop_assert_eq!(timer_of_key(&timer_key(&a)), Some(a));
            prop_assert_eq!(timer_key(&a).cmp(&timer_key(&b)), a.cmp(&b));
        }
    }
}
