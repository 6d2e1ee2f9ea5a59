//! One file per command.

use crate::{cli::Command, context::Context, failure::Failure};

pub mod cluster;
pub mod completions;
pub mod dev;
pub mod execution;
pub mod flow;
pub mod journal;
pub mod schedule;
pub mod server;
pub mod worker;

/// Runs a command.
pub async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Dev(dev) => dev.run(context).await,
        Command::Server(server) => server.run(context).await,
        Command::Flow(flow) => flow.run(context).await,
        Command::Execution(execution) => execution.run(context).await,
        Command::Schedule(schedule) => schedule.run(context).await,
        Command::Journal(journal) => journal.run(context).await,
        Command::Cluster(cluster) => cluster.run(context).await,
        Command::Worker(worker) => worker.run(context).await,
        Command::Completions(completions) => completions.run(context),
    }
}
