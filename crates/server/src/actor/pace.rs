//! How large a batch may get and how many are on their way, so that what is on its way is soon there.
//!
//! Larger batches cost less for each command, but all who come wait behind what is in flight: beyond what
//! keeps the log busy, a larger batch only makes everybody wait longer. How long a commit takes when nothing else
//! is on its way is measured now and then; batches get smaller while commits take several times as long, and
//! larger again when they do not. This is the idea of the delay-based limits of TCP Vegas (Brakmo and
//! Peterson, 1995) and of Netflix's concurrency-limits.
//!
//! While a quiet flow is beside one that floods (`company`), batches are kept short, and fewer.

use std::{collections::VecDeque, time::Duration};

use tidemill_types::limits::{BATCH_ROWS_MAX, BATCH_ROWS_MIN, BATCHES_IN_FLIGHT_MAX};
use tokio::time::Instant;

/// A commit may take so many times as long as one that has the log for itself.
const WAIT_TIMES: u32 = 3;
/// Below this it is not worth while to make batches smaller.
const WAIT_MIN: Duration = Duration::from_millis(8);
/// The same where batches are kept short: what a batch costs by itself is then about what its commands cost.
const SHORT_WAIT_MIN: Duration = Duration::from_millis(2);
/// One is written while the other is made; more would only wait.
const SHORT_IN_FLIGHT_MAX: usize = 2;
/// Above this batches get smaller even where the log is slow.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// A commit is measured alone at least this often.
const MEASURED_EVERY: Duration = Duration::from_secs(2);
/// The least of so many measurements counts: on a busy processor most of them have waited for it.
const MEASUREMENTS: usize = 8;
/// Of a change that one commit suggests, this part is made.
const GAIN: f64 = 0.25;

/// Room for more than so many times what batches have is given up, this part by each, and found again in some
/// batches: whoever floods a node that had little to do does not begin with as much as it can hold.
const UNUSED_TIMES: f64 = 2.0;
const FORGOTTEN: f64 = 15.0 / 16.0;

/// The batch that was being made when the measurement fell due may be a large one; the next one is small,
/// unless a single command makes it large.
const TRIES: u8 = 2;

/// See the module.
pub(super) struct Pace {
    large: Kind,
    short: Kind,
    is_short: bool,
    /// How long commits of few rows took that had the log for themselves, the last ones.
    alone: VecDeque<Duration>,
    measured: Instant,
    tries: u8,
}

/// What batches of a kind are held to.
struct Kind {
    /// Most rows of one; follows how long they take.
    rows: f64,
    wait_min: Duration,
    in_flight_max: usize,
}

