//! `make torture`: fault campaigns, one seed after the other, until the time is up.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use tidemill_tests::campaign::{Campaign, plan};

/// Real servers through every fault that this machine can make, and a checker that decides from what clients saw
/// and from the exported journals whether every promise was kept.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long, in minutes; whole campaigns are run until then.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// How long the faults of one campaign strike, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only this seed, once; without it, seeds from 1 on.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed, when several are run.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Nodes: 3 or 5.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Every fsync does nothing and says that it has: a promise must be broken.
    #[arg(long)]
    lying_disks: bool,
    /// Only print the faults that the seed plans.
    #[arg(long)]
    plan: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let campaign = |seed| Campaign {
        seed,
        nodes: arguments.nodes,
        length: Duration::from_secs(arguments.seconds),
        lying_disks: arguments.lying_disks,
    };
    if arguments.plan {
        let seed = arguments.seed.unwrap_or(arguments.from);
        for planned in plan(seed, arguments.nodes, arguments.seconds * 1_000) {
            println!("{planned}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let begun = Instant::now();
    let mut failed = Vec::new();
    let mut run = 0;
    for seed in arguments.seed.unwrap_or(arguments.from).. {
        let report = campaign(seed).run()?;
        println!("{report}");
        run += 1;
        if !report.is_clean() {
            failed.push(seed);
        }
        let is_over = begun.elapsed() >= Duration::from_secs(arguments.minutes * 60);
        if is_over || arguments.seed.is_some() {
            break;
        }
    }
    if failed.is_empty() {
        println!("{run} seeds, every promise was kept");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} of {run} seeds broke a promise: {failed:?}",
        failed.len()
    );
    Ok(ExitCode::FAILURE)
}
