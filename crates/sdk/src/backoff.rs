//! Pauses between attempts: doubled up to a maximum, with full jitter, so that clients that lost the
//! same node do not come back in step.

use std::time::Duration;

use rand::Rng as _;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// The pauses of one series of attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = BACKOFF_MIN
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(BACKOFF_MAX);
        self.attempts = (self.attempts + 1).min(16);
        // Not from zero: a pause that may be nothing would make a busy loop of an unlucky series.
        rand::rng().random_range(ceiling / 4..=ceiling)
    }

    /// Something worked: begin again with the shortest pause.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_maximum_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= BACKOFF_MIN);
        for _ in 0..100 {
            assert!(backoff.next() <= BACKOFF_MAX);
        }
        assert!(backoff.next() >= BACKOFF_MAX / 4);
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN);
    }
}
