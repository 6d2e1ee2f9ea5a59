//! `tidemill execution cancel`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::CancelExecutionRequest;

use crate::{
    commands::flow::RequestId,
    context::Context,
    failure::Failure,
    views::{self, execution_state},
};

/// Cancel what is live of an execution. One that has ended stays as it is.
#[derive(Args, Debug)]
pub struct Cancel {
    /// The execution's id (`exe_…`).
    execution: String,
    /// Why, for those who look at it later.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    reason: String,
    #[command(flatten)]
    request: RequestId,
}

impl Cancel {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .cancel_execution(CancelExecutionRequest {
                execution_id: self.execution,
                reason: self.reason,
                request_id: self.request.request_id,
            })
            .await?;
        let run = answer.execution.unwrap_or_default();
        if context.output.is_json() {
            let mut value = views::execution(&run);
            value["changed"] = json!(answer.changed);
            return context.output.document(&value);
        }
        let (word, style) = execution_state(run.state());
        let word = style.paint(word, context.output.color);
        let already = if answer.changed {
            ""
        } else {
            " (it had ended already, nothing changed)"
        };
        context.output.line(format!("{}: {word}{already}", run.id))
    }
}
