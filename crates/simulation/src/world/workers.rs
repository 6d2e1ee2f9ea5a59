//! Workers, each with a stream to the leader of every group. They complete what they are given; sometimes
//! they fail, answer late, twice, or never.

use rows::table::{ErrorRow, MessageRow};
use tidemill_core::command::{
    CompleteTask, Outcome, OutputMessage, PartitionCommand, PartitionReply, SessionKey,
    SessionUpdate, Targets, TaskGrant,
};
use tidemill_server::actor::AskError;
use tidemill_types::{PartitionId, TaskId};

use super::{Event, Said, World};
use crate::run;

/// A worker's answer, until it has reached the engine.
struct Completion {
    task: TaskId,
    outcome: Outcome,
    session: SessionKey,
    tries: u32,
    is_done: bool,
}

/// See the module.
pub(super) struct Workers {
    completions: Vec<Completion>,
    /// Gateways' streams so far.
    streams: u64,
}

const WORKERS: u64 = 2;
const LEASE_MS: u32 = 1_500;
/// Tasks that a worker takes at once.
const LIMIT: u32 = 8;
const TRIES_MAX: u32 = 40;

impl Workers {
    pub fn new() -> Self {
        Self {
            completions: Vec::new(),
            streams: 0,
        }
    }

    fn add(&mut self, grant: &TaskGrant, outcome: Outcome) -> usize {
        self.completions.push(Completion {
            task: grant.task,
            outcome,
            session: grant.session,
            tries: 0,
            is_done: false,
        });
        self.completions.len() - 1
    }
}

fn success() -> Outcome {
    Outcome::Success {
        messages: vec![OutputMessage {
            message: MessageRow {
                data: "{\"n\":1}".into(),
                ..MessageRow::default()
            },
            targets: Targets::All,
        }],
        node_state: None,
    }
}

fn failure() -> Outcome {
    Outcome::Failure(ErrorRow {
        code: "BROKEN".into(),
        message: "it broke".into(),
        ..ErrorRow::default()
    })
}

impl World {
    /// The gateways attach to a new leader and tell it of the workers.
    pub(super) fn attach(&mut self, node: u64, group: PartitionId, process: u64) {
        if self.nodes[node as usize - 1].process != process {
            return;
        }
        for worker in 1..=WORKERS {
            self.workers.streams += 1;
            let session = PartitionCommand::Session(SessionUpdate {
                key: SessionKey {
                    gateway: self.workers.streams,
                    session: 1,
                },
                worker: format!("w{worker}").into(),
                serves: vec![("w".into(), "".into())],
                lease_ms: LEASE_MS,
                limit: LIMIT,
                gone: false,
                // Not known: what a worker holds is never freed for it here, leases run out instead.
                instance: 0,
                number: 0,
                holds: Vec::new(),
            });
            self.ask(node, group, session, |_| Said::Nothing);
        }
    }

    pub(super) fn granted(&mut self, grant: &TaskGrant) {
        let soon = run::between(2, 60);
        let mood = if self.faults.are_over {
            0
        } else {
            run::between(0, 99)
        };
        let outcome = if (80..90).contains(&mood) {
            failure()
        } else {
            success()
        };
        let first = self.workers.add(grant, outcome);
        match mood {
            0..=89 => self.after(soon, Event::Complete(first)),
            90..=92 => run::count("workers silent"),
            93..=96 => {
                run::count("completions late");
                let ms = u64::from(LEASE_MS) + run::between(0, 500);
                self.after(ms, Event::Complete(first));
            }
            _ => {
                run::count("completions repeated");
                let again = self.workers.add(grant, success());
                self.after(soon, Event::Complete(first));
                self.after(soon + run::between(0, 900), Event::Complete(again));
            }
        }
    }

    pub(super) fn complete(&mut self, completion: usize) {
        let sent = &mut self.workers.completions[completion];
        if sent.is_done || sent.tries >= TRIES_MAX {
            return;
        }
        sent.tries += 1;
        let command = PartitionCommand::Complete(CompleteTask {
            task: sent.task,
            outcome: sent.outcome.clone(),
            session: sent.session,
        });
        let task = sent.task;
        let group = task.step.execution.partition();
        self.checks.completions.on_sent(task);
        let node = self.target(group);
        self.ask(node, group, command, move |answer| Said::Completed {
            completion,
            answer,
        });
        let ms = run::between(300, 1_200);
        self.after(ms, Event::Complete(completion));
    }

    pub(super) fn completed(
        &mut self,
        completion: usize,
        answer: Result<PartitionReply, AskError>,
    ) {
        let sent = &mut self.workers.completions[completion];
        if sent.is_done {
            return;
        }
        match answer {
            Ok(PartitionReply::Completed(status)) => {
                run::count("completions answered");
                sent.is_done = true;
                let task = sent.task;
                if let Err(violation) = self.checks.on_completed(task, &status) {
                    run::violate(violation);
                }
            }
            Err(AskError::NotLeader {
                leader: Some(leader),
            }) => {
                let group = sent.task.step.execution.partition();
                self.clients.leaders.insert(group, leader.0);
            }
            _ => {}
        }
    }
}
