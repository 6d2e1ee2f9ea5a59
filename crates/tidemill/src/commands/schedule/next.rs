//! `tidemill schedule next`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::GetScheduleRequest;

use crate::{
    context::Context,
    failure::Failure,
    table::details,
    views::{short_time, time},
};

/// Show when an active flow is due next.
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
            }));
        }
        let due = if next.is_some() {
            short_time(next)
        } else {
            "never again".to_owned()
        };
        output.line(details(
            &[
                ("next (UTC)", due.into()),
                ("fired", schedule.fired.to_string().into()),
                ("last execution", schedule.last_execution_id.into()),
            ],
            output.color,
        ))
    }
}
