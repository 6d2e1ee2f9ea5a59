//! The schedule calculus: when a schedule is due.
//!
//! Owns the meaning of `trigger.schedule` as far as it is a matter of time: which local times a
//! cron expression or an interval names, which instants those are, and what happens to local times
//! that do not exist or exist twice. It never reads a clock and keeps no state: what fired, what
//! runs, `catchUp`, `overlap` and the count of `end.after` are for the caller, who keeps the ledger.
//!
//! # Where local time jumps
//!
//! A cron expression is a *schedule of steps* when its seconds, minutes or hours field holds a `*`
//! or a step (`*/15 * * * *`, `0 * * * *`, `0 */2 * * *`, `*/10 2 * * *`); the seconds field counts
//! only where it is written. Any other names *times of day* (`30 2 * * *`, `0,30 1-3 * * 1-5`).
//! (Vixie cron as changed by Debian is the precedent: "wildcard jobs" and "fixed-time jobs".)
//!
//! - **Steps** keep their rate: they fire at each instant whose local time matches. In a fold, where
//!   local time is put back, that is at both instants, whatever `dst.overlap` says. Local times in a
//!   gap, where local time is put forward, are never shifted, whatever `dst.gap` says. They are
//!   reported as `SkippedByGap`, except for a schedule that fires in each hour of each day: there
//!   the gap is no interruption, and the times in it are no occurrences.
//! - **Times of day** follow `dst`. In a gap: `shift` fires once, at the first instant after it,
//!   however many times the gap swallowed. The first of those is `ShiftedByGap`, the others are
//!   `MergedByGap` and do not fire; where a time of the schedule is the end of the gap itself, that
//!   one fires and all in the gap are merged. `skip` fires none (`SkippedByGap`). In a fold:
//!   `first`, `last` or `both` of the instants fire.
//! - **Intervals** (`every`) count in UTC and know no jumps; only their nominal times are local.

mod calendar;
mod compile;
mod cursor;
mod expression;
mod occurrence;
mod zone;

use chrono::{DateTime, TimeZone};
use chrono_tz::Tz;
use tidemill_types::{
    limits::SCHEDULE_PREVIEW_MAX,
    schedule::{CatchUpPolicy, OverlapPolicy},
};

pub use compile::{ScheduleError, instant_ms};
use cursor::{Cron, Cursor};
pub use occurrence::{Occurrence, OccurrenceNote, local_text};
use zone::Meaning;

/// A schedule, checked and ready to answer when it is due.
///
/// All times are milliseconds since the Unix epoch, UTC. Occurrences are in the years 1970 to 2100,
/// which is as far as the time zones' rules are known.
#[derive(Debug, Clone)]
pub struct Schedule {
    rule: Rule,
    /// No occurrence before this instant.
    start_ms: i64,
    /// None after this one.
    end_ms: i64,
    end_after: Option<u64>,
    jitter_ms_max: u64,
    catch_up_window_ms: u64,
    catch_up: CatchUpPolicy,
    overlap: OverlapPolicy,
}

#[derive(Debug, Clone)]
enum Rule {
    Cron(Box<Cron>),
    Every(Every),
}

/// An interval: due at `anchor_ms` plus each whole multiple of `every_ms`.
#[derive(Debug, Clone, Copy)]
struct Every {
    every_ms: i64,
    anchor_ms: i64,
    zone: Tz,
}

impl Schedule {
    /// The first firing strictly after an instant, or `None` when there is no more.
    ///
    /// Only occurrences that fire: see [`Self::occurrences_after`] for all.
    pub fn next_after(&self, after_ms: i64) -> Option<Occurrence> {
        self.occurrences_after(after_ms)
            .find(|occurrence| occurrence.fires)
    }

    /// The first `count` occurrences strictly after an instant, at most [`SCHEDULE_PREVIEW_MAX`],
    /// those among them that a gap keeps from firing.
    pub fn preview(&self, from_ms: i64, count: usize) -> Vec<Occurrence> {
        self.occurrences_after(from_ms)
            .take(count.min(SCHEDULE_PREVIEW_MAX))
            .collect()
    }

