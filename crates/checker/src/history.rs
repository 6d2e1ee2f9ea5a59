//! What clients, workers and webhook callers saw: a file of JSON lines.
//!
//! The first line is `{"tidemill_history": 1}`, with whatever else its writer wants to remember. Each further
//! line is a [`Line`]. A call has two: one *before* it is sent, one when its answer is there. So a writer that dies
//! leaves calls without an answer, whose outcome is unknown; a last line that is cut off is left out.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{Rule, Verdict};

/// The version of the file format.
pub const FORMAT: u64 = 1;
/// Longest line of a history.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in microseconds of a clock that all writers share and that never goes back.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// About to be sent.
    Call {
        /// Unique in the file; its [`Event::Return`] has the same.
        id: u64,
        /// Who sends it. One client sends one call after the other, or says which belong together by
        /// nothing but time.
        client: String,
        /// What.
        call: Call,
    },
    /// The answer is there, or nobody waits for it any more.
    Return {
        /// Of the call.
        id: u64,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A worker was given a task.
    Delivered {
        /// Its name.
        worker: String,
        /// `exe_…/step/attempt`.
        task: String,
    },
    /// A flow is due at each whole second while it is armed.
    Schedule {
        /// `flw_…`
        flow: String,
    },
    /// All rows of a flow's ledger, read after it was stopped.
    Ledger {
        /// `flw_…`
        flow: String,
        /// Oldest first.
        rows: Vec<LedgerRow>,
    },
    /// An execution, read after all had settled.
    Final {
        /// `exe_…`
        execution: String,
        /// As in [`Answer::Read`].
        state: String,
        /// How many steps it has.
        steps: u32,
        /// How many of them are dead.
        dead: u32,
        /// State and attempt of each step, when they were read too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_states: Option<Vec<(String, u32)>>,
    },
    /// All executions of all flows have their [`Event::Final`].
    FinalsComplete,
    /// A fault begins (or a single one strikes).
    Fault {
        /// Its name, such as `kill`.
        fault: String,
        /// What it strikes.
        target: String,
    },
    /// A fault ends.
    FaultEnd {
        /// Its name.
        fault: String,
        /// What it struck.
        target: String,
    },
    /// All faults have ended; what runs must end from here on.
    Healed,
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Call {
    /// Start an execution, by gRPC or by a webhook.
    Start {
        /// `flw_…`
        flow: String,
        /// Never empty.
        request_id: String,
    },
    /// Complete a task.
    Complete {
        /// `exe_…/step/attempt`.
        task: String,
        /// With what.
        outcome: Completed,
    },
    /// Read an execution from its leader.
    Read {
        /// `exe_…`
        execution: String,
    },
}

/// What a worker says of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completed {
    /// It gave messages.
    Success,
    /// It failed, for good or not.
    Error,
    /// Again later.
    Rebound,
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Ok {
        /// With what.
        answer: Answer,
    },
    /// It surely had no effect.
    Refused {
        /// The error's code.
        code: String,
    },
    /// It had its effect or not.
    #[default]
    Unknown,
}

/// What a call was answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Call::Start`].
    Started {
        /// `exe_…`
        execution: String,
        /// False when the request id had started it before; absent when the answer does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        created: Option<bool>,
    },
    /// To [`Call::Complete`]: it took effect.
    Accepted,
    /// To [`Call::Complete`]: this attempt was completed before.
    Already,
    /// To [`Call::Complete`]: the lease is lost; nothing changed.
    LeaseLost,
    /// To [`Call::Complete`]: refused for what is in it; the attempt failed.
    Invalid,
    /// To [`Call::Read`].
    Read {
        /// `running`, `succeeded`, `failed`, `cancelled` or `timed_out`.
        state: String,
        /// Grows with every change.
        revision: u64,
    },
    /// To [`Call::Read`].
    NotFound,
}

/// A row of a schedule's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// When it was due, in microseconds since the Unix epoch.
    pub at_us: i64,
    /// What became of it.
    pub outcome: LedgerOutcome,
    /// `exe_…` where it fired, else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub execution: String,
}

