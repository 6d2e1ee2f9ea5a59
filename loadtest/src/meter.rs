//! Counts and times what ends within the measuring window.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Longest latency that is told apart from longer ones, in microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Digits of a latency that are kept.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of microseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that are in order")
}

/// Milliseconds from microseconds.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// What was measured so far.
#[derive(Debug)]
pub struct Meter {
    in_flight: AtomicU64,
    counts: Mutex<Counts>,
}

/// Latencies and counts within a time.
#[derive(Clone, Debug)]
pub struct Counts {
    window: Option<(Instant, Option<Instant>)>,
    /// Of what was answered, in microseconds.
    pub latencies_us: Histogram<u64>,
    /// Of what was answered since the last look.
    interval_us: Histogram<u64>,
    interval_errors: u64,
    /// What did not give what it should, overflow included.
    pub errors: u64,
    /// Of these: what was due, and not sent because too much was under way.
    pub overflow: u64,
    /// The first error's text.
    pub first_error: Option<String>,
}

/// One moment of a run, for progress and for plots.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the window began.
    pub at_s: f64,
    /// Answers per second since the sample before.
    pub rate_per_s: f64,
    /// Of those.
    pub p50_ms: f64,
    /// Of those.
    pub p99_ms: f64,
    /// Of those.
    pub max_ms: f64,
    /// Since the sample before.
    pub errors: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            in_flight: AtomicU64::new(0),
            counts: Mutex::new(Counts {
                window: None,
                latencies_us: histogram(),
                interval_us: histogram(),
                interval_errors: 0,
                errors: 0,
                overflow: 0,
                first_error: None,
            }),
        }
    }
}

impl Meter {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on is measured.
    pub fn open(&self) {
        self.counts().window = Some((Instant::now(), None));
    }

    /// Until now was measured; what is answered later still counts when it was due before.
    pub fn close(&self) {
        if let Some((_, end)) = &mut self.counts().window {
            end.get_or_insert_with(Instant::now);
        }
    }

    /// A request is under way.
    pub fn sent(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// A request has its answer. `at` decides whether it belongs to the window: in a closed loop the
    /// time of the answer, in an open one the time at which it was due.
    pub fn answered(&self, at: Instant, latency: Duration) {
        self.in_flight.fetch_sub(1, Relaxed);
        let mut counts = self.counts();
        if counts.holds(at) {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            counts.latencies_us.saturating_record(us.max(1));
            counts.interval_us.saturating_record(us.max(1));
        }
    }

    /// A request did not get what it should.
    pub fn failed(&self, at: Instant, why: impl FnOnce() -> String) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.counts().error(at, why);
    }

    /// A request was due, and too many were under way to send it.
    pub fn overflowed(&self, at: Instant) {
        let mut counts = self.counts();
        if counts.holds(at) {
            counts.overflow += 1;
        }
        counts.error(at, || {
            "more requests under way than --max-in-flight allows".to_owned()
        });
    }

    /// What happened since the last look, which was `since` ago.
    pub fn sample(&self, at: Duration, since: Duration) -> Sample {
        let mut counts = self.counts();
        let answers = counts.interval_us.len();
        let sample = Sample {
            at_s: at.as_secs_f64(),
            rate_per_s: answers as f64 / since.as_secs_f64().max(1e-9),
            p50_ms: ms(counts.interval_us.value_at_quantile(0.5)),
            p99_ms: ms(counts.interval_us.value_at_quantile(0.99)),
            max_ms: ms(counts.interval_us.max()),
            errors: counts.interval_errors,
        };
        counts.interval_us.reset();
        counts.interval_errors = 0;
        sample
    }

    /// How many requests were answered so far.
    pub fn answers(&self) -> u64 {
        self.counts().latencies_us.len()
    }

    /// All that was measured.
    pub fn read(&self) -> Counts {
        self.counts().clone()
    }
}

impl Counts {
    fn holds(&self, at: Instant) -> bool {
        match self.window {
            None => false,
            Some((begin, end)) => at >= begin && end.is_none_or(|end| at < end),
        }
    }

    fn error(&mut self, at: Instant, why: impl FnOnce() -> String) {
        if self.holds(at) {
            self.errors += 1;
            self.interval_errors += 1;
            self.first_error.get_or_insert_with(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_belongs_to_the_window_counts() {
        let meter = Meter::default();
        let answer = |at: Instant| {
            meter.sent();
            meter.answered(at, Duration::from_millis(3));
        };
        answer(Instant::now());
        meter.open();
        let inside = Instant::now();
        answer(inside);
        tokio::time::advance(Duration::from_secs(1)).await;
        meter.close();
        answer(Instant::now());
        // Late, but due inside.
        answer(inside);
        meter.sent();
        meter.failed(inside, || "no".to_owned());
        meter.overflowed(inside);
        let counts = meter.read();
        assert_eq!(counts.latencies_us.len(), 2);
        assert_eq!((counts.errors, counts.overflow), (2, 1));
        assert_eq!(counts.first_error.as_deref(), Some("no"));
        assert_eq!(meter.in_flight(), 0);
        let sample = meter.sample(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!((sample.rate_per_s, sample.errors), (2.0, 2));
        let next = meter.sample(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!((next.rate_per_s, next.errors), (0.0, 0));
    }
}
