//! A completion that was acknowledged took effect, one that was refused did not, an unknown one did or did not,
//! and none did twice. An attempt is given to one worker.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_types::ExecutionId;

use super::execution_id;
use crate::{
    Ended, Evidence, Rule, Verdict,
    history::{Answer, Call, Completed, Outcome},
};

/// What workers saw of an attempt.
#[derive(Default)]
struct Attempt {
    /// What was sent and may have had its effect.
    possible: BTreeSet<Completed>,
    accepted: u32,
    accepted_as: Option<Completed>,
    already: bool,
    invalid: bool,
}

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut attempts: BTreeMap<&str, Attempt> = BTreeMap::new();
    for operation in &evidence.history.operations {
        let Call::Complete { task, outcome } = &operation.call else {
            continue;
        };
        let attempt = attempts.entry(task).or_default();
        match &operation.outcome {
            Outcome::Refused { .. } => {}
            Outcome::Unknown => {
                attempt.possible.insert(*outcome);
            }
            Outcome::Ok { answer } => match answer {
                Answer::Accepted => {
                    attempt.accepted += 1;
                    attempt.accepted_as = Some(*outcome);
                    attempt.possible.insert(*outcome);
                }
                // The effect is that of the call before, which may have been this same one, sent twice.
                Answer::Already => {
                    attempt.already = true;
                    attempt.possible.insert(*outcome);
                }
                Answer::LeaseLost => {}
                Answer::Invalid => attempt.invalid = true,
                answer => verdict.violation(
                    Rule::History,
                    format!("the completion of {task} was answered with {answer:?}"),
                ),
            },
        }
    }
    for (task, attempt) in &attempts {
        if let Err(why) = judge(evidence, task, attempt) {
            verdict.violation(Rule::Completions, format!("{task}: {why}"));
        }
    }
    unsent(evidence, &attempts, verdict);
    leases(evidence, verdict);
}

/// How an attempt ended by the journal.
fn end_of<'a>(evidence: &'a Evidence, task: &str) -> Option<&'a Ended> {
    let (execution, step, attempt) = parse_task(task)?;
    let story = evidence.story.executions.get(&execution)?;
    let step = story.steps.get(step as usize)?;
    step.ends.iter().find(|end| end.attempt == attempt)
}

fn parse_task(task: &str) -> Option<(ExecutionId, u32, u32)> {
    let (rest, attempt) = task.rsplit_once('/')?;
    let (execution, step) = rest.rsplit_once('/')?;
    Some((
        execution_id(execution)?,
        step.parse().ok()?,
        attempt.parse().ok()?,
    ))
}

fn is_retired(evidence: &Evidence, task: &str) -> bool {
    let id = parse_task(task).map(|(execution, _, _)| execution);
    let story = id.and_then(|id| evidence.story.executions.get(&id));
    story.is_some_and(|story| story.retired)
}

/// What a record means for the worker that caused it.
fn effects(end: &Ended) -> &'static [Completed] {
    match end.kind.as_str() {
        "step.succeeded" => &[Completed::Success],
        "step.rebound" => &[Completed::Rebound],
        // What could not be taken fails the attempt, and the next step's condition may.
        "step.retry_scheduled" | "step.failed" | "step.dead" => {
            &[Completed::Error, Completed::Success, Completed::Rebound]
        }
        _ => &[],
    }
}

fn is_by_worker(end: &Ended) -> bool {
    end.actor.starts_with("worker:")
        && !matches!(end.kind.as_str(), "step.lease_expired" | "step.lease_freed")
}

fn judge(evidence: &Evidence, task: &str, attempt: &Attempt) -> Result<(), String> {
    if parse_task(task).is_none() {
        return Err("no id of a task".to_owned());
    }
    if is_retired(evidence, task) {
        return Ok(());
    }
    if attempt.accepted > 1 {
        return Err(format!("it was accepted {} times", attempt.accepted));
    }
    let end = end_of(evidence, task).filter(|end| is_by_worker(end));
    let Some(end) = end else {
        return if attempt.accepted > 0 || attempt.already || attempt.invalid {
            let how = end_of(evidence, task).map_or("not at all", |end| &end.kind);
            Err(format!(
                "it was answered as completed; by the journal it ended {how}"
            ))
        } else {
            Ok(())
        };
    };
    if attempt.invalid {
        return if end.detail == "INVALID_COMPLETION" {
            Ok(())
        } else {
            Err(format!(
                "it was answered as invalid; by the journal it ended by {}",
                end.kind
            ))
        };
    }
    let possible = match attempt.accepted_as {
        Some(accepted) => BTreeSet::from([accepted]),
        None => attempt.possible.clone(),
    };
    if possible.is_empty() {
        return Err(format!(
            "it was refused each time; by the journal it ended by {}",
            end.kind
        ));
    }
    if !effects(end).iter().any(|effect| possible.contains(effect)) {
        return Err(format!(
            "it was completed as {possible:?}; by the journal it ended by {}",
            end.kind
        ));
    }
    Ok(())
}

/// Completions in the journal that no worker sent. Only where workers wrote down anything.
fn unsent(evidence: &Evidence, attempts: &BTreeMap<&str, Attempt>, verdict: &mut Verdict) {
    if attempts.is_empty() {
        return;
    }
    for (id, story) in &evidence.story.executions {
        for (number, step) in story.steps.iter().enumerate() {
            for end in step.ends.iter().filter(|end| is_by_worker(end)) {
                let task = format!("{id}/{number}/{}", end.attempt);
                if !attempts.contains_key(task.as_str()) {
                    let message = format!(
                        "{task} ended by {} of {}, which nobody had sent",
                        end.kind, end.actor
                    );
                    verdict.violation(Rule::Completions, message);
                }
            }
        }
    }
}

fn leases(evidence: &Evidence, verdict: &mut Verdict) {
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    for (worker, task) in &evidence.history.delivered {
        match holders.insert(task, worker) {
            Some(other) if other != worker => verdict.violation(
                Rule::Leases,
                format!("{task} was given to {other} and to {worker}"),
            ),
            _ => {}
        }
    }
}
