//! The local times of a cron expression, in order, on a calendar without time zones.
//!
//! Owns the one use of the `cron` crate, and keeps its meaning away from the rest: it wants
//! seconds, counts weekdays from 1 for Sunday, joins day of month and day of week by "and", and has
//! its own idea of time zones. So it is given plain lists of numbers, one expression for each side
//! of an "or", and local times as if they were UTC. See `docs/adr/0005-cron.md`.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};

use super::expression::Expression;

/// The crate's first and last year; there are no occurrences beyond them.
const YEAR_FIRST: i32 = 1970;
const YEAR_LAST: i32 = 2100;

/// The local times of one expression.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    times: cron::Schedule,
    /// The other side of "day of month or day of week", where both are restricted.
    or_times: Option<cron::Schedule>,
}

impl Calendar {
    pub(super) fn new(expression: &Expression) -> Self {
        let days_of_month = list(expression.days_of_month.values(), 31);
        // The crate counts from 1 for Sunday.
        let days_of_week = list(expression.days_of_week.values().map(|day| day + 1), 7);
        let times = |day_of_month: &str, day_of_week: &str| {
            let text = format!(
                "{} {} {} {day_of_month} {} {day_of_week}",
                list(expression.seconds.values(), 60),
                list(expression.minutes.values(), 60),
                list(expression.hours.values(), 24),
                list(expression.months.values(), 12),
            );
            text.parse::<cron::Schedule>()
                .expect("lists of numbers in range are an expression of the cron crate")
        };
        if days_of_month != ANY && days_of_week != ANY {
            Self {
                times: times(&days_of_month, ANY),
                or_times: Some(times(ANY, &days_of_week)),
            }
        } else {
            Self {
                times: times(&days_of_month, &days_of_week),
                or_times: None,
            }
        }
    }

    /// The first local time strictly after `local`, or `None` after the last year.
    pub(super) fn next_after(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        // The crate casts years to u32, so a year before its first must not reach it.
        let local = local.max(last_second_before(YEAR_FIRST)).and_utc();
        if local.naive_utc() >= last_second_before(YEAR_LAST + 1) {
            return None;
        }
        let next = next(&self.times, &local);
        match &self.or_times {
            None => next,
            Some(or_times) => match (next, self::next(or_times, &local)) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        }
    }

    /// Whether `local` is one of the times.
    pub(super) fn contains(&self, local: NaiveDateTime) -> bool {
        let local = local.and_utc();
        self.times.includes(local)
            || self
                .or_times
                .as_ref()
                .is_some_and(|times| times.includes(local))
    }
}

const ANY: &str = "*";

fn next(times: &cron::Schedule, local: &DateTime<Utc>) -> Option<NaiveDateTime> {
    times.after(local).next().map(|next| next.naive_utc())
}

fn last_second_before(year: i32) -> NaiveDateTime {
    NaiveDate::from_ymd_opt(year - 1, 12, 31)
        .and_then(|day| day.and_hms_opt(23, 59, 59))
        .expect("a year of four digits has a last second")
}

/// The values as a list, or `*` when they are all `count` of the field: for those the crate shares one
/// set between all schedules.
fn list(values: impl Iterator<Item = u32>, count: usize) -> String {
    let texts: Vec<String> = values.map(|value| value.to_string()).collect();
    if texts.len() == count {
        ANY.to_owned()
    } else {
        texts.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(text: &str) -> Calendar {
        Calendar::new(&Expression::parse(text).expect(text))
    }

    fn local(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").expect(text)
    }

    fn check(text: &str, after: &str, expected: &[&str]) {
        let calendar = calendar(text);
        let mut at = local(after);
        for expected in expected {
            at = calendar.next_after(at).expect("goes on");
            assert_eq!(at, local(expected), "{text}");
            assert!(calendar.contains(at), "{text} contains {at}");
        }
    }

    #[test]
    fn weekdays_are_those_of_unix() {
        // 2026-01-02 is a Friday.
        let weekdays = [
            "2026-01-02T08:00:00",
            "2026-01-05T08:00:00",
            "2026-01-06T08:00:00",
        ];
        check("0 8 * * 1-5", "2026-01-01T09:00:00", &weekdays);
        check("0 8 * * mon-fri", "2026-01-01T09:00:00", &weekdays);
        for sunday in ["0", "7", "SUN"] {
            let text = format!("0 8 * * {sunday}");
            check(
                &text,
                "2026-01-01T00:00:00",
                &["2026-01-04T08:00:00", "2026-01-11T08:00:00"],
            );
        }
    }

    #[test]
    fn both_days_restricted_means_either() {
        check(
            "0 0 13 * FRI",
            "2026-01-01T00:00:00",
            &[
                "2026-01-02T00:00:00",
                "2026-01-09T00:00:00",
                "2026-01-13T00:00:00",
            ],
        );
        check(
            "0 0 13 * ?",
            "2026-01-01T00:00:00",
            &["2026-01-13T00:00:00"],
        );
        check(
            "0 0 1-31 * FRI",
            "2026-01-02T00:00:00",
            &["2026-01-09T00:00:00"],
        );
    }

    #[test]
    fn seconds_are_0_unless_there_are_six_fields() {
        check(
            "*/3 * * * *",
            "2026-01-01T00:00:30",
            &["2026-01-01T00:03:00"],
        );
        check(
            "*/20 * * * * *",
            "2026-01-01T00:00:30",
            &["2026-01-01T00:00:40", "2026-01-01T00:01:00"],
        );
    }

    #[test]
    fn rare_days_are_found() {
        check("0 0 29 2 *", "2096-03-01T00:00:00", &[]);
        check(
            "0 0 29 2 *",
            "2092-02-29T00:00:00",
            &["2096-02-29T00:00:00"],
        );
        assert_eq!(
            calendar("0 0 29 2 *").next_after(local("2096-02-29T00:00:00")),
            None
        );
    }

    #[test]
    fn the_calendar_ends_where_the_crate_does() {
        let calendar = calendar("59 59 23 * * *");
        let next = |after| calendar.next_after(after);
        assert_eq!(next(NaiveDateTime::MIN), Some(local("1970-01-01T23:59:59")));
        assert_eq!(
            next(local("1969-06-01T00:00:00")),
            Some(local("1970-01-01T23:59:59"))
        );
        assert_eq!(
            next(local("2100-12-30T23:59:59")),
            Some(local("2100-12-31T23:59:59"))
        );
        assert_eq!(next(local("2100-12-31T23:59:59")), None);
        assert_eq!(next(NaiveDateTime::MAX), None);
    }
}
