//! `tidemill-loadtest`: starts its own nodes and worker, runs a scenario in a closed loop, and prints
//! what one execution costs.
//!
//! Every execution that was started must be accounted for, or the run fails. Server CPU is user and
//! system time of the server processes over the measuring window, so it can be compared across machines
//! better than a rate can.

mod measure;
mod report;
mod scenario;
mod schedules;
mod waiting;
mod webhook;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// Measure a Tidemill cluster that this command starts itself, with fresh data.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  tidemill-loadtest run steps1 --nodes 1 --clients 64 --duration 10s
  tidemill-loadtest run waiting --count 100000
  tidemill-loadtest run webhook --nodes 3 --clients 64
  tidemill-loadtest run schedules --count 1000000 --burst 50000 --clients 256
  tidemill-loadtest table                      steps1 and steps3 at 1, 64 and 256 clients on 1 and 3 nodes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one scenario.
    Run(Run),
    /// Run the standard table.
    Table {
        /// How long each measurement takes, in seconds.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// The server's binary (default: beside this one, or TIDEMILL_BIN).
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Table or JSON lines.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// What the scenarios do.
    List,
    /// The worker, in a process of its own; started by `run`.
    #[command(hide = true)]
    Worker {
        /// Where the cluster is, separated by commas.
        #[arg(long, value_delimiter = ',')]
        endpoints: Vec<String>,
        /// How many tasks at once.
        #[arg(long)]
        concurrency: u32,
    },
}

/// One scenario.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Which.
    scenario: scenario::Scenario,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Clients in the closed loop.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long is measured, after a second of warm-up.
    #[arg(long, default_value = "10s", value_parser = seconds)]
    duration: Duration,
    /// With `waiting`: how many executions wait. With `schedules`: how many are armed.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// With `schedules`: how many of them fall due within 5 s.
    #[arg(long, default_value_t = 50_000)]
    burst: u64,
    /// The server's binary (default: beside this one, or TIDEMILL_BIN).
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Table or JSON lines.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One object per line.
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .strip_suffix('s')
        .ok_or("a duration in seconds, such as 10s")?;
    number
        .parse()
        .map(Duration::from_secs)
        .map_err(|e| format!("{text}: {e}"))
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(run) => {
            let result = run.scenario.run(&run).await?;
            report::print(run.output, &[result])
        }
        Command::Table {
            seconds,
            binary,
            output,
        } => {
            let mut results = Vec::new();
            for scenario in [scenario::Scenario::Steps1, scenario::Scenario::Steps3] {
                for nodes in [1, 3] {
                    for clients in [1, 64, 256] {
                        let run = Run {
                            scenario,
                            nodes,
                            clients,
                            duration: Duration::from_secs(seconds),
                            count: 0,
                            burst: 0,
                            binary: binary.clone(),
                            output,
                        };
                        results.push(scenario.run(&run).await?);
                    }
                }
            }
            report::print(output, &results)
        }
        Command::List => {
            for scenario in scenario::Scenario::value_variants() {
                println!("{:<10} {}", scenario.name(), scenario.explain());
            }
            Ok(())
        }
        Command::Worker {
            endpoints,
            concurrency,
        } => scenario::worker(endpoints, concurrency).await,
    }
}
