//! Starts and stops of flows, with a leader deposed or killed at each moment of them: nothing stays
//! stuck, and no occurrence of a schedule is lost or doubled over it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use tidemill_testkit::{Deposed, Options, Outcome, Simulation, TRANSITION_MOMENTS};

/// Long enough for a few starts and stops.
const RUN_MS: u64 = 12_000;
/// Each moment of a run is tried with these seeds.
const SEEDS: [u64; 3] = [3, 11, 29];

fn options(deposed: Deposed) -> Options {
    Options {
        partitions: 1,
        faults_ms: RUN_MS,
        deposed,
        ..Options::default()
    }
}

fn run(seed: u64, deposed: Deposed) -> Outcome {
    let outcome = Simulation::run(seed, &options(deposed));
    if let Some(violation) = &outcome.violation {
        panic!("seed {seed}, {deposed:?}: {violation}");
    }
    outcome
}

#[test]
fn a_leader_that_goes_at_any_moment_of_a_start_or_stop_leaves_nothing_stuck() {
    let mut cases = Vec::new();
    for seed in SEEDS {
        let moments = run(seed, Deposed::Nobody).counts[TRANSITION_MOMENTS];
        assert!(moments > 20, "seed {seed} has few starts: {moments}");
        for moment in 0..moments {
            for group in [0, 1] {
                // Every third time its node goes with it: that takes longer to tell.
                let crash = (moment + group as u64).is_multiple_of(3);
                cases.push((
                    seed,
                    Deposed::At {
                        moment,
                        group,
                        crash,
                    },
                ));
            }
        }
    }
    println!("{} moments", cases.len());
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((seed, deposed)) = cases.get(next.fetch_add(1, Relaxed) as usize) {
                    run(*seed, *deposed);
                }
            });
        }
    });
}
