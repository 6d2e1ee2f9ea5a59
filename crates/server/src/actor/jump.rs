//! Notices when the wall clock has jumped forward, by the steady clock.
//!
//! Decisions go by the wall clock, because people do. A jump (somebody set it, or the machine was
//! suspended) looks like an outage to a schedule and is treated like one; the journal says that it was
//! none. Must never: correct the time. Backwards there is nothing to notice: decided time stands still.

use tidemill_types::{Timestamp, limits::CLOCK_JUMP_MS_MAX};
use tokio::time::Instant;

/// The two clocks, as they were when they were last looked at.
pub(super) struct ClockWatch {
    wall: Timestamp,
    steady: Instant,
}

impl ClockWatch {
    pub(super) fn new(wall: Timestamp) -> Self {
        Self {
            wall,
            steady: Instant::now(),
        }
    }

    /// How far the wall clock has jumped forward since the last look, in milliseconds, if it has.
    pub(super) fn look(&mut self, wall: Timestamp, steady: Instant) -> Option<u64> {
        let passed = steady.saturating_duration_since(self.steady);
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let gained_ms = wall.millis_since(self.wall).saturating_sub(passed_ms);
        (self.wall, self.steady) = (wall, steady);
        (gained_ms > CLOCK_JUMP_MS_MAX).then_some(gained_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_leap_of_the_wall_clock_is_a_jump() {
        let begin = Instant::now();
        let mut watch = ClockWatch::new(Timestamp::from_millis(0));
        let mut look = |wall_ms, steady_ms| {
            watch.look(
                Timestamp::from_millis(wall_ms),
                begin + Duration::from_millis(steady_ms),
            )
        };
        assert_eq!(look(1_000, 1_000), None);
        assert_eq!(look(60_000, 60_000), None, "a leader that was held up");
        assert_eq!(look(70_500, 60_600), None, "within the limit");
        assert_eq!(look(100_500, 60_700), Some(29_900));
        assert_eq!(look(50_000, 60_800), None, "back");
        assert_eq!(look(50_100, 60_900), None);
        assert_eq!(look(3_650_100, 60_900), Some(3_600_000));
    }
}
