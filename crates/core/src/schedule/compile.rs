//! From what a flow says to a checked schedule, with every problem at once.

use chrono::DateTime;
use tidemill_types::duration::{DurationText, FlowDuration};
use tidemill_types::limits::{
    SCHEDULE_CATCH_UP_WINDOW_MS_MAX, SCHEDULE_EVERY_MS_MAX, SCHEDULE_EVERY_MS_MIN,
    SCHEDULE_JITTER_MS_MAX,
};
use tidemill_types::schedule::ScheduleSpec;

use super::calendar::Calendar;
use super::cursor::{CALENDAR_END, CALENDAR_START, Cron};
use super::expression::Expression;
use super::{Every, Rule, Schedule, zone};

/// One problem of a [`ScheduleSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct ScheduleError {
    /// JSON pointer to the culprit, relative to the schedule; empty for the schedule itself.
    pub pointer: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// The milliseconds since the Unix epoch of an instant in RFC 3339.
///
/// # Errors
/// What is allowed, when it is none.
pub fn instant_ms(text: &str) -> Result<i64, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.timestamp_millis())
        .map_err(|_| {
            "not an instant; allowed is RFC 3339, such as 2026-01-31T08:00:00Z or \
             2026-01-31T08:00:00+01:00"
                .to_owned()
        })
}

impl Schedule {
    /// Checks a schedule; on failure, every problem that it has.
    pub fn compile(spec: &ScheduleSpec) -> Result<Self, Vec<ScheduleError>> {
        let mut problems = Problems::default();

        let zone = problems.keep("/timezone", zone::find(&spec.timezone));
        let anchor_ms = problems.instant("/anchor", spec.anchor.as_deref());
        let every_ms = problems.duration(
            "/every",
            spec.every.as_ref(),
            SCHEDULE_EVERY_MS_MIN..=SCHEDULE_EVERY_MS_MAX,
        );
        let expression = spec.cron.as_deref().and_then(|text| {
            Expression::parse(text)
                .map_err(|found| {
                    for problem in found {
                        problems.add("/cron", problem);
                    }
                })
                .ok()
        });
        match (&spec.cron, &spec.every) {
            (None, None) => problems.add("", "neither cron nor every; exactly one is needed"),
            (Some(_), Some(_)) => problems.add("", "both cron and every; exactly one is allowed"),
            (Some(_), None) if spec.anchor.is_some() => {
                problems.add("/anchor", "an anchor is allowed beside every only");
            }
            _ => {}
        }

        let start_ms = problems.instant("/startAt", spec.start_at.as_deref());
        let (end_after, end_ms) = problems.end(spec);
        let jitter_ms =
            problems.duration("/jitter", spec.jitter.as_ref(), 0..=SCHEDULE_JITTER_MS_MAX);
        let catch_up_window_ms = problems.duration(
            "/catchUp/window",
            Some(&spec.catch_up.window),
            0..=SCHEDULE_CATCH_UP_WINDOW_MS_MAX,
        );

        if !problems.0.is_empty() {
            return Err(problems.0);
        }
        let zone = zone.expect("no problem, so a zone");
        let rule = match (expression, every_ms) {
            (Some(expression), _) => Rule::Cron(Box::new(Cron {
                calendar: Calendar::new(&expression),
                zone,
                is_steps: expression.is_steps,
                is_unbroken: expression.is_steps && expression.is_every_hour(),
                gap: spec.dst.gap,
                fold: spec.dst.overlap,
            })),
            (None, every_ms) => Rule::Every(Every {
                every_ms: every_ms
                    .expect("no problem, so cron or every")
                    .try_into()
                    .expect("SCHEDULE_EVERY_MS_MAX fits"),
                anchor_ms: anchor_ms.unwrap_or(0),
                zone,
            }),
        };
        let schedule = Self {
            rule,
            start_ms: start_ms.unwrap_or(i64::MIN).max(CALENDAR_START * 1000),
            end_ms: end_ms.unwrap_or(i64::MAX).min(CALENDAR_END * 1000),
            end_after,
            jitter_ms_max: jitter_ms.unwrap_or(0),
            catch_up_window_ms: catch_up_window_ms.expect("no problem, so a window"),
            catch_up: spec.catch_up.policy,
            overlap: spec.overlap,
        };
        if schedule.next_after(i64::MIN).is_none() {
            problems.add("", "can never fire: no occurrence from startAt to end.at");
            return Err(problems.0);
        }
        Ok(schedule)
    }
}

#[derive(Default)]
struct Problems(Vec<ScheduleError>);

impl Problems {
    fn add(&mut self, pointer: &str, message: impl Into<String>) {
        self.0.push(ScheduleError {
            pointer: pointer.to_owned(),
            message: message.into(),
        });
    }

    fn keep<T>(&mut self, pointer: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(pointer, message)).ok()
    }

    fn instant(&mut self, pointer: &str, text: Option<&str>) -> Option<i64> {
        self.keep(pointer, instant_ms(text?))
    }

    fn duration(
        &mut self,
        pointer: &str,
        text: Option<&DurationText>,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let result = match text?.parse() {
            Err(error) => Err(error.to_string()),
            Ok(duration) if allowed.contains(&duration.ms) => Ok(duration.ms),
            Ok(duration) => Err(format!(
                "{duration} is out of range; allowed are {} to {}",
                FlowDuration::from_ms(*allowed.start()),
                FlowDuration::from_ms(*allowed.end()),
            )),
        };
        self.keep(pointer, result)
    }

    /// The number of firings and the instant that end the schedule.
    fn end(&mut self, spec: &ScheduleSpec) -> (Option<u64>, Option<i64>) {
        let Some(end) = &spec.end else {
            return (None, None);
        };
        match (end.after, &end.at) {
            (None, None) => self.add("/end", "neither after nor at; exactly one is needed"),
            (Some(_), Some(_)) => self.add("/end", "both after and at; exactly one is allowed"),
            (Some(0), None) => self.add("/end/after", "0 firings; at least 1 is needed"),
            _ => {}
        }
        (end.after, self.instant("/end/at", end.at.as_deref()))
    }
}
