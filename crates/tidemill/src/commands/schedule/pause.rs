//! `tidemill schedule pause`

use clap::Args;
use tidemill_sdk::api::PauseScheduleRequest;

use super::show_change;
use crate::{commands::flow::RequestId, context::Context, failure::Failure};

/// Keep the schedule of an active flow from firing until it is resumed.
///
/// Each occurrence meanwhile has its row in the ledger, skipped. It stays paused when the flow is stopped
/// and started again, and its executions that run already go on.
#[derive(Args, Debug)]
pub struct Pause {
    /// Id or name.
    flow: String,
    /// Why, for people; `schedule get` shows it.
    #[arg(long, default_value = "", value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    request: RequestId,
}

impl Pause {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .pause_schedule(PauseScheduleRequest {
                flow: self.flow.clone(),
                reason: self.reason,
                request_id: self.request.request_id,
            })
            .await?;
        let outcome = if answer.changed {
            "is paused"
        } else {
            "was paused before"
        };
        show_change(
            context,
            answer.changed,
            &answer.request_id,
            &self.flow,
            outcome,
        )
    }
}
