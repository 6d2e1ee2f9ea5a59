//! `tidemill cluster …`

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

mod add;
mod remove;
mod status;
mod transfer;

/// See and change the nodes of a cluster.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    Status(status::Status),
    Add(add::Add),
    Remove(remove::Remove),
    Transfer(transfer::Transfer),
}

impl Cluster {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Status(command) => command.run(context).await,
            Self::Add(command) => command.run(context).await,
            Self::Remove(command) => command.run(context).await,
            Self::Transfer(command) => command.run(context).await,
        }
    }
}
