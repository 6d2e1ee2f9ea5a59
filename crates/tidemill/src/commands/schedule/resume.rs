//! `tidemill schedule resume`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::ResumeScheduleRequest;

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
        let output = &context.output;
        if output.is_json() {
            return output.document(&json!({
                "changed": answer.changed,
                "request_id": answer.request_id,
            }));
        }
        let flow = self.flow;
        output.line(if answer.changed {
            format!("{flow} is resumed")
        } else {
            format!("{flow} was not paused")
        })
    }
}
