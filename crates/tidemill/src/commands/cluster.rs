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
    /// Show members, partitions and their leaders.
    Status(status::Status),
    /// Add a node that is running: as a learner first, then as a voter.
    Add(add::Add),
    /// Remove a node for good.
    Remove(remove::Remove),
    /// Hand leadership to a node.
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
