//! Runs seeds of the whole-node simulation: `--seed 17` one, with what happened; `--seeds 0..1000` many.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use clap::Parser;
use tidemill_simulation::{Options, Planted, World};

/// Whole nodes in one process, over a simulated network, disk and time.
#[derive(Parser)]
struct Args {
    /// One seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range, such as 0..1000; open at its end (0..) it runs until the first violation.
    #[arg(long, default_value = "0..1000")]
    seeds: String,
    /// 3 or 5.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Simulated milliseconds of faults.
    #[arg(long, default_value_t = Options::default().faults_ms)]
    faults_ms: u64,
    /// A bug to be planted, by its name.
    #[arg(long, value_parser = planted)]
    planted: Option<Planted>,
    /// Print the trace (of one seed).
    #[arg(long)]
    trace: bool,
}

fn planted(name: &str) -> Result<Planted, String> {
    let names = || Planted::ALL.map(|bug| format!("{bug:?}")).join(", ");
    Planted::from_name(name).ok_or_else(|| format!("one of {}", names()))
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once("..")?;
    let to = if to.is_empty() {
        u64::MAX
    } else {
        to.parse().ok()?
    };
    Some((from.parse().ok()?, to))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        nodes: args.nodes,
        faults_ms: args.faults_ms,
        planted: args.planted,
        verbose: args.trace,
        ..Options::default()
    };
    if let Some(seed) = args.seed {
        let outcome = World::run(seed, &options);
        for line in &outcome.trace {
            println!("{line}");
        }
        for (what, count) in &outcome.counts {
            println!("{count:>8} {what}");
        }
        println!("trace {:016x}", outcome.trace_hash);
        return match outcome.violation {
            None => ExitCode::SUCCESS,
            Some(violation) => {
                println!("VIOLATION in seed {seed}: {violation}");
                ExitCode::FAILURE
            }
        };
    }
    let Some((from, to)) = range(&args.seeds) else {
        eprintln!("--seeds must be a range, such as 0..1000");
        return ExitCode::FAILURE;
    };
    let next = AtomicU64::new(from);
    let found = AtomicU64::new(0);
    let all = Mutex::new(BTreeMap::<&str, u64>::new());
    let replay = format!(
        "cargo run -p tidemill-simulation -- --nodes {} --seed",
        args.nodes
    );
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= to || (to == u64::MAX && found.load(Relaxed) > 0) {
                        return;
                    }
                    let outcome = World::run(seed, &options);
                    if let Some(violation) = outcome.violation {
                        found.fetch_add(1, Relaxed);
                        println!("VIOLATION: {violation}\n  {replay} {seed} --trace");
                    }
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    for (what, count) in outcome.counts {
                        *all.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    for (what, count) in &*all.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{count:>10} {what}");
    }
    let found = found.load(Relaxed);
    println!("seeds {}: {found} with a violation", args.seeds);
    if found == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
