//! A thousand seeds: every invariant holds, faults really happen, and a seed replays to its trace.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use tidemill_testkit::{Options, Outcome, Simulation};

const SEEDS: u64 = 1_000;

/// What must have happened at least once over all seeds: without it the run proves little.
const MUST_HAPPEN: [&str; 63] = [
    "answers lost",
    "batches",
    "batches committed by a successor",
    "batches refused",
    "backfills",
    "answers given by `respond`",
    "barriers that found another epoch",
    "cancels",
    "clock jumps recorded",
    "clocks jumped back",
    "clocks jumped forward",
    "commands lost",
    "completions accepted",
    "completions already there",
    "completions forged",
    "completions late",
    "completions not allowed",
    "completions repeated",
    "completions stale",
    "depositions noticed",
    "depositions overlooked",
    "entries lost by a change of leader",
    "epochs",
    "epochs ended",
    "ends not told",
    "ends told",
    "executions ended in slices",
    "executions started",
    "flows deleted",
    "flows forgotten",
    "grants lost",
    "grants to dead workers",
    "groups stalled",
    "leader changes",
    "leaders deposed in a hand-over",
    "leases expired",
    "leases freed",
    "nodes crashed",
    "occurrences backfilled",
    "occurrences by hand",
    "occurrences fired",
    "occurrences late",
    "occurrences queued",
    "occurrences skipped",
    "outcomes not heard",
    "pauses",
    "proposals delayed",
    "proposals lost",
    "proposals of another term",
    "proposals of deposed leaders",
    "proposals repeated",
    "reads",
    "rebounds",
    "redrives",
    "refusals heard",
    "resumes",
    "replicas rebuilt from a snapshot",
    "replicas rebuilt from the log",
    "sessions of workers that have gone",
    "sessions superseded",
    "unknown outcomes",
    "worker streams broken",
    "workers killed",
];

/// Runs seeds on all cores; a run itself has one thread.
fn run_all(seeds: u64, options: &Options) -> Vec<Outcome> {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut outcomes = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= seeds {
                            return outcomes;
                        }
                        outcomes.push(Simulation::run(seed, options));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("the simulator does not panic"))
            .collect()
    })
}

#[test]
fn invariants_hold_over_a_thousand_seeds() {
    let outcomes = run_all(SEEDS, &Options::default());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in &outcomes {
        for (what, count) in &outcome.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    for (what, count) in &counts {
        println!("{count:>9} {what}");
    }
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some(format!(
                "seed {}: {violation}\n  cargo run -p tidemill-testkit --bin simulate -- --seed {} --trace",
                outcome.seed, outcome.seed
            ))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(outcomes.len() as u64, SEEDS);
    let missing: Vec<&&str> = MUST_HAPPEN
        .iter()
        .filter(|what| counts.get(**what).is_none_or(|count| *count == 0))
        .collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let options = Options {
        verbose: true,
        ..Options::default()
    };
    for seed in [0, 1, 17, 586] {
        let first = Simulation::run(seed, &options);
        let again = Simulation::run(seed, &options);
        assert_eq!(first.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert_eq!(first.counts, again.counts, "seed {seed}");
        // Text changes nothing.
        let silent = Simulation::run(seed, &Options::default());
        assert_eq!(first.trace_hash, silent.trace_hash, "seed {seed}");
    }
    let hashes = [0, 1].map(|seed| Simulation::run(seed, &options).trace_hash);
    assert_ne!(hashes[0], hashes[1]);
}
