//! `tidemill worker …`

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

mod example;

/// Run a worker that comes with this binary.
#[derive(Debug, Subcommand)]
pub enum Worker {
    Example(example::Example),
}

impl Worker {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Example(command) => command.run(context).await,
        }
    }
}
