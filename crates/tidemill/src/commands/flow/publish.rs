//! `tidemill flow publish`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::PublishFlowRequest;

use super::RequestId;
use crate::{context::Context, failure::Failure, views};

/// Make the draft an immutable version. The same content gives the same version again.
#[derive(Args, Debug)]
pub struct Publish {
    /// Id or name.
    flow: String,
    #[command(flatten)]
    request: RequestId,
}

impl Publish {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .publish_flow(PublishFlowRequest {
                flow: self.flow.clone(),
                request_id: self.request.request_id,
            })
            .await?;
        let version = answer.version.unwrap_or_default();
        if context.output.is_json() {
            let mut value = views::version(&version);
            value["created"] = json!(answer.created);
            return context.output.document(&value);
        }
        let new = if answer.created {
            ""
        } else {
            " (published before, nothing is new)"
        };
        context
            .output
            .line(format!("{}: version {}{new}", self.flow, version.version))
    }
}
