//! `tidemill flow delete`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::DeleteFlowRequest;

use super::RequestId;
use crate::{context::Context, failure::Failure};

/// Delete an inactive flow. Its finished executions stay until their retention ends.
#[derive(Args, Debug)]
pub struct Delete {
    /// Id or name.
    flow: String,
    #[command(flatten)]
    request: RequestId,
}

impl Delete {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        client
            .delete_flow(DeleteFlowRequest {
                flow: self.flow.clone(),
                request_id: self.request.request_id,
            })
            .await?;
        if context.output.is_json() {
            return context
                .output
                .document(&json!({ "flow": self.flow, "deleted": true }));
        }
        context.output.line(format!("{}: deleted", self.flow))
    }
}
