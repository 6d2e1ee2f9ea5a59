//! One rule per promise, one file each. A rule sees all the evidence and changes none of it.

mod completions;
mod occurrences;
mod reads;
mod replicas;
mod starts;
mod states;

use tidemill_types::ExecutionId;

use crate::{
    Evidence, Verdict,
    history::{Answer, Call, LedgerOutcome, Outcome},
};

/// Applies all of them.
pub fn apply(evidence: &Evidence, verdict: &mut Verdict) {
    count(evidence, verdict);
    replicas::check(evidence, verdict);
    starts::check(evidence, verdict);
    occurrences::check(evidence, verdict);
    completions::check(evidence, verdict);
    states::check(evidence, verdict);
    reads::check(evidence, verdict);
}

fn execution_id(text: &str) -> Option<ExecutionId> {
    text.parse().ok()
}

fn count(evidence: &Evidence, verdict: &mut Verdict) {
    let counts = &mut verdict.counts;
    counts.journals = evidence.journals.len() as u64;
    counts.records = evidence.story.records;
    counts.executions = evidence.story.executions.len() as u64;
    counts.faults.clone_from(&evidence.history.faults);
    for operation in &evidence.history.operations {
        match (&operation.call, &operation.outcome) {
            (Call::Start { .. }, outcome) => {
                counts.starts += 1;
                match outcome {
                    Outcome::Ok { .. } => counts.starts_ok += 1,
                    Outcome::Refused { .. } => counts.starts_refused += 1,
                    Outcome::Unknown => counts.starts_unknown += 1,
                }
            }
            (Call::Complete { .. }, outcome) => {
                counts.completions += 1;
                match outcome {
                    Outcome::Ok {
                        answer: Answer::Accepted,
                    } => counts.completions_accepted += 1,
                    Outcome::Unknown => counts.completions_unknown += 1,
                    _ => counts.completions_refused += 1,
                }
            }
            (Call::Read { .. }, Outcome::Ok { .. }) => counts.reads += 1,
            (Call::Read { .. }, _) => {}
        }
    }
    for row in evidence.history.ledgers.values().flatten() {
        counts.occurrences += 1;
        if matches!(row.outcome, LedgerOutcome::Fired | LedgerOutcome::Late) {
            counts.occurrences_fired += 1;
        }
    }
}
