//! `tidemill schedule preview`

use clap::Args;
use serde_json::json;
use tidemill_core::schedule::{Schedule, ScheduleError, instant_ms};
use tidemill_proto::convert::timestamp;
use tidemill_sdk::api::{Occurrence, PreviewScheduleRequest};
use tidemill_types::{
    Timestamp,
    schedule::{ScheduleSpec, TIMEZONE_DEFAULT},
};

use crate::{
    context::Context,
    failure::{Failure, Problem},
    table::{Cell, Style, Table},
    views::{short_time, time},
};

/// Show the next times of a flow's schedule, or of one that is given, with what changes of the clock do.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill schedule preview orders
  tidemill schedule preview --cron '30 2 * * *' --timezone Europe/Berlin --from 2027-03-27T00:00:00Z
  tidemill schedule preview --schedule '{\"every\": \"90m\", \"timezone\": \"Asia/Kolkata\"}' --output json

A schedule that is given needs no server.")]
pub struct Preview {
    /// Id or name: the schedule of its draft.
    #[arg(required_unless_present_any = ["schedule", "cron"])]
    flow: Option<String>,
    /// A schedule as in a flow document, as JSON.
    #[arg(long, conflicts_with_all = ["flow", "cron"], value_name = "JSON")]
    schedule: Option<String>,
    /// A cron expression: five fields, six with seconds in front, or such as @daily.
    #[arg(long, conflicts_with = "flow", value_name = "EXPRESSION")]
    cron: Option<String>,
    /// With --cron: the IANA name of its time zone.
    #[arg(long, requires = "cron", default_value = TIMEZONE_DEFAULT, value_name = "ZONE")]
    timezone: String,
    /// Times after this one, such as 2027-03-27T00:00:00Z; now if not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// How many.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
}

/// An instant on the command line.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    instant_ms(text).map(Timestamp::from_millis)
}

impl Preview {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let occurrences = match self.given()? {
            Some(schedule) => self.preview(&schedule),
            None => {
                let client = context.client().await?;
                let request = PreviewScheduleRequest {
                    flow: self.flow.unwrap_or_default(),
                    schedule: String::new(),
                    from: self.from.map(timestamp),
                    count: self.count,
                };
                client.preview_schedule(request).await?.occurrences
            }
        };
        let output = &context.output;
        if output.is_json() {
            // One by one, as line tools and tests of calendars like it.
            for occurrence in &occurrences {
                output.stream(&json!({
                    "nominal": occurrence.nominal,
                    "at": time(occurrence.at.as_ref()),
                    "note": occurrence.note,
                    "fires": occurrence.fires,
                }))?;
            }
            return Ok(());
        }
        let header = ["LOCAL TIME", "UTC", "FIRES", "NOTE"];
        let mut table = Table::new(&header, "It is never due again.");
        for occurrence in &occurrences {
            let fires = if occurrence.fires {
                Cell::styled("yes", Style::Green)
            } else {
                Cell::styled("no", Style::Grey)
            };
            table.row(vec![
                occurrence.nominal.replace('T', " ").into(),
                short_time(occurrence.at.as_ref()).into(),
                fires,
                occurrence.note.as_str().into(),
            ]);
        }
        output.table(&table)
    }

    /// The schedule on the command line, if there is one.
    fn given(&self) -> Result<Option<Schedule>, Failure> {
        let (spec, problem): (_, fn(ScheduleError) -> Problem) = if let Some(cron) = &self.cron {
            let spec = ScheduleSpec::from_cron(cron.as_str()).in_timezone(self.timezone.as_str());
            // Pointers are into a document; here each part has an option of its own.
            (spec, |error| {
                problem(
                    format!("--{}", error.pointer.trim_start_matches('/')),
                    error.message,
                )
            })
        } else if let Some(text) = &self.schedule {
            let spec = serde_json::from_str(text)
                .map_err(|error| Failure::usage(format!("--schedule: {error}")))?;
            (spec, |error| problem(error.pointer, error.message))
        } else {
            return Ok(None);
        };
        Schedule::compile(&spec).map(Some).map_err(|errors| {
            let problems = errors.into_iter().map(problem).collect();
            Failure::invalid("INVALID_SCHEDULE", "the schedule is invalid", problems)
        })
    }

    fn preview(&self, schedule: &Schedule) -> Vec<Occurrence> {
        let now = || {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        };
        let from_ms = self.from.map_or_else(now, Timestamp::as_millis);
        let count = usize::try_from(self.count).expect("32 bits fit");
        schedule
            .preview(from_ms, count)
            .into_iter()
            .map(|occurrence| Occurrence {
                nominal: occurrence.nominal_text(),
                at: Some(timestamp(Timestamp::from_millis(occurrence.at_ms))),
                note: occurrence.note_text(),
                fires: occurrence.fires,
                ..Occurrence::default()
            })
            .collect()
    }
}

fn problem(pointer: String, message: String) -> Problem {
    Problem {
        file: String::new(),
        pointer,
        code: "schedule".to_owned(),
        message,
    }
}
