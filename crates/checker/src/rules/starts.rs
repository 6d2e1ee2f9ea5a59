//! Every acknowledged start has its one execution; a request id never makes two; nothing begins that nobody
//! asked for, or whose start was refused each time.

use std::collections::{BTreeMap, btree_map::Entry};

use tidemill_types::ExecutionId;

use super::execution_id;
use crate::{
    Evidence, Rule, Verdict,
    history::{Answer, Call, Outcome},
};

/// What callers saw of a request id.
#[derive(Default)]
struct Request<'a> {
    flow: &'a str,
    /// The execution that it was answered with.
    execution: Option<ExecutionId>,
    /// Answers that say to have made it.
    created: u32,
    /// At least one call may have had its effect.
    possible: bool,
}

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut requests: BTreeMap<&str, Request<'_>> = BTreeMap::new();
    for operation in &evidence.history.operations {
        let Call::Start { flow, request_id } = &operation.call else {
            continue;
        };
        let request = requests.entry(request_id).or_default();
        request.flow = flow;
        match &operation.outcome {
            Outcome::Refused { .. } => {}
            Outcome::Unknown => request.possible = true,
            Outcome::Ok {
                answer: Answer::Started { execution, created },
            } => {
                request.possible = true;
                request.created += u32::from(*created == Some(true));
                let Some(id) = execution_id(execution) else {
                    let message =
                        format!("{request_id} was answered with {execution:?}, which is no id");
                    verdict.violation(Rule::Acknowledged, message);
                    continue;
                };
                match request.execution {
                    Some(before) if before != id => verdict.violation(
                        Rule::RequestIds,
                        format!("{request_id} was answered with {before} and with {id}"),
                    ),
                    _ => request.execution = Some(id),
                }
            }
            Outcome::Ok { answer } => verdict.violation(
                Rule::History,
                format!("the start of {request_id} was answered with {answer:?}"),
            ),
        }
    }
    acknowledged(evidence, &requests, verdict);
    told(evidence, &requests, verdict);
}

fn acknowledged(
    evidence: &Evidence,
    requests: &BTreeMap<&str, Request<'_>>,
    verdict: &mut Verdict,
) {
    for (request_id, request) in requests {
        if request.created > 1 {
            let message = format!(
                "{} answers say that they made the execution of {request_id}",
                request.created
            );
            verdict.violation(Rule::RequestIds, message);
        }
        let Some(id) = request.execution else {
            continue;
        };
        let Some(story) = evidence.story.executions.get(&id) else {
            let message =
                format!("{request_id} was answered with {id}, of which the journal knows nothing");
            verdict.violation(Rule::Acknowledged, message);
            continue;
        };
        if story.request_id != **request_id {
            verdict.violation(
                Rule::Acknowledged,
                format!(
                    "{request_id} was answered with {id}, which belongs to {}",
                    story.request_id
                ),
            );
        }
        let flow: Option<tidemill_types::FlowId> = request.flow.parse().ok();
        if flow.is_none_or(|flow| flow.0[..] != story.flow[..]) {
            let message = format!(
                "{request_id} was sent to {}, its execution {id} is of another flow",
                request.flow
            );
            verdict.violation(Rule::Acknowledged, message);
        }
    }
}

fn told(evidence: &Evidence, requests: &BTreeMap<&str, Request<'_>>, verdict: &mut Verdict) {
    let mut by_request: BTreeMap<&str, ExecutionId> = BTreeMap::new();
    for (id, story) in &evidence.story.executions {
        match by_request.entry(&story.request_id) {
            Entry::Vacant(entry) => {
                entry.insert(*id);
            }
            Entry::Occupied(entry) => {
                let before = entry.get();
                let message = format!("{} made {before} and {id}", story.request_id);
                verdict.violation(Rule::RequestIds, message);
            }
        }
        if story.by_system {
            continue; // The rule of occurrences looks after these.
        }
        match requests.get(story.request_id.as_str()) {
            None => verdict.violation(
                Rule::Invented,
                format!(
                    "{id} ({}) was started, and nobody had asked for it",
                    story.request_id
                ),
            ),
            Some(request) if !request.possible => verdict.violation(
                Rule::Invented,
                format!(
                    "{id} was started by {}, which was refused each time",
                    story.request_id
                ),
            ),
            Some(_) => {}
        }
    }
}
