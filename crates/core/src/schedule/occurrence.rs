//! One occurrence of a schedule.

use std::fmt;

use chrono::{DateTime, NaiveDateTime};
use tidemill_types::Timestamp;

/// One time at which a schedule is due, whether it then fires or not.
///
/// Within one schedule, `nominal` and `at_ms` together are unique. `nominal` alone is not: where
/// local time is put back, both instants of one local time may fire. Of the occurrences with the
/// same `at_ms`, exactly one fires, or none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Occurrence {
    /// The local time that the schedule names, in its time zone.
    pub nominal: NaiveDateTime,
    /// The instant, in milliseconds since the Unix epoch. For a local time that does not exist, the
    /// first instant after the gap.
    pub at_ms: i64,
    /// What a change of the clock does to this occurrence, if anything.
    pub note: Option<OccurrenceNote>,
    /// Whether it fires. If not, `note` says why.
    pub fires: bool,
}

impl Occurrence {
    /// The local time that the schedule names, without offset: `2027-03-28T02:30:00`.
    pub fn nominal_text(&self) -> String {
        text(self.nominal)
    }

    /// What a change of the clock does to it; empty when nothing.
    pub fn note_text(&self) -> String {
        self.note.map(|note| note.to_string()).unwrap_or_default()
    }
}

/// A local time that is stored as if it were UTC, without offset.
pub fn local_text(nominal: Timestamp) -> String {
    DateTime::from_timestamp_millis(nominal.as_millis())
        .map(|at| text(at.naive_utc()))
        .unwrap_or_default()
}

fn text(local: NaiveDateTime) -> String {
    local.format("%Y-%m-%dT%H:%M:%S%.f").to_string()
}

/// What a change of local time does to an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OccurrenceNote {
    /// The local time does not exist: fires at the first instant after the gap.
    ShiftedByGap,
    /// The local time does not exist: does not fire.
    SkippedByGap,
    /// The local time does not exist, and another occurrence fires at the first instant after the
    /// gap: does not fire again.
    MergedByGap,
    /// The local time exists twice: this is the earlier instant.
    FirstOfTwo,
    /// The local time exists twice: this is the later instant.
    SecondOfTwo,
}

impl fmt::Display for OccurrenceNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShiftedByGap => {
                "local time does not exist (clock put forward): shifted to the first instant after"
            }
            Self::SkippedByGap => "local time does not exist (clock put forward): skipped",
            Self::MergedByGap => {
                "local time does not exist (clock put forward): merged with the firing at the \
                 first instant after"
            }
            Self::FirstOfTwo => "local time exists twice (clock put back): the first of the two",
            Self::SecondOfTwo => "local time exists twice (clock put back): the second of the two",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_have_no_offset_and_no_needless_fraction() {
        for (ms, expected) in [
            (1_806_201_000_000, "2027-03-28T02:30:00"),
            (1_806_201_000_500, "2027-03-28T02:30:00.500"),
        ] {
            assert_eq!(local_text(Timestamp::from_millis(ms)), expected);
        }
    }
}