    /// All occurrences strictly after an instant, whether they fire or not, in order of `at_ms` and
    /// then of `nominal`. What the ledger needs a row for.
    pub fn occurrences_after(&self, after_ms: i64) -> impl Iterator<Item = Occurrence> + '_ {
        let after_ms = after_ms.max(self.start_ms - 1);
        let (cron, every) = match &self.rule {
            Rule::Cron(cron) => (Some(Cursor::after(cron, after_ms)), None),
            Rule::Every(every) => (None, Some(every.after(after_ms))),
        };
        cron.into_iter()
            .flatten()
            .chain(every.into_iter().flatten())
            .take_while(|occurrence| occurrence.at_ms <= self.end_ms)
    }

    /// After how many firings the schedule ends. The caller counts: this module keeps no state.
    pub fn end_after(&self) -> Option<u64> {
        self.end_after
    }

    /// Which of the occurrences that fell due while nothing could fire are made up for.
    pub fn catch_up(&self) -> CatchUpPolicy {
        self.catch_up
    }

    /// What happens when the previous execution still runs.
    pub fn overlap(&self) -> OverlapPolicy {
        self.overlap
    }

    /// The local time of an instant in the schedule's zone, as if it were UTC.
    pub fn nominal_ms(&self, at_ms: i64) -> i64 {
        let zone = match &self.rule {
            Rule::Cron(cron) => cron.zone,
            Rule::Every(every) => every.zone,
        };
        DateTime::from_timestamp_millis(at_ms).map_or(at_ms, |at| {
            at.with_timezone(&zone)
                .naive_local()
                .and_utc()
                .timestamp_millis()
        })
    }

    /// How long after `at_ms` a missed occurrence may still be caught up.
    pub fn catch_up_window_ms(&self) -> u64 {
        self.catch_up_window_ms
    }

    /// How much later than its `at_ms` an occurrence fires: from 0 to the schedule's `jitter`, evenly
    /// spread, and always the same for the same occurrence and seed. The seed should differ from
    /// flow to flow, so that flows with the same schedule do not fire together.
    pub fn jitter_ms(&self, flow_seed: u64, occurrence: &Occurrence) -> i64 {
        // Both instants of a repeated local time have one nominal time, so the instant counts too.
        let nominal = occurrence.nominal.and_utc().timestamp_millis();
        let hash = [nominal, occurrence.at_ms]
            .into_iter()
            .fold(
                mix(flow_seed),
                |hash, part| mix(hash ^ part.cast_unsigned()),
            );
        // The high half of hash times range: even, without a division.
        let range = u128::from(self.jitter_ms_max) + 1;
        let jitter = (u128::from(hash) * range) >> u64::BITS;
        i64::try_from(jitter).expect("SCHEDULE_JITTER_MS_MAX fits")
    }
}

impl Every {
    fn after(self, after_ms: i64) -> impl Iterator<Item = Occurrence> {
        // Wider than i64: the distance from a far anchor to a far instant does not fit.
        let (every, anchor) = (i128::from(self.every_ms), i128::from(self.anchor_ms));
        let steps = (i128::from(after_ms) - anchor).div_euclid(every) + 1;
        (0..)
            .map(move |k| anchor + (steps + k) * every)
            .map_while(move |at| self.occurrence(i64::try_from(at).ok()?))
    }

    /// `None` where the calendar of `chrono` ends.
    fn occurrence(self, at_ms: i64) -> Option<Occurrence> {
        let utc = DateTime::from_timestamp_millis(at_ms)?.naive_utc();
        let offset = chrono::Offset::fix(&self.zone.offset_from_utc_datetime(&utc));
        let nominal = utc.checked_add_offset(offset)?;
        let note = match zone::meaning(self.zone, nominal) {
            Meaning::Twice(fold) if fold.first(nominal) == at_ms.div_euclid(1000) => {
                Some(OccurrenceNote::FirstOfTwo)
            }
            Meaning::Twice(_) => Some(OccurrenceNote::SecondOfTwo),
            Meaning::Once(_) | Meaning::Never(_) => None,
        };
        Some(Occurrence {
            nominal,
            at_ms,
            note,
            fires: true,
        })
    }
}

/// The finalizer of SplitMix64. Fixed for ever: it decides when occurrences fire.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
