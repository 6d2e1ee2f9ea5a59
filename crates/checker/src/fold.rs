//! The fold of a journal: what its records tell of executions and schedules, by their documented meaning
//! alone. It also knows which record may follow which.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_proto::v1::JournalRecord;
use tidemill_types::ExecutionId;

use crate::{Rule, Verdict};

/// How an attempt of a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which attempt.
    pub attempt: u32,
    /// The record's kind, such as `step.succeeded`.
    pub kind: String,
    /// Who ended it: `worker:NAME` or `system`.
    pub actor: String,
    /// The record's detail.
    pub detail: String,
}

/// A step, as the journal tells it.
#[derive(Clone, Debug)]
pub struct StepStory {
    /// Its node in the flow.
    pub node: String,
    /// `pending`, `running`, `retry_wait`, `succeeded`, `failed`, `dead` or `cancelled`.
    pub state: &'static str,
    /// Attempts so far.
    pub attempt: u32,
    /// How its attempts ended, oldest first.
    pub ends: Vec<Ended>,
}

impl StepStory {
    fn is_live(&self) -> bool {
        matches!(self.state, "pending" | "running" | "retry_wait")
    }
}

/// An execution, as the journal tells it.
#[derive(Clone, Debug)]
pub struct ExecutionStory {
    /// The flow's 16 bytes.
    pub flow: Vec<u8>,
    /// `running`, `succeeded`, `failed`, `cancelled` or `timed_out`.
    pub state: &'static str,
    /// Of its start.
    pub request_id: String,
    /// True when a schedule started it.
    pub by_system: bool,
    /// By number.
    pub steps: Vec<StepStory>,
    /// Retention has removed it.
    pub retired: bool,
    /// Being ended in slices.
    ending: bool,
}

impl ExecutionStory {
    /// How many of its steps are dead.
    #[must_use]
    pub fn dead(&self) -> u32 {
        self.steps.iter().filter(|s| s.state == "dead").count() as u32
    }
}

/// All that a journal tells.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// By id.
    pub executions: BTreeMap<ExecutionId, ExecutionStory>,
    /// Times at which flows were armed (true) and disarmed, by the flow's 16 bytes, in microseconds.
    pub armings: BTreeMap<Vec<u8>, Vec<(bool, i64)>>,
    /// How many records there were.
    pub records: u64,
}

impl Story {
    /// Takes up a record.
    pub(crate) fn take(&mut self, record: &JournalRecord, verdict: &mut Verdict) {
        self.records += 1;
        if let Err(why) = self.follow(record) {
            verdict.violation(
                Rule::Story,
                format!(
                    "record {}/{} {}: {why}",
                    record.partition, record.seq, record.kind
                ),
            );
        }
    }

    fn follow(&mut self, record: &JournalRecord) -> Result<(), String> {
        match record.kind.as_str() {
            "flow.armed" | "flow.disarmed" => {
                let armings = self.armings.entry(record.flow_id.to_vec()).or_default();
                armings.push((record.kind == "flow.armed", record.at_us));
            }
            "partition.restarted" | "partition.command_quarantined" => {
                return Err(format!("the partition's logic panicked: {}", record.detail));
            }
            _ => {}
        }
        let is_about_one =
            record.kind.starts_with("execution.") || record.kind.starts_with("step.");
        if !is_about_one {
            return Ok(());
        }
        let id = <[u8; 16]>::try_from(&record.execution_id[..]).map(ExecutionId);
        let id = id.map_err(|_| "it names no execution")?;
        if record.kind == "execution.started" {
            if u32::from(id.partition().0) != record.partition {
                return Err(format!("{id} belongs to partition {}", id.partition()));
            }
            let fresh = ExecutionStory {
                flow: record.flow_id.to_vec(),
                state: "running",
                request_id: record.request_id.clone(),
                by_system: record.actor == "system",
                steps: Vec::new(),
                retired: false,
                ending: false,
            };
            return match self.executions.insert(id, fresh) {
                None => Ok(()),
                Some(_) => Err(format!("{id} had started before")),
            };
        }
        let Some(execution) = self.executions.get_mut(&id) else {
            return Err(format!("{id} never started"));
        };
        let followed = if execution.retired {
            Err("it is retired".to_owned())
        } else if record.step > 0 {
            execution.on_step(record)
        } else {
            execution.on_execution(record)
        };
        followed.map_err(|why| format!("{id}: {why}"))
    }

    /// The flows whose executions the journal tells of.
    #[must_use]
    pub fn flows(&self) -> BTreeSet<&[u8]> {
        self.executions.values().map(|e| &e.flow[..]).collect()
    }
}

