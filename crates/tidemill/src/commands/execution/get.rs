//! `tidemill execution get`

use clap::Args;
use tidemill_sdk::api::GetExecutionRequest;

use super::describe;
use crate::{context::Context, failure::Failure, views};

/// Show one execution.
#[derive(Args, Debug)]
pub struct Get {
    /// Its id (`exe_…`).
    execution: String,
}

impl Get {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let request = GetExecutionRequest {
            execution_id: self.execution,
        };
        let run = client
            .get_execution(request)
            .await?
            .execution
            .unwrap_or_default();
        let output = &context.output;
        if output.is_json() {
            return output.document(&views::execution(&run));
        }
        output.line(describe(&run, output.color))
    }
}
