//! `tidemill-loadtest`: starts its own nodes and worker (or takes running ones), puts a load on them,
//! and prints what it measured and what one execution costs.
//!
//! Every execution that was started must be accounted for, or the run fails. Server CPU is user and
//! system time of the server processes over the measuring window, so it can be compared across machines
//! better than a rate can. docs/loadtest.md has the method.

mod account;
mod bench;
mod check;
mod figures;
mod harness;
mod ledger;
mod meter;
mod operation;
mod options;
mod report;
mod scenario;
mod search;
mod servers;
mod shape;
mod usage;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{figures::Figures, options::Options, scenario::Scenario};

/// Measure a Tidemill cluster: by default one that this command starts itself, with fresh data.
#[derive(Debug, Parser)]
#[command(
    name = "tidemill-loadtest",
    version,
    after_help = "\
Examples:
  tidemill-loadtest run steps1 --clients 64 --duration 10s          closed loop: 64 clients, one request each
  tidemill-loadtest run steps3 --nodes 3 --rate 2000                open loop: 2,000 starts per second
  tidemill-loadtest run steps1 --nodes 3 --search-p99 20            highest rate whose p99 stays below 20 ms
  tidemill-loadtest run steps9 --mode accept                        accept as fast as possible, then drain
  tidemill-loadtest run steps1 --endpoint http://10.0.0.1:7450      a cluster that runs already
  tidemill-loadtest bench --repeat 3                                the standard table, medians of three
  tidemill-loadtest run steps1 --output json --compare old.json --fail-over 10

The run fails (exit code 1) when an execution is lost, doubled, or not as it should be.
docs/loadtest.md explains the method, each scenario and each figure."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one scenario.
    Run(Run),
    /// Run the standard table (under 15 minutes), and keep the results in a file.
    Bench {
        #[command(flatten)]
        bench: bench::TableOptions,
        #[command(flatten)]
        report: Report,
    },
    /// What the scenarios do.
    List,
    /// Decide from recorded histories and exported journals whether every promise was kept.
    Check(check::Check),
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
#[derive(Debug, clap::Args)]
struct Run {
    /// Which; `list` explains them.
    scenario: Scenario,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    report: Report,
}

/// What becomes of results.
#[derive(Debug, clap::Args)]
struct Report {
    /// A table, or one JSON object per line.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print ratios new/old to the results in this file (what --output json has printed).
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// With --compare: exit with 1 when a figure is worse by more than so many percent.
    #[arg(long, value_name = "PERCENT", requires = "compare")]
    fail_over: Option<f64>,
    /// Write SVG plots into this folder: latency by percentile, and the course of the load.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One object per line.
    Json,
}

impl Report {
    /// Prints results, and compares them where that was asked for.
    fn give(&self, results: &[Figures]) -> Result<()> {
        match self.output {
            Output::Table => print!("{}", report::table(results)),
            Output::Json => print!("{}", report::json_lines(results)?),
        }
        if let Some(folder) = &self.plot {
            let files = report::plot::write(folder, results)?;
            eprintln!("{files} plots in {}", folder.display());
        }
        if let Some(old) = &self.compare {
            let text = report::compare::against(old, results, self.fail_over)?;
            match self.output {
                Output::Table => print!("\n{text}"),
                // Standard output is for programs then.
                Output::Json => eprint!("{text}"),
            }
        }
        Ok(())
    }
}

/// A scenario as often as was asked for: the median of each figure, and how it came about.
async fn repeated(scenario: Scenario, options: &Options) -> Result<Vec<Figures>> {
    options.check()?;
    let mut runs: Vec<Vec<Figures>> = Vec::new();
    for _ in 0..options.repeat {
        let results = scenario.run(options).await;
        runs.push(results.with_context(|| format!("{} failed", scenario.name()))?);
    }
    let method = report::method::describe(options).await?;
    let count = runs.iter().map(Vec::len).min().unwrap_or(0);
    Ok((0..count)
        .map(|at| {
            let same = runs.iter().map(|run| run[at].clone()).collect();
            let mut result = report::median::median(same);
            result.insert("method".to_owned(), method.clone());
            result
        })
        .collect())
}

async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(run) => run
            .report
            .give(&repeated(run.scenario, &run.options).await?),
        Command::Bench { bench, report } => report.give(&bench::run(&bench).await?),
        Command::List => {
            for scenario in Scenario::value_variants() {
                println!("{:<10} {}", scenario.name(), scenario.explain());
            }
            Ok(())
        }
        Command::Check(check) => check.run(),
        Command::Worker {
            endpoints,
            concurrency,
        } => worker::serve(endpoints, concurrency).await,
    }
}

/// Returns when somebody wants this program to end: from a terminal, or a machine that ran out of time.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Dropped when the user interrupts, and with it the servers and the worker.
    let ended = tokio::select! {
        ended = execute(command) => ended,
        ended = interrupted() => ended,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidemill-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
