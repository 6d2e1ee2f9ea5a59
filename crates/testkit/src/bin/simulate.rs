//! Runs the simulator: `simulate --seed N [--trace] [--planted NAME]`, or `--seeds A..B`.

use std::process::ExitCode;

use tidemill_testkit::{Options, Planted, Simulation};

const USAGE: &str = "usage: simulate (--seed N | --seeds A..B) [--trace] [--planted NAME]";

fn main() -> ExitCode {
    match arguments() {
        Ok((seeds, options)) => run(seeds, &options),
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<(std::ops::Range<u64>, Options), String> {
    let mut options = Options::default();
    let mut seeds = None;
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        if name == "--trace" {
            options.verbose = true;
            continue;
        }
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{text:?} is not a number"))
        };
        match name.as_str() {
            "--seed" => {
                let seed = number(&value)?;
                seeds = Some(seed..seed + 1);
            }
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or("--seeds needs A..B")?;
                seeds = Some(number(from)?..number(to)?);
            }
            "--planted" => {
                let known = || format!("{value:?} is none of {:?}", Planted::ALL);
                options.planted = Some(Planted::from_name(&value).ok_or_else(known)?);
            }
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok((seeds.ok_or("no seed")?, options))
}

fn run(seeds: std::ops::Range<u64>, options: &Options) -> ExitCode {
    let mut failed = 0;
    let single = seeds.end - seeds.start == 1;
    for seed in seeds {
        let outcome = Simulation::run(seed, options);
        for line in &outcome.trace {
            println!("{line}");
        }
        if single {
            for (what, count) in &outcome.counts {
                println!("{count:>8} {what}");
            }
            println!("trace {:016x}", outcome.trace_hash);
        }
        if let Some(violation) = outcome.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
            println!("  cargo run -p tidemill-testkit --bin simulate -- --seed {seed} --trace");
        }
    }
    println!("{failed} seeds failed");
    ExitCode::from(u8::from(failed > 0))
}
