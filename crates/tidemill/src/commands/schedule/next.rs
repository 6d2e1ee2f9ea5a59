//! `tidemill schedule next`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::GetScheduleRequest;

use super::backfill::{progress, view};
use crate::{
    context::Context,
    failure::Failure,
    table::{Cell, Style, details},
    views::{short_time, time},
};

/// Show when an active flow is due next, whether it is paused, and its backfills.
#[derive(Args, Debug)]
pub struct Next {
    /// Id or name.
    flow: String,
}

impl Next {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let schedule = client
            .get_schedule(GetScheduleRequest { flow: self.flow })
            .await?;
        let output = &context.output;
        let next = schedule.next_at.as_ref();
        if output.is_json() {
            return output.document(&json!({
                "next_at": next.map(|next| time(Some(next))),
                "fired": schedule.fired,
                "last_execution_id": schedule.last_execution_id,
                "paused_at": schedule.paused_at.as_ref().map(|at| time(Some(at))),
                "paused_reason": schedule.paused_reason,
                "backfills": schedule.backfills.iter().map(view).collect::<Vec<_>>(),
            }));
        }
        let due = if next.is_some() {
            short_time(next)
        } else {
            "never again".to_owned()
        };
        let mut lines = vec![
            ("next (UTC)", due.into()),
            ("fired", schedule.fired.to_string().into()),
            ("last execution", schedule.last_execution_id.into()),
        ];
        if let Some(since) = &schedule.paused_at {
            let since = short_time(Some(since));
            let paused = match schedule.paused_reason.as_str() {
                "" => format!("since {since}"),
                reason => format!("since {since}: {reason}"),
            };
            lines.push(("paused (UTC)", Cell::styled(paused, Style::Yellow)));
        }
        for backfill in &schedule.backfills {
            let text = format!("{}: {}", backfill.request_id, progress(backfill));
            lines.push(("backfill", text.into()));
        }
        output.line(details(&lines, output.color))
    }
}
