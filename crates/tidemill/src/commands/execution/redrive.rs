//! `tidemill execution redrive`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::RedriveExecutionRequest;

use crate::{
    commands::flow::RequestId,
    context::Context,
    failure::Failure,
    views::{self, execution_state},
};

/// Run the dead steps of a failed execution again, on the input that they kept; it goes on from there.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill execution redrive exe_01k…              all dead steps
  tidemill execution redrive exe_01k… --step 3     only this one")]
pub struct Redrive {
    /// The execution's id (`exe_…`).
    execution: String,
    /// Only this dead step; may be given several times.
    #[arg(long = "step", value_name = "NUMBER")]
    steps: Vec<u32>,
    #[command(flatten)]
    request: RequestId,
}

impl Redrive {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let answer = client
            .redrive_execution(RedriveExecutionRequest {
                execution_id: self.execution,
                steps: self.steps,
                request_id: self.request.request_id,
            })
            .await?;
        let run = answer.execution.unwrap_or_default();
        if context.output.is_json() {
            let mut value = views::execution(&run);
            value["redriven"] = json!(answer.redriven);
            return context.output.document(&value);
        }
        let (word, style) = execution_state(run.state());
        let word = style.paint(word, context.output.color);
        let plural = if answer.redriven == 1 { "" } else { "s" };
        context.output.line(format!(
            "{}: {word}, {} step{plural} again",
            run.id, answer.redriven
        ))
    }
}
