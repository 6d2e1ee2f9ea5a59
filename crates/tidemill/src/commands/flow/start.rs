//! `tidemill flow start`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::{Flow, FlowStatus, StartFlowRequest};

use super::RequestId;
use crate::{
    context::Context,
    failure::Failure,
    views::{self, flow_status},
};

/// Make a published version active: its trigger fires, and executions can be started.
#[derive(Args, Debug)]
pub struct Start {
    /// Id or name.
    flow: String,
    /// This version, not the newest.
    #[arg(
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "NUMBER"
    )]
    flow_version: u32,
    /// Start even when no worker serves what the flow needs.
    #[arg(long)]
    without_workers: bool,
    /// Do not wait until it is active.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    request: RequestId,
}

impl Start {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .start_flow(StartFlowRequest {
                flow: self.flow.clone(),
                version: self.flow_version,
                request_id: self.request.request_id,
                without_workers: self.without_workers,
                no_wait: self.no_wait,
            })
            .await?;
        let flow = answer.flow.unwrap_or_default();
        if flow.status() == FlowStatus::Inactive {
            return Err(refused(&flow));
        }
        show(context, &self.flow, &flow, answer.changed)
    }
}

/// The flow went back to inactive.
pub fn refused(flow: &Flow) -> Failure {
    let reason = if flow.status_reason.is_empty() {
        "no reason given"
    } else {
        &flow.status_reason
    };
    Failure::failed(
        "NOT_STARTED",
        format!("{} did not start: {reason}", flow.name),
    )
}

/// What became of a flow that was started or stopped.
pub fn show(context: &Context, name: &str, flow: &Flow, changed: bool) -> Result<(), Failure> {
    if context.output.is_json() {
        let mut value = views::flow(flow);
        value["changed"] = json!(changed);
        return context.output.document(&value);
    }
    let (word, style) = flow_status(flow.status());
    let word = style.paint(word, context.output.color);
    let version = match flow.active_version {
        0 => String::new(),
        version => format!(", version {version}"),
    };
    let already = if changed { "" } else { " (it was already)" };
    context
        .output
        .line(format!("{name}: {word}{version}{already}"))
}
