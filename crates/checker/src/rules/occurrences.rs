//! Each occurrence of a schedule has exactly one row, and one execution where it fired.
//!
//! Judged for flows that are due at every whole second ([`Event::Schedule`](crate::history::Event::Schedule)),
//! so that this rule needs no calendar: while such a flow is armed, each second must be there.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_types::{ExecutionId, FlowId};

use super::execution_id;
use crate::{Evidence, Rule, Verdict, history::LedgerOutcome};

const SECOND_US: i64 = 1_000_000;

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut of_rows: BTreeMap<ExecutionId, (&str, i64)> = BTreeMap::new();
    for flow in &evidence.history.schedules {
        let Some(rows) = evidence.history.ledgers.get(flow) else {
            verdict.violation(
                Rule::Occurrences,
                format!("the ledger of {flow} was not read"),
            );
            continue;
        };
        let mut seen = BTreeSet::new();
        for row in rows {
            let at = row.at_us;
            if !seen.insert(at) {
                verdict.violation(Rule::Occurrences, format!("{flow} has two rows for {at}"));
            }
            match row.outcome {
                LedgerOutcome::Fired | LedgerOutcome::Late => {
                    let Some(id) = execution_id(&row.execution) else {
                        verdict.violation(
                            Rule::Occurrences,
                            format!("{flow} at {at} fired without an execution"),
                        );
                        continue;
                    };
                    if let Some((other, when)) = of_rows.insert(id, (flow, at)) {
                        let message =
                            format!("{id} belongs to {other} at {when} and to {flow} at {at}");
                        verdict.violation(Rule::Occurrences, message);
                    }
                    match evidence.story.executions.get(&id) {
                        Some(story) if story.by_system && is_of(flow, &story.flow) => {}
                        Some(_) => verdict.violation(
                            Rule::Occurrences,
                            format!("{flow} at {at} fired {id}, which something else started"),
                        ),
                        None => verdict.violation(
                            Rule::Occurrences,
                            format!(
                                "{flow} at {at} fired {id}, of which the journal knows nothing"
                            ),
                        ),
                    }
                }
                LedgerOutcome::Skipped if !row.execution.is_empty() => verdict.violation(
                    Rule::Occurrences,
                    format!("{flow} at {at} was skipped and has {}", row.execution),
                ),
                LedgerOutcome::Skipped => {}
                LedgerOutcome::Queued => {
                    verdict.violation(Rule::Occurrences, format!("{flow} at {at} is queued still"));
                }
            }
        }
        let expected = armed_seconds(evidence, flow, verdict);
        for at in expected.difference(&seen) {
            verdict.violation(
                Rule::Occurrences,
                format!("{flow} was armed at {at} and has no row for it"),
            );
        }
        for at in seen.difference(&expected) {
            verdict.violation(
                Rule::Occurrences,
                format!("{flow} was not armed at {at} and has a row for it"),
            );
        }
    }
    let flows: BTreeSet<&str> = evidence.history.schedules.iter().map(|f| &**f).collect();
    for (id, story) in &evidence.story.executions {
        let known = |flow: &&&str| is_of(flow, &story.flow);
        if story.by_system && flows.iter().any(|flow| known(&flow)) && !of_rows.contains_key(id) {
            let message = format!(
                "a schedule started {id} ({}), which no row names",
                story.request_id
            );
            verdict.violation(Rule::Occurrences, message);
        } else if story.by_system && !flows.iter().any(|flow| known(&flow)) {
            verdict.violation(
                Rule::Invented,
                format!("the system started {id}, of a flow without a schedule"),
            );
        }
    }
}

fn is_of(flow: &str, bytes: &[u8]) -> bool {
    flow.parse::<FlowId>()
        .is_ok_and(|flow| flow.0[..] == *bytes)
}

/// The seconds at which a flow was armed, by the journal: after each arming, up to its disarming.
fn armed_seconds(evidence: &Evidence, flow: &str, verdict: &mut Verdict) -> BTreeSet<i64> {
    let mut seconds = BTreeSet::new();
    let id: Option<FlowId> = flow.parse().ok();
    let armings = id.and_then(|id| evidence.story.armings.get(&id.0[..]));
    let mut armed: Option<i64> = None;
    for (is_armed, at_us) in armings.into_iter().flatten() {
        if *is_armed {
            armed = Some(*at_us);
        } else if let Some(from) = armed.take() {
            // An arm that was made stale before it came is disarmed, too: that begins nothing.
            let first = from.div_euclid(SECOND_US) + 1;
            let last = at_us.div_euclid(SECOND_US);
            seconds.extend((first..=last).map(|second| second * SECOND_US));
        }
    }
    if armed.is_some() {
        let message = format!("{flow} is armed still: stop it before its ledger is read");
        verdict.violation(Rule::Occurrences, message);
    }
    seconds
}