/// What is known of a batch when it leaves.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Instant,
    rows: usize,
    is_measure: bool,
    is_short: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            large: Kind {
                rows: BATCH_ROWS_MAX as f64,
                wait_min: WAIT_MIN,
                in_flight_max: BATCHES_IN_FLIGHT_MAX,
            },
            short: Kind {
                rows: BATCH_ROWS_MIN as f64,
                wait_min: SHORT_WAIT_MIN,
                in_flight_max: SHORT_IN_FLIGHT_MAX,
            },
            is_short: false,
            alone: VecDeque::with_capacity(MEASUREMENTS),
            measured: now,
            tries: 0,
        }
    }

    /// Most rows in the batch that is being made.
    pub(super) fn rows(&self, now: Instant) -> usize {
        if self.is_due(now) {
            return BATCH_ROWS_MIN;
        }
        self.kind().rows as usize
    }

    const fn kind(&self) -> &Kind {
        match self.is_short {
            true => &self.short,
            false => &self.large,
        }
    }

    /// From now on batches are short, or as large as is worth while.
    pub(super) const fn keep_short(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// Whether a batch may leave with so many in flight: none may while one is to be measured alone.
    pub(super) fn may_send(&self, in_flight: usize, now: Instant) -> bool {
        in_flight == 0 || (in_flight < self.kind().in_flight_max && !self.is_due(now))
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.measured) >= MEASURED_EVERY
    }

    /// A batch leaves.
    pub(super) fn sent(&mut self, rows: usize, in_flight: usize, now: Instant) -> Sent {
        let is_measure = in_flight == 0 && rows <= BATCH_ROWS_MIN;
        if in_flight == 0 {
            self.tries += 1;
        }
        if is_measure || self.tries >= TRIES {
            self.measured = now;
            self.tries = 0;
        }
        Sent {
            at: now,
            rows,
            is_measure,
            is_short: self.is_short,
        }
    }

    /// A batch is applied.
    pub(super) fn applied(&mut self, sent: Sent, now: Instant) {
        let took = now.saturating_duration_since(sent.at);
        if sent.is_measure {
            self.alone.truncate(MEASUREMENTS - 1);
            self.alone.push_front(took);
        }
        let alone = self.alone.iter().min().copied().unwrap_or_default();
        // It says something about batches of its kind.
        let Kind { rows, wait_min, .. } = match sent.is_short {
            true => &mut self.short,
            false => &mut self.large,
        };
        let wait = (alone * WAIT_TIMES).clamp(*wait_min, WAIT_MAX);
        let ratio = wait.as_secs_f64() / took.as_secs_f64().max(f64::EPSILON);
        let used = sent.rows as f64;
        // A batch that had room says nothing about larger ones.
        if ratio < 1.0 || used >= rows.floor() {
            *rows *= 1.0 + GAIN * (ratio.clamp(0.5, 2.0) - 1.0);
        } else if used * UNUSED_TIMES < *rows {
            *rows = (*rows * FORGOTTEN).max(used * UNUSED_TIMES);
        }
        *rows = rows.clamp(BATCH_ROWS_MIN as f64, BATCH_ROWS_MAX as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that works off so many rows in a second, and needs so long for a batch of none.
    struct Log {
        rows_per_second: f64,
        latency: Duration,
    }

    /// What a flood gets: rows in a second, and how long the last thousand commits took at most.
    fn flood(log: &Log, pace: &mut Pace, start: Instant) -> (f64, Duration) {
        let mut in_flight: VecDeque<(Sent, Instant)> = VecDeque::new();
        let (mut now, mut free, mut rows) = (start, start, 0);
        let mut took = VecDeque::new();
        while now - start < Duration::from_secs(30) {
            while pace.may_send(in_flight.len(), now) {
                let sent = pace.sent(pace.rows(now), in_flight.len(), now);
                let work = Duration::from_secs_f64(sent.rows as f64 / log.rows_per_second);
                free = free.max(now) + work;
                in_flight.push_back((sent, free + log.latency));
            }
            let (sent, done) = in_flight.pop_front().expect("one is in flight");
            now = done;
            pace.applied(sent, now);
            rows += sent.rows;
            took.push_back(now - sent.at);
            if took.len() > 1_000 {
                took.pop_front();
            }
        }
        let longest = took.into_iter().max().expect("some");
        (rows as f64 / (now - start).as_secs_f64(), longest)
    }

    #[test]
    fn commits_stay_short_where_the_log_is_quick() {
        let log = Log {
            rows_per_second: 200_000.0,
            latency: Duration::from_millis(1),
        };
        let start = Instant::now();
        let (rate, longest) = flood(&log, &mut Pace::new(start), start);
        assert!(longest < 2 * WAIT_MIN, "{longest:?}");
        assert!(rate > 190_000.0, "{rate}");
    }

    #[test]
    fn a_slow_log_gets_large_batches() {
        let log = Log {
            rows_per_second: 200_000.0,
            latency: Duration::from_millis(20),
        };
        let start = Instant::now();
        let (rate, longest) = flood(&log, &mut Pace::new(start), start);
        assert!(longest < Duration::from_millis(120), "{longest:?}");
        assert!(rate > 180_000.0, "{rate}");
    }

    #[test]
    fn beside_a_quiet_flow_commits_take_little_longer_than_alone() {
        let quick = Log {
            rows_per_second: 400_000.0,
            latency: Duration::from_micros(500),
        };
        let slow = Log {
            rows_per_second: 400_000.0,
            latency: Duration::from_millis(20),
        };
        for (log, longest_max) in [
            (quick, SHORT_WAIT_MIN * 2),
            (slow, Duration::from_millis(50)),
        ] {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            pace.keep_short(true);
            let (rate, longest) = flood(&log, &mut pace, start);
            assert!(longest < longest_max, "{longest:?}");
            assert!(rate > 0.5 * log.rows_per_second, "{rate}");
            // What short ones have taught is not held against large ones.
            pace.keep_short(false);
            assert_eq!(pace.large.rows as usize, BATCH_ROWS_MAX);
        }
    }

    #[test]
    fn room_that_is_not_used_is_given_up() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let quick = Duration::from_millis(1);
        let mut batch = |rows, times| {
            for _ in 0..times {
                let sent = pace.sent(rows, 1, now);
                pace.applied(sent, now + quick);
            }
            pace.large.rows as usize
        };
        assert_eq!(batch(1_900, 100), 3_800);
        // One small one among large ones takes little.
        assert!(batch(10, 1) > 3_500);
        assert_eq!(batch(10, 100), BATCH_ROWS_MIN);
        assert_eq!(batch(BATCH_ROWS_MAX, 20), BATCH_ROWS_MAX, "and found again");
    }

    #[test]
    fn batches_grow_again_when_the_log_gets_quicker() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let slow = Log {
            rows_per_second: 5_000.0,
            latency: Duration::from_millis(1),
        };
        flood(&slow, &mut pace, start);
        assert_eq!(pace.large.rows as usize, BATCH_ROWS_MIN);
        let quick = Log {
            rows_per_second: 1_000_000.0,
            latency: Duration::from_millis(1),
        };
        let (rate, _) = flood(&quick, &mut pace, start + Duration::from_secs(60));
        assert!(rate > 900_000.0, "{rate}");
    }

    #[test]
    fn a_small_commit_is_measured_alone_now_and_then() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.sent(1, 0, start);
        let soon = start + MEASURED_EVERY / 2;
        assert!(pace.may_send(1, soon));
        assert_eq!(pace.rows(soon), BATCH_ROWS_MAX);
        let due = start + MEASURED_EVERY;
        assert!(!pace.may_send(1, due));
        assert!(pace.may_send(0, due));
        // One that was large already is followed by another try.
        assert!(!pace.sent(BATCH_ROWS_MAX, 0, due).is_measure);
        assert!(!pace.may_send(1, due));
        assert_eq!(pace.rows(due), BATCH_ROWS_MIN);
        assert!(pace.sent(BATCH_ROWS_MIN, 0, due).is_measure);
        assert!(pace.may_send(1, due));
        // Where all are large, none is waited for.
        let later = due + MEASURED_EVERY;
        for _ in 0..TRIES {
            assert!(!pace.may_send(1, later));
            pace.sent(BATCH_ROWS_MAX, 0, later);
        }
        assert!(pace.may_send(1, later));
    }
}
