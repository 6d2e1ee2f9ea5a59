//! `tidemill schedule …`

use clap::Subcommand;
use serde_json::json;

use crate::{context::Context, failure::Failure};

mod backfill;
mod ledger;
mod next;
mod pause;
mod preview;
mod resume;

/// See when flows are due and what became of it; pause, resume and backfill them.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    Preview(preview::Preview),
    #[command(visible_alias = "get")]
    Next(next::Next),
    Ledger(ledger::Ledger),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Backfill(backfill::Backfill),
}

impl Schedule {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Preview(command) => command.run(context).await,
            Self::Next(command) => command.run(context).await,
            Self::Ledger(command) => command.run(context).await,
            Self::Pause(command) => command.run(context).await,
            Self::Resume(command) => command.run(context).await,
            Self::Backfill(command) => command.run(context).await,
        }
    }
}

/// What a request that pauses or resumes has done: `outcome` says it of the flow.
fn show_change(
    context: &Context,
    changed: bool,
    request_id: &str,
    flow: &str,
    outcome: &str,
) -> Result<(), Failure> {
    let output = &context.output;
    if output.is_json() {
        return output.document(&json!({ "changed": changed, "request_id": request_id }));
    }
    output.line(format!("{flow} {outcome}"))
}
