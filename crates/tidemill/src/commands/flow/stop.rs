//! `tidemill flow stop`

use clap::Args;
use tidemill_sdk::api::StopFlowRequest;

use super::{RequestId, start::show};
use crate::{context::Context, failure::Failure};

/// Make a flow inactive: nothing starts it any more. What runs, finishes, unless it is cancelled.
#[derive(Args, Debug)]
pub struct Stop {
    /// Id or name.
    flow: String,
    /// Cancel the executions that are running.
    #[arg(long)]
    cancel_running: bool,
    /// Do not wait until it is inactive.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    request: RequestId,
}

impl Stop {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .stop_flow(StopFlowRequest {
                flow: self.flow.clone(),
                request_id: self.request.request_id,
                cancel_running: self.cancel_running,
                no_wait: self.no_wait,
            })
            .await?;
        show(
            context,
            &self.flow,
            &answer.flow.unwrap_or_default(),
            answer.changed,
        )
    }
}
