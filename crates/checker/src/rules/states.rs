//! What an execution is said to be equals the fold of the journal; and nothing is stuck after faults end.

use std::collections::BTreeSet;

use super::execution_id;
use crate::{Evidence, ExecutionStory, Rule, Verdict, history::Final};

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let mut seen = BTreeSet::new();
    for read in &evidence.history.finals {
        let story = execution_id(&read.execution).and_then(|id| {
            seen.insert(id);
            evidence.story.executions.get(&id)
        });
        let Some(story) = story else {
            let message = format!(
                "{} was read, and the journal knows nothing of it",
                read.execution
            );
            verdict.violation(Rule::States, message);
            continue;
        };
        if let Err(why) = compare(read, story) {
            verdict.violation(Rule::States, format!("{}: {why}", read.execution));
        }
    }
    for (id, story) in &evidence.story.executions {
        if evidence.history.finals_complete && !story.retired && !seen.contains(id) {
            verdict.violation(
                Rule::States,
                format!("{id} is in the journal and in no list"),
            );
        }
        if evidence.history.healed && story.state == "running" {
            let live: Vec<String> = story
                .steps
                .iter()
                .enumerate()
                .filter(|(_, s)| matches!(s.state, "pending" | "running" | "retry_wait"))
                .map(|(number, s)| format!("step {number} ({}) is {}", s.node, s.state))
                .collect();
            verdict.violation(
                Rule::Stuck,
                format!("{id} has not ended: {}", live.join(", ")),
            );
        }
    }
}

fn compare(read: &Final, story: &ExecutionStory) -> Result<(), String> {
    if story.retired {
        return Err("it is there, and the journal says that it was removed".to_owned());
    }
    let steps = story.steps.len() as u32;
    if (&*read.state, read.steps, read.dead) != (story.state, steps, story.dead()) {
        return Err(format!(
            "it is {} with {} steps, {} of them dead; by the journal it is {} with {steps}, {} dead",
            read.state,
            read.steps,
            read.dead,
            story.state,
            story.dead()
        ));
    }
    for (number, (state, attempt)) in read.step_states.iter().flatten().enumerate() {
        let told = story
            .steps
            .get(number)
            .map(|step| (step.state, step.attempt));
        if told != Some((&**state, *attempt)) {
            return Err(format!(
                "step {number} is {state} at attempt {attempt}; by the journal it is {told:?}"
            ));
        }
    }
    Ok(())
}