impl ExecutionStory {
    fn on_execution(&mut self, record: &JournalRecord) -> Result<(), String> {
        let live = self.steps.iter().filter(|step| step.is_live()).count();
        let was = self.state;
        let state = match record.kind.as_str() {
            "execution.ending" => {
                if was != "running" || self.ending || live == 0 {
                    return Err(format!("it was {was} with {live} live steps"));
                }
                self.ending = true;
                return Ok(());
            }
            "execution.redriven" => {
                if was != "failed" {
                    return Err(format!("it was {was}"));
                }
                self.state = "running";
                return Ok(());
            }
            "execution.retired" => {
                if was == "running" {
                    return Err("it runs".to_owned());
                }
                self.retired = true;
                self.steps = Vec::new();
                return Ok(());
            }
            "execution.succeeded" => "succeeded",
            "execution.failed" => "failed",
            "execution.cancelled" => "cancelled",
            "execution.timed_out" => "timed_out",
            _ => return Err("no such event of an execution".to_owned()),
        };
        if was != "running" || live > 0 {
            return Err(format!("it was {was} with {live} live steps"));
        }
        let dead = self.dead();
        if (state == "succeeded" && dead > 0) || (state == "failed" && dead == 0) {
            return Err(format!("it has {dead} dead steps"));
        }
        self.state = state;
        self.ending = false;
        Ok(())
    }

    fn on_step(&mut self, record: &JournalRecord) -> Result<(), String> {
        let number = record.step as usize - 1;
        let kind = record.kind.as_str();
        if self.state != "running" {
            return Err(format!("the execution was {}", self.state));
        }
        if self.ending && kind != "step.cancelled" {
            return Err("the execution was being ended".to_owned());
        }
        if kind == "step.scheduled" {
            if number != self.steps.len() {
                return Err(format!(
                    "step {number} is made, {} was next",
                    self.steps.len()
                ));
            }
            self.steps.push(StepStory {
                node: record.node.clone(),
                state: "pending",
                attempt: record.attempt,
                ends: Vec::new(),
            });
            return Ok(());
        }
        let Some(step) = self.steps.get_mut(number) else {
            return Err(format!("step {number} was never made"));
        };
        if step.node != record.node {
            return Err(format!("step {number} is of node {}", step.node));
        }
        // A built-in step may begin and end at once, without a record of its beginning.
        let (from, to): (&[&str], &'static str) = match kind {
            "step.started" => (&["pending"], "running"),
            "step.succeeded" => (&["running", "pending"], "succeeded"),
            "step.retry_scheduled" => (&["running", "pending"], "retry_wait"),
            "step.rebound" => (&["running"], "retry_wait"),
            "step.lease_expired" | "step.lease_freed" => (&["running"], "pending"),
            "step.failed" => (&["running", "pending"], "failed"),
            "step.dead" => (&["running", "pending"], "dead"),
            "step.cancelled" => (&["pending", "running", "retry_wait"], "cancelled"),
            "step.redriven" => (&["dead"], "pending"),
            "step.resumed" => (&["retry_wait"], "pending"),
            _ => return Err("no such event of a step".to_owned()),
        };
        if !from.contains(&step.state) {
            return Err(format!("step {number} was {}", step.state));
        }
        let begins = kind == "step.started"
            || (step.state == "pending" && matches!(to, "succeeded" | "retry_wait" | "failed"));
        let may_begin = begins || (step.state == "pending" && to == "dead");
        let expected = step.attempt + u32::from(begins);
        if record.attempt != expected && !(may_begin && record.attempt == step.attempt + 1) {
            return Err(format!(
                "attempt {} of step {number}, expected {expected}",
                record.attempt
            ));
        }
        let ends_attempt = kind != "step.started"
            && !matches!(kind, "step.redriven" | "step.resumed" | "step.cancelled");
        // Attempt 0: a step that died before anybody had it, by its loop's limit.
        if ends_attempt && record.attempt > 0 {
            if let Some(before) = step.ends.iter().find(|e| e.attempt == record.attempt) {
                return Err(format!(
                    "attempt {} of step {number} ended before, by {}",
                    record.attempt, before.kind
                ));
            }
            step.ends.push(Ended {
                attempt: record.attempt,
                kind: record.kind.clone(),
                actor: record.actor.clone(),
                detail: record.detail.clone(),
            });
        }
        step.attempt = record.attempt;
        step.state = to;
        Ok(())
    }
}
