//! What everything of one run shares: chance, the trace, counts, the planted bug, the first violation.
//!
//! A run has one thread, so this is a thread-local: the shared files' seams (a clock, a disk, openraft's
//! random numbers) are reached without being handed anything.

use std::{cell::RefCell, collections::BTreeMap};

pub use tidemill_testkit::Violation;
use tidemill_testkit::simulation::random::{Random, hash, mix};
use tidemill_types::PartitionId;

use crate::options::Planted;

struct Run {
    random: Random,
    planted: Option<Planted>,
    now_ms: u64,
    violation: Option<Violation>,
    counts: BTreeMap<&'static str, u64>,
    trace: u64,
    lines: Option<Vec<String>>,
    /// What stands at each log id, wherever it was appended.
    log_ids: BTreeMap<(PartitionId, u64, u64), u64>,
    /// Whom each node has voted for.
    votes: BTreeMap<(PartitionId, u64, u64), u64>,
}

thread_local!(static RUN: RefCell<Option<Run>> = const { RefCell::new(None) });

fn with<T>(what: impl FnOnce(&mut Run) -> T) -> T {
    RUN.with_borrow_mut(|run| what(run.as_mut().expect("a run has begun on this thread")))
}

/// What is left of a run.
pub(crate) struct Ended {
    pub violation: Option<Violation>,
    pub counts: BTreeMap<&'static str, u64>,
    pub trace_hash: u64,
    pub trace: Vec<String>,
}

/// Begins a run on this thread.
pub(crate) fn begin(seed: u64, planted: Option<Planted>, verbose: bool) {
    RUN.set(Some(Run {
        random: Random::new(seed),
        planted,
        now_ms: 0,
        violation: None,
        counts: BTreeMap::new(),
        trace: mix(seed),
        lines: verbose.then(Vec::new),
        log_ids: BTreeMap::new(),
        votes: BTreeMap::new(),
    }));
}

/// Ends it.
pub(crate) fn end() -> Ended {
    let run = RUN.take().expect("a run has begun on this thread");
    Ended {
        violation: run.violation,
        counts: run.counts,
        trace_hash: run.trace,
        trace: run.lines.unwrap_or_default(),
    }
}

pub(crate) fn set_now(now_ms: u64) {
    with(|run| run.now_ms = now_ms);
}

pub(crate) fn now_ms() -> u64 {
    with(|run| run.now_ms)
}

pub(crate) fn planted(bug: Planted) -> bool {
    with(|run| run.planted == Some(bug))
}

pub(crate) fn draw() -> u64 {
    with(|run| run.random.draw())
}

/// A number from `low` to `high`, both included.
pub(crate) fn between(low: u64, high: u64) -> u64 {
    with(|run| run.random.between(low, high))
}

/// True in so many of a thousand draws.
pub(crate) fn chance(per_mille: u64) -> bool {
    with(|run| run.random.chance(per_mille))
}

pub(crate) fn count(what: &'static str) {
    count_more(what, 1);
}

/// Notes that something happened so often.
pub(crate) fn count_more(what: &'static str, times: u64) {
    with(|run| *run.counts.entry(what).or_default() += times);
}

/// Notes that something happened: the same seed must note the same.
pub(crate) fn note(what: &'static str, numbers: &[u64]) {
    with(|run| {
        run.trace = mix(run.trace ^ run.now_ms ^ hash(what.as_bytes()));
        for number in numbers {
            run.trace = mix(run.trace ^ *number).wrapping_add(1);
        }
        if let Some(lines) = &mut run.lines {
            let now = run.now_ms as f64 / 1_000.0;
            lines.push(format!("{now:>9.3} {what} {numbers:?}"));
        }
    });
}

/// A line that only people read; made only when somebody does.
pub(crate) fn tell(text: impl FnOnce() -> String) {
    with(|run| {
        let now = run.now_ms as f64 / 1_000.0;
        if let Some(lines) = &mut run.lines {
            lines.push(format!("{now:>9.3}   {}", text()));
        }
    });
}

/// The first violation counts.
pub(crate) fn violate(violation: Violation) {
    with(|run| {
        run.violation.get_or_insert(violation);
    });
}

pub(crate) fn is_violated() -> bool {
    with(|run| run.violation.is_some())
}

/// An entry is appended somewhere.
pub(crate) fn on_append(group: PartitionId, term: u64, index: u64, bytes: &[u8]) {
    let own = hash(bytes);
    let known = with(|run| *run.log_ids.entry((group, term, index)).or_insert(own));
    if known != own {
        violate(Violation::new(
            "no log id is issued twice",
            format!("group {group}: term {term}, index {index} stands for two payloads"),
        ));
    }
}

/// A node gives its vote.
pub(crate) fn on_vote(group: PartitionId, node: u64, term: u64, candidate: u64) {
    let known = with(|run| *run.votes.entry((group, node, term)).or_insert(candidate));
    if known != candidate {
        violate(Violation::new(
            "a vote is never taken back",
            format!("group {group}, term {term}: node {node} voted for {known} and {candidate}"),
        ));
    }
}
