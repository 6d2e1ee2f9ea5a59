//! Bugs are planted below the groups, one at a time: each must be found within a few seeds. What is printed
//! here is the proof that the checkers can fail.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

use tidemill_simulation::{Options, Planted, Violation, World};

/// Within so many seeds each must be found.
const SEEDS_MAX: u64 = 150;

/// The first seed that finds a bug, and what it says.
fn find(planted: Planted) -> (u64, Violation) {
    let options = Options {
        planted: Some(planted),
        ..Options::default()
    };
    let (next, best) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= SEEDS_MAX || seed > best.load(Relaxed) {
                        return;
                    }
                    if World::run(seed, &options).violation.is_some() {
                        best.fetch_min(seed, Relaxed);
                    }
                }
            });
        }
    });
    let seed = best.into_inner();
    assert!(
        seed < SEEDS_MAX,
        "{planted:?} was not found in {SEEDS_MAX} seeds"
    );
    let found = World::run(seed, &options).violation;
    (seed, found.expect("the seed that has just found it"))
}

fn check(planted: Planted, invariants: &[&str]) {
    let (seed, violation) = find(planted);
    println!("{planted:?}: seed {seed}, {violation}");
    println!("  cargo run -p tidemill-simulation -- --seed {seed} --trace --planted {planted:?}");
    assert!(
        invariants
            .iter()
            .any(|name| violation.invariant.starts_with(name)),
        "{planted:?} was found by {violation}, expected one of {invariants:?}"
    );
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    // openraft itself may notice that it has lost what it had.
    check(
        Planted::NoSyncBeforeAck,
        &[
            "I1",
            "I7",
            "no log id",
            "a vote",
            "nothing panics",
            "a node starts",
        ],
    );
}

#[test]
fn a_vote_that_is_not_written_is_found() {
    check(Planted::VoteNotPersisted, &["a vote", "nothing panics"]);
}

#[test]
fn a_log_with_holes_is_found() {
    check(Planted::LogOutOfOrder, &["a node starts"]);
}

#[test]
fn a_log_purged_before_its_snapshot_is_durable_is_found() {
    check(Planted::FlushNotDurable, &["a node starts", "I1", "I7"]);
}

#[test]
fn a_snapshot_without_the_fence_is_found() {
    check(Planted::SnapshotWithoutFence, &["I7"]);
}

#[test]
fn a_fence_that_is_ignored_is_found() {
    check(Planted::FenceIgnored, &["I7"]);
}

#[test]
fn a_leadership_that_is_restored_is_found() {
    check(Planted::LeaderRestore, &["no log id", "I1", "I7"]);
}

#[test]
fn a_flush_that_failed_and_is_believed_is_found() {
    check(Planted::FlushErrorIgnored, &["a node starts", "I1", "I7"]);
}

#[test]
fn an_answer_taken_for_that_of_another_request_is_found() {
    // A read on a leader that was stopped, and that another one has followed.
    check(Planted::AskedTooEarly, &["I1"]);
}

#[test]
fn a_hand_over_that_is_believed_is_found() {
    check(Planted::HandOverBelieved, &["the catalog"]);
}

#[test]
fn members_that_a_restart_forgets_are_found() {
    // They count when elections are held, and are compared at the end.
    check(
        Planted::MembersNotUpdated,
        &["I11", "I1", "no log id", "nothing panics"],
    );
}
