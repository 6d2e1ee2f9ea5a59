//! Requests at fixed times, whatever the servers do.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    Load,
    alarm::{Alarm, ThreadAlarm},
};
use crate::operation::Operation;

/// When requests are due: at equal distances from the first on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    begin: Instant,
    rate: f64,
    sent: u64,
}

impl Pace {
    /// Begins now.
    pub fn new(rate: f64) -> Self {
        Self {
            begin: Instant::now(),
            rate,
            sent: 0,
        }
    }

    /// When the next request is due. Counted from the beginning and not from the request before, so
    /// that rounding never adds up.
    #[allow(clippy::cast_precision_loss)] // 2^53 requests are years
    pub fn due(&self) -> Instant {
        self.begin + Duration::from_secs_f64(self.sent as f64 / self.rate)
    }

    /// The next request was sent, or given up.
    pub fn advance(&mut self) {
        self.sent += 1;
    }
}

/// Runs until `stop`, then until all under way have their answer.
///
/// # Errors
/// When the system gives no thread.
pub async fn run<O: Operation>(
    load: &Arc<Load<O>>,
    pace: Pace,
    max_in_flight: usize,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let alarm = ThreadAlarm::new().context("the system gives no thread")?;
    run_by(load, pace, max_in_flight, stop, alarm).await
}

async fn run_by<O: Operation>(
    load: &Arc<Load<O>>,
    mut pace: Pace,
    max_in_flight: usize,
    mut stop: watch::Receiver<bool>,
    mut alarm: impl Alarm,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(max_in_flight));
    let mut slot = 0_usize;
    while !*stop.borrow() {
        let due = pace.due();
        if due > Instant::now() {
            tokio::select! {
                () = alarm.until(due) => {}
                _ = stop.changed() => break,
            }
            continue;
        }
        pace.advance();
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            // Not waited for: that would make the loop a closed one, and hide how late everything is.
            load.meter.overflowed(due);
            // The servers' answers must come through although more is due at once than can be sent.
            tokio::task::yield_now().await;
            continue;
        };
        let load = Arc::clone(load);
        tokio::spawn(async move {
            load.request(slot, Some(due)).await;
            drop(place);
        });
        slot = slot.wrapping_add(1);
    }
    let all = u32::try_from(max_in_flight).context("--max-in-flight is too large")?;
    let _all_answered = places.acquire_many(all).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidemill_types::ExecutionId;
    use tokio::time::{sleep, sleep_until};

    use super::*;
    use crate::{ledger::Ledger, meter::Meter, operation::Failure};

    struct PausedAlarm;

    impl Alarm for PausedAlarm {
        async fn until(&mut self, at: Instant) {
            sleep_until(at).await;
        }
    }

    /// Answers after 2 ms, but for a time in which it answers nothing.
    struct Stalling {
        begin: Instant,
        from: Duration,
        until: Duration,
    }

    impl Operation for Stalling {
        async fn call(&self, _: usize, _: &str) -> Result<ExecutionId, Failure> {
            let stalled = self.begin.elapsed() >= self.from && self.begin.elapsed() < self.until;
            if stalled {
                sleep_until(self.begin + self.until).await;
            }
            sleep(Duration::from_millis(2)).await;
            Ok(ExecutionId([0; 16]))
        }
    }

    fn stalling(from_ms: u64, until_ms: u64) -> Arc<Load<Stalling>> {
        let load = Load {
            operation: Stalling {
                begin: Instant::now(),
                from: Duration::from_millis(from_ms),
                until: Duration::from_millis(until_ms),
            },
            meter: Arc::new(Meter::default()),
            ledger: Arc::new(Ledger::new("t")),
        };
        Arc::new(load)
    }

    async fn run_for(load: &Arc<Load<Stalling>>, rate: f64, places: usize, time: Duration) {
        let (stop, stopped) = watch::channel(false);
        load.meter.open();
        let running = {
            let load = Arc::clone(load);
            let pace = Pace::new(rate);
            tokio::spawn(async move { run_by(&load, pace, places, stopped, PausedAlarm).await })
        };
        sleep(time).await;
        load.meter.close();
        stop.send(true).expect("it runs");
        running.await.expect("no panic").expect("no error");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_held_exactly() {
        let load = stalling(0, 0);
        // Ends between two requests, so that the count does not hang on which comes first.
        run_for(&load, 1_000.0, 100, Duration::from_micros(1_999_500)).await;
        let counts = load.meter.read();
        assert_eq!(counts.latencies_us.len(), 2_000);
        assert_eq!(counts.errors, 0);
        assert_eq!(load.ledger.acknowledged(), 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_in_the_latencies_of_all_that_was_due_meanwhile() {
        // One of two seconds is a stall: half of all were due in it and waited half a second in the
        // middle. A closed loop with one client would have seen one slow request.
        let load = stalling(500, 1_500);
        run_for(&load, 1_000.0, 10_000, Duration::from_micros(1_999_500)).await;
        let counts = load.meter.read();
        assert_eq!(counts.latencies_us.len(), 2_000);
        let at = |quantile| counts.latencies_us.value_at_quantile(quantile) / 1_000;
        assert!((450..=550).contains(&at(0.75)), "{}", at(0.75));
        assert!((980..=1_010).contains(&at(0.999)), "{}", at(0.999));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_beyond_the_bound_is_an_error() {
        let load = stalling(0, 1_000);
        run_for(&load, 1_000.0, 100, Duration::from_micros(1_999_500)).await;
        let counts = load.meter.read();
        // 100 wait for the end of the stall; what was due meanwhile is counted, none is dropped silently.
        assert_eq!(counts.latencies_us.len() + counts.errors, 2_000);
        assert!(
            (895..=905).contains(&counts.overflow),
            "{}",
            counts.overflow
        );
        assert_eq!(counts.overflow, counts.errors);
    }
}
