//! `tidemill schedule backfill`

use clap::Args;
use serde_json::json;
use tidemill_proto::convert::timestamp;
use tidemill_sdk::api::{Backfill as Progress, BackfillScheduleRequest, BackfillState};
use tidemill_types::Timestamp;

use super::preview::instant;
use crate::{
    commands::flow::RequestId,
    context::Context,
    failure::Failure,
    table::Table,
    views::{short_time, time},
};

/// Run the occurrences of a past range of a schedule, each once however often it is asked for.
///
/// They run beside the regular ones: side by side when the schedule's overlap is allow, one after the
/// other otherwise. `schedule get` shows how far it is, `schedule ledger` what became of each.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill schedule backfill orders --from 2027-03-27T00:00:00Z --to 2027-03-28T00:00:00Z --dry-run
  tidemill schedule backfill orders --from 2027-03-27T00:00:00Z --to 2027-03-28T00:00:00Z --missed")]
pub struct Backfill {
    /// Id or name of an active flow.
    flow: String,
    /// From this time on, such as 2027-03-27T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Timestamp,
    /// Before this time, which must not be after now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Timestamp,
    /// Leave out the occurrences that started an execution when they were due.
    #[arg(long)]
    missed: bool,
    /// Show what would be run, and run nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    request: RequestId,
}

impl Backfill {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .backfill_schedule(BackfillScheduleRequest {
                flow: self.flow,
                from: Some(timestamp(self.from)),
                to: Some(timestamp(self.to)),
                only_missed: self.missed,
                dry_run: self.dry_run,
                request_id: self.request.request_id,
            })
            .await?;
        let backfill = answer.backfill.unwrap_or_default();
        let output = &context.output;
        if output.is_json() {
            let mut document = view(&backfill);
            document["created"] = answer.created.into();
            if self.dry_run {
                let occurrences = answer.occurrences.iter().map(|occurrence| {
                    json!({"nominal": occurrence.nominal, "at": time(occurrence.at.as_ref())})
                });
                document["occurrences"] = occurrences.collect();
            }
            return output.document(&document);
        }
        if self.dry_run {
            let mut table = Table::new(&["LOCAL TIME", "UTC"], "No occurrence is in this range.");
            for occurrence in &answer.occurrences {
                table.row(vec![
                    occurrence.nominal.replace('T', " ").into(),
                    short_time(occurrence.at.as_ref()).into(),
                ]);
            }
            output.table(&table)?;
            let shown = answer.occurrences.len() as u64;
            if backfill.total > shown {
                output.note(format!("… and {} more", backfill.total - shown));
            }
            return Ok(());
        }
        if !answer.created {
            output.note("This request id had asked for it before; nothing new was begun.");
        }
        output.line(format!(
            "backfill {}: {}",
            backfill.request_id,
            progress(&backfill)
        ))
    }
}

/// Where a backfill stands, for programs.
pub(super) fn view(backfill: &Progress) -> serde_json::Value {
    json!({
        "request_id": backfill.request_id,
        "from": time(backfill.from.as_ref()),
        "to": time(backfill.to.as_ref()),
        "only_missed": backfill.only_missed,
        "total": backfill.total,
        "decided": backfill.decided,
        "started": backfill.started,
        "state": state(backfill.state()),
        "requested_at": time(backfill.requested_at.as_ref()),
    })
}

/// Where a backfill stands, for people.
pub(super) fn progress(backfill: &Progress) -> String {
    format!(
        "{}, {} of {} occurrences decided, {} executions started",
        state(backfill.state()),
        backfill.decided,
        backfill.total,
        backfill.started
    )
}

fn state(state: BackfillState) -> &'static str {
    match state {
        BackfillState::Unspecified => "unknown",
        BackfillState::Running => "running",
        BackfillState::Done => "done",
        BackfillState::Stopped => "stopped",
    }
}
