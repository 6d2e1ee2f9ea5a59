//! The schedule calculus from outside: tables of hard days, properties, and a comparison with an
//! independent implementation.

#[path = "schedule/compiling.rs"]
mod compiling;
#[path = "schedule/cost.rs"]
mod cost;
#[path = "schedule/croner.rs"]
mod croner;
#[path = "schedule/hard_days.rs"]
mod hard_days;
#[path = "schedule/intervals.rs"]
mod intervals;
#[path = "schedule/properties.rs"]
mod properties;

use chrono::DateTime;
use tidemill_core::schedule::{Occurrence, OccurrenceNote, Schedule};
use tidemill_types::schedule::ScheduleSpec;

fn compile(spec: &ScheduleSpec) -> Schedule {
    Schedule::compile(spec).unwrap_or_else(|problems| panic!("{spec:?}: {problems:?}"))
}

/// An instant in RFC 3339 as milliseconds since the Unix epoch.
fn ms(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text)
        .expect(text)
        .timestamp_millis()
}

/// `local -> UTC instant [what the clock did]`, one occurrence a line of the tables.
fn line(occurrence: &Occurrence) -> String {
    let note = match occurrence.note {
        None => "",
        Some(OccurrenceNote::ShiftedByGap) => " shifted",
        Some(OccurrenceNote::SkippedByGap) => " skipped",
        Some(OccurrenceNote::MergedByGap) => " merged",
        Some(OccurrenceNote::FirstOfTwo) => " first",
        Some(OccurrenceNote::SecondOfTwo) => " second",
    };
    let is_off = matches!(note, " skipped" | " merged");
    assert_eq!(occurrence.fires, !is_off, "{occurrence:?}");
    let at = DateTime::from_timestamp_millis(occurrence.at_ms).expect("in the calendar");
    format!(
        "{} -> {}{note}",
        occurrence.nominal.format("%m-%dT%H:%M:%S"),
        at.format("%m-%dT%H:%M:%SZ"),
    )
}
