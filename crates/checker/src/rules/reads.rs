//! Reads never go back: a read that was sent after another one was answered, or after a start was
//! acknowledged, by whomever, sees at least as much.

use std::collections::BTreeMap;

use crate::{
    Evidence, Rule, Verdict,
    history::{Answer, Call, Outcome},
};

/// What is known of an execution.
#[derive(Clone, Debug)]
enum Known<'a> {
    /// It exists.
    There,
    /// It was read.
    Read { state: &'a str, revision: u64 },
}

/// A point in time at which something is sent (false) or known (true).
type Point<'a> = (u64, bool, &'a str, Option<Known<'a>>);

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut points: BTreeMap<&str, Vec<Point<'_>>> = BTreeMap::new();
    let mut ended: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    for (number, operation) in evidence.history.operations.iter().enumerate() {
        let (Some(returned_us), Outcome::Ok { answer }) =
            (operation.returned_us, &operation.outcome)
        else {
            continue;
        };
        let client = operation.client.as_str();
        match (&operation.call, answer) {
            (Call::Start { .. }, Answer::Started { execution, .. }) => {
                let known = (returned_us, true, client, Some(Known::There));
                points.entry(execution).or_default().push(known);
            }
            (Call::Read { execution }, Answer::Read { state, revision }) => {
                let of_execution = points.entry(execution).or_default();
                let known = Known::Read {
                    state,
                    revision: *revision,
                };
                of_execution.push((operation.called_us, false, client, Some(known.clone())));
                of_execution.push((returned_us, true, client, Some(known)));
                let same = ended.insert((execution, *revision), state);
                if let Some(other) = same.filter(|other| *other != state.as_str()) {
                    let message =
                        format!("{execution} was {other} and {state} at revision {revision}");
                    verdict.violation(Rule::Reads, message);
                }
            }
            (Call::Read { execution }, Answer::NotFound) => {
                let sent = (operation.called_us, false, client, None);
                points.entry(execution).or_default().push(sent);
            }
            (Call::Read { execution }, answer) => verdict.violation(
                Rule::History,
                format!("read {number} of {execution} was answered with {answer:?}"),
            ),
            _ => {}
        }
    }
    for (execution, mut points) in points {
        // At the same instant a read that is being sent need not see what is just being answered.
        points.sort_by_key(|point| (point.0, point.1));
        let mut known: Option<(u64, &str, &str)> = None;
        let mut is_there = false;
        for (_, is_known, client, what) in points {
            match (is_known, what) {
                (true, Some(Known::There)) => is_there = true,
                (true, Some(Known::Read { state, revision })) => {
                    is_there = true;
                    if known.is_none_or(|(before, ..)| before < revision) {
                        known = Some((revision, state, client));
                    }
                }
                (false, Some(Known::Read { state, revision })) => {
                    if let Some((before, was, who)) =
                        known.filter(|(before, ..)| *before > revision)
                    {
                        verdict.violation(
                            Rule::Reads,
                            format!(
                                "{client} read {execution} as {state} at revision {revision}; {who} had read \
                                 it before as {was} at revision {before}"
                            ),
                        );
                    }
                }
                (false, None) if is_there => {
                    let message =
                        format!("{client} did not find {execution}, which was there before");
                    verdict.violation(Rule::Reads, message);
                }
                _ => {}
            }
        }
    }
}
