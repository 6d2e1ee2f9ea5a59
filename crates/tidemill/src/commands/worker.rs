//! `tidemill worker …`

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

mod example;

/// Run a worker that comes with this binary.
#[derive(Debug, Subcommand)]
pub enum Worker {
    /// Serve the components of the OIH sample flows, and a few for trying things out.
    Example(example::Example),
}

impl Worker {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Example(command) => command.run(context).await,
        }
    }
}
