//! Seeds of three and of five nodes: every invariant holds, faults really happen, a seed replays.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use tidemill_simulation::{Options, World};

const SEEDS: u64 = 250;
const SEEDS_OF_FIVE: u64 = 40;

/// What must have happened at least once over all seeds of three nodes: without it the run proves little.
const MUST_HAPPEN: [&str; 49] = [
    "batches",
    "batches refused by the fence",
    "changes of members found half made",
    "changes of members refused",
    "clocks wrong",
    "completions answered",
    "completions late",
    "completions repeated",
    "connections broken",
    "disks full",
    "disks slow",
    "epochs",
    "executions started",
    "flushes",
    "flows active at the end",
    "flushes failed",
    "grants",
    "hand-overs of flows",
    "leaderships handed over",
    "links cut",
    "links lossy",
    "links slow",
    "logs purged",
    "logs truncated",
    "members added",
    "members removed",
    "nodes cut off",
    "nodes that are not heard",
    "nodes that hear nothing",
    "packets cut off",
    "packets sent again",
    "pauses",
    "pauses of nodes that hear nothing afterwards",
    "power cuts",
    "power cuts of all nodes",
    "proposals lost alone",
    "processes killed",
    "processes that ended by themselves",
    "reads",
    "reads of the log from disk",
    "requests acknowledged",
    "requests repeated",
    "snapshots installed",
    "syncs that fail",
    "unknown outcomes",
    "votes refused after a restart",
    "writes of the log lost",
    "writes of the state failed",
    "writes of the state lost",
];

/// Runs seeds on all cores; a run itself has one thread.
fn run_all(seeds: u64, options: &Options) -> BTreeMap<&'static str, u64> {
    let next = AtomicU64::new(0);
    let counts = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let outcome = World::run(seed, options);
                    if let Some(violation) = outcome.violation {
                        panic!(
                            "seed {seed}: {violation}\n  cargo run -p tidemill-simulation -- --nodes {} --seed {seed} --trace",
                            options.nodes
                        );
                    }
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    for (what, count) in outcome.counts {
                        *counts.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    counts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn seeds_of_three_nodes_keep_every_promise() {
    let counts = run_all(SEEDS, &Options::default());
    for (what, count) in &counts {
        println!("{count:>9} {what}");
    }
    let missing: Vec<_> = MUST_HAPPEN
        .iter()
        .filter(|what| !counts.contains_key(**what))
        .collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn seeds_of_five_nodes_keep_every_promise() {
    let options = Options {
        nodes: 5,
        ..Options::default()
    };
    run_all(SEEDS_OF_FIVE, &options);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 7, 11] {
        let (first, again) = (
            World::run(seed, &Options::default()),
            World::run(seed, &Options::default()),
        );
        assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(first.counts, again.counts, "seed {seed}");
    }
    let one = World::run(1, &Options::default()).trace_hash;
    assert_ne!(one, World::run(2, &Options::default()).trace_hash);
}

/// What the operating system gives a process for chance, and what another run has left, must not matter.
#[test]
fn another_process_gives_the_same_trace() {
    let own = World::run(5, &Options::default()).trace_hash;
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_simulate-nodes"))
            .args(["--seed", "5"])
            .output()
            .expect("the simulator runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let told = run();
    assert!(told.contains(&format!("trace {own:016x}")), "{told}");
    assert_eq!(told, run());
}
