//! `tidemill journal …`

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

mod export;
mod tail;
mod verify;

/// Read, export and verify the audit record of everything that happened.
#[derive(Debug, Subcommand)]
pub enum Journal {
    Tail(tail::Tail),
    Export(export::Export),
    Verify(verify::Verify),
}

impl Journal {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Tail(command) => command.run(context).await,
            Self::Export(command) => command.run(context).await,
            Self::Verify(command) => command.run(context).await,
        }
    }
}
