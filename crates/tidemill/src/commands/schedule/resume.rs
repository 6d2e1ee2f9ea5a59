//! `tidemill schedule resume`

use clap::Args;
use tidemill_sdk::api::ResumeScheduleRequest;

use super::show_change;
use crate::{commands::flow::RequestId, context::Context, failure::Failure};

/// Have a paused schedule fire again, from its next occurrence on.
#[derive(Args, Debug)]
pub struct Resume {
    /// Id or name.
    flow: String,
    #[command(flatten)]
    request: RequestId,
}

impl Resume {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .resume_schedule(ResumeScheduleRequest {
                flow: self.flow.clone(),
                request_id: self.request.request_id,
            })
            .await?;
        let outcome = if answer.changed {
            "is resumed"
        } else {
            "was not paused"
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