/// What became of an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerOutcome {
    /// In time.
    Fired,
    /// Later.
    Late,
    /// Not at all, with a reason.
    Skipped,
    /// Waits still.
    Queued,
}

/// A call with its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who sent it.
    pub client: String,
    /// What was sent.
    pub call: Call,
    /// When.
    pub called_us: u64,
    /// When its answer was there; none without one.
    pub returned_us: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// An execution as it was read at the end.
#[derive(Clone, Debug)]
pub struct Final {
    /// `exe_…`
    pub execution: String,
    /// Its state.
    pub state: String,
    /// How many steps it has.
    pub steps: u32,
    /// How many of them are dead.
    pub dead: u32,
    /// State and attempt of each step, when they were read too.
    pub step_states: Option<Vec<(String, u32)>>,
}

/// All that histories tell.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Calls, in the order in which they were sent, file by file.
    pub operations: Vec<Operation>,
    /// Worker and task.
    pub delivered: Vec<(String, String)>,
    /// Flows that are due every second.
    pub schedules: Vec<String>,
    /// Rows by flow.
    pub ledgers: BTreeMap<String, Vec<LedgerRow>>,
    /// Executions as they were read at the end.
    pub finals: Vec<Final>,
    /// Whether those are all.
    pub finals_complete: bool,
    /// Faults begun, by name.
    pub faults: BTreeMap<String, u64>,
    /// Whether all faults have ended.
    pub healed: bool,
}

impl History {
    /// Reads a file, after others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&mut self, path: &Path, verdict: &mut Verdict) -> std::io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        let mut calls: BTreeMap<u64, usize> = BTreeMap::new();
        let mut wrong = |number: u64, why: &str| {
            verdict.violation(Rule::History, format!("{}:{number}: {why}", path.display()));
        };
        let mut text = Vec::new();
        for number in 1_u64.. {
            text.clear();
            let read = file
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut text)?;
            // A writer that was killed leaves a part of a line, which it had not finished saying.
            if read == 0 || text.last() != Some(&b'\n') {
                break;
            }
            if number == 1 {
                continue;
            }
            match serde_json::from_slice::<Line>(&text) {
                Err(error) => wrong(number, &format!("no line of a history: {error}")),
                Ok(line) => {
                    if let Err(why) = self.take(line, &mut calls) {
                        wrong(number, &why);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, line: Line, calls: &mut BTreeMap<u64, usize>) -> Result<(), String> {
        match line.event {
            Event::Call { id, client, call } => {
                if calls.insert(id, self.operations.len()).is_some() {
                    return Err(format!("call {id} was there before"));
                }
                self.operations.push(Operation {
                    client,
                    call,
                    called_us: line.at_us,
                    returned_us: None,
                    outcome: Outcome::Unknown,
                });
            }
            Event::Return { id, outcome } => {
                let Some(at) = calls.get(&id) else {
                    return Err(format!("the answer to call {id}, which is not there"));
                };
                let operation = &mut self.operations[*at];
                if operation.returned_us.is_some() {
                    return Err(format!("call {id} was answered before"));
                }
                if line.at_us < operation.called_us {
                    return Err(format!("call {id} was answered before it was sent"));
                }
                operation.returned_us = Some(line.at_us);
                operation.outcome = outcome;
            }
            Event::Delivered { worker, task } => self.delivered.push((worker, task)),
            Event::Schedule { flow } => self.schedules.push(flow),
            Event::Ledger { flow, rows } => {
                self.ledgers.insert(flow, rows);
            }
            Event::Final {
                execution,
                state,
                steps,
                dead,
                step_states,
            } => self.finals.push(Final {
                execution,
                state,
                steps,
                dead,
                step_states,
            }),
            Event::FinalsComplete => self.finals_complete = true,
            Event::Fault { fault, .. } => *self.faults.entry(fault).or_default() += 1,
            Event::FaultEnd { .. } => {}
            Event::Healed => self.healed = true,
        }
        Ok(())
    }
}
