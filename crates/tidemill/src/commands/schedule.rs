//! `tidemill schedule …`

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

mod ledger;
mod next;
mod preview;

/// See when flows are due, and what became of each time that they were.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    Preview(preview::Preview),
    #[command(visible_alias = "get")]
    Next(next::Next),
    Ledger(ledger::Ledger),
}

impl Schedule {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Preview(command) => command.run(context).await,
            Self::Next(command) => command.run(context).await,
            Self::Ledger(command) => command.run(context).await,
        }
    }
}
