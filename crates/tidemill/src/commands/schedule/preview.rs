//! `tidemill schedule preview`

use clap::Args;
use serde_json::{Value, json};
use tidemill_sdk::api::PreviewScheduleRequest;

use crate::{
    context::Context,
    failure::Failure,
    table::{Cell, Style, Table},
    views::{short_time, time},
};

/// Show the next times of a flow's schedule, or of one that is given, with what changes of the clock do.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill schedule preview orders
  tidemill schedule preview --schedule '{\"cron\": \"30 2 * * *\", \"timezone\": \"Europe/Berlin\"}'")]
pub struct Preview {
    /// Id or name: the schedule of its draft.
    #[arg(required_unless_present = "schedule")]
    flow: Option<String>,
    /// A schedule as in a flow document, as JSON.
    #[arg(long, conflicts_with = "flow", value_name = "JSON")]
    schedule: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
}

impl Preview {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .preview_schedule(PreviewScheduleRequest {
                flow: self.flow.unwrap_or_default(),
                schedule: self.schedule.unwrap_or_default(),
                from: None,
                count: self.count,
            })
            .await?;
        context.output.either(
            || {
                let occurrences = answer.occurrences.iter().map(|occurrence| {
                    json!({
                        "nominal": occurrence.nominal,
                        "at": time(occurrence.at.as_ref()),
                        "fires": occurrence.fires,
                        "note": occurrence.note,
                    })
                });
                Value::Array(occurrences.collect())
            },
            || {
                let header = ["LOCAL TIME", "UTC", "FIRES", "NOTE"];
                let mut table = Table::new(&header, "It is never due again.");
                for occurrence in &answer.occurrences {
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
                table
            },
        )
    }
}
