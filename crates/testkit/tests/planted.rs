//! Bugs are planted, one at a time: each must be found, by an invariant that it breaks, within a few
//! seeds. What is printed here is the proof that the checkers can fail.

use tidemill_testkit::{Options, Planted, Simulation};

/// Within so many seeds each must be found.
const SEEDS_MAX: u64 = 100;

/// The first seed that finds a bug, and what it says.
fn find(planted: Planted) -> (u64, tidemill_testkit::Violation) {
    let options = Options {
        planted: Some(planted),
        ..Options::default()
    };
    (0..SEEDS_MAX)
        .find_map(|seed| Some((seed, Simulation::run(seed, &options).violation?)))
        .unwrap_or_else(|| panic!("{planted:?} was not found in {SEEDS_MAX} seeds"))
}

fn check(planted: Planted, invariants: &[&str]) {
    let (seed, violation) = find(planted);
    println!("{planted:?}: seed {seed}, {violation}");
    println!(
        "  cargo run -p tidemill-testkit --bin simulate -- --seed {seed} --trace --planted {planted:?}"
    );
    assert!(
        invariants
            .iter()
            .any(|name| violation.invariant.starts_with(name)),
        "{planted:?} was found by {violation}, expected one of {invariants:?}"
    );
}

#[test]
fn a_skipped_fence_is_found() {
    check(Planted::SkipFence, &["I6"]);
}

#[test]
fn a_lease_that_is_not_fenced_is_found() {
    check(Planted::LeaseNotFenced, &["I4"]);
}

#[test]
fn a_journal_record_written_twice_is_found() {
    check(Planted::JournalRecordTwice, &["I6"]);
}

#[test]
fn a_request_id_that_is_forgotten_is_found() {
    check(Planted::RequestIdForgotten, &["I2"]);
}

#[test]
fn a_batch_proposed_again_after_a_refusal_is_found() {
    check(Planted::BatchReproposed, &["I6"]);
}

#[test]
fn a_snapshot_without_the_fence_is_found() {
    check(Planted::SnapshotWithoutFence, &["I7"]);
}

#[test]
fn an_answer_before_the_commit_is_found() {
    check(Planted::AnswerBeforeCommit, &["I1"]);
}

#[test]
fn a_leader_that_recovers_too_early_is_found() {
    check(Planted::RecoverTooEarly, &["I6", "the core goes on"]);
}

#[test]
fn a_read_without_a_barrier_is_found() {
    check(Planted::ReadWithoutBarrier, &["I9"]);
}

#[test]
fn a_timer_that_is_not_written_is_found() {
    check(Planted::TimerForgotten, &["I5"]);
}

#[test]
fn a_clock_that_goes_back_is_found() {
    check(Planted::TimeGoesBack, &["I6"]);
}

#[test]
fn a_lease_freed_while_it_is_held_is_found() {
    check(Planted::HeldLeaseFreed, &["I12"]);
}

#[test]
fn an_occurrence_without_its_row_after_a_change_of_leader_is_found() {
    check(Planted::OccurrenceRowForgotten, &["I3"]);
}

#[test]
fn an_occurrence_whose_row_comes_a_batch_later_is_found() {
    check(Planted::OccurrenceRowLater, &["I3"]);
}

#[test]
fn a_request_id_that_expires_early_is_found() {
    check(Planted::RequestIdExpiredEarly, &["I2", "I10"]);
}

#[test]
fn a_journal_hash_of_other_bytes_is_found() {
    check(Planted::JournalHashOff, &["I6"]);
}

#[test]
fn a_counter_that_is_off_is_found() {
    check(Planted::CounterOff, &["I10"]);
}
