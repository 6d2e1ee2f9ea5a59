//! Workers: they complete what they are given, or fail, rebound, renew, go silent, die, lose their
//! stream, complete twice, late, or what is not theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::json;
use tidemill_core::command::{
    CompleteTask, CompletionStatus, Outcome, OutputMessage, PartitionCommand, PartitionReply,
    RenewLease, SessionKey, SessionUpdate, Targets, TaskGrant,
};
use tidemill_rows::{
    Epoch,
    table::{ErrorRow, MessageRow},
};
use tidemill_types::{PartitionId, TaskId};

use super::{
    env::{Answer, Command, Env, Envelope, Event, Origin, Reply},
    options::Planted,
};

/// A worker's answer, until it has reached the engine.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The attempt.
    pub task: TaskId,
    /// What became of it.
    pub outcome: Outcome,
    /// Whose.
    pub session: SessionKey,
    /// Tries so far.
    pub tries: u32,
    /// The engine has answered.
    pub done: bool,
}

/// A worker process.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub name: Arc<str>,
    /// It has a stream to some gateway.
    pub is_connected: bool,
    /// Tasks that it takes at once.
    pub limit: u32,
    /// Lease that it wishes.
    pub lease_ms: u32,
    /// The process.
    instance: u64,
    /// Its stream's number.
    number: u64,
    /// Its gateway's stream to the leader of each partition that heard of it.
    streams: BTreeMap<PartitionId, SessionKey>,
    /// Tasks that it has, and whose completion was not answered.
    holds: BTreeSet<TaskId>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Workers {
    /// All of them.
    pub all: Vec<Worker>,
    /// All completions so far.
    pub completions: Vec<Completion>,
    streams: u64,
    instances: u64,
    /// The newest epoch of each partition to which the gateways are attached.
    epochs: BTreeMap<PartitionId, Epoch>,
}

const TRIES_MAX: u32 = 40;

impl Workers {
    /// Some workers, not connected yet.
    #[must_use]
    pub fn new(env: &mut Env) -> Self {
        let count = env.random.between(2, 4);
        let all: Vec<Worker> = (0..count)
            .map(|n| Worker {
                name: format!("w{n}").into(),
                is_connected: false,
                limit: env.random.between(1, 6) as u32,
                lease_ms: env.random.between(1_000, 8_000) as u32,
                instance: n + 1,
                number: 0,
                streams: BTreeMap::new(),
                holds: BTreeSet::new(),
            })
            .collect();
        Self {
            instances: count,
            all,
            ..Self::default()
        }
    }

    /// A worker connects.
    pub fn connect(&mut self, worker: usize) {
        let worker = &mut self.all[worker];
        worker.is_connected = true;
        worker.number += 1;
        worker.streams.clear();
    }

    /// A gateway attaches to the leader of a partition, for one worker: what it says first. From then on
    /// nothing arrives any more that was given out on the stream before. None while it is dead.
    pub fn attach(
        &mut self,
        env: &Env,
        worker: usize,
        partition: PartitionId,
    ) -> Option<PartitionCommand> {
        let worker = &mut self.all[worker];
        if !worker.is_connected {
            return None;
        }
        self.streams += 1;
        let key = SessionKey {
            gateway: self.streams,
            session: 1,
        };
        worker.streams.insert(partition, key);
        let is_here = |task: &TaskId| task.step.execution.partition() == partition;
        let holds = if env.planted(Planted::HeldLeaseFreed) {
            Vec::new()
        } else {
            worker.holds.iter().copied().filter(is_here).collect()
        };
        Some(PartitionCommand::Session(SessionUpdate {
            key,
            worker: worker.name.clone(),
            serves: vec![(Arc::from("w"), Arc::from(""))],
            lease_ms: worker.lease_ms,
            limit: worker.limit,
            gone: false,
            instance: worker.instance,
            number: worker.number,
            holds,
        }))
    }

    /// Whether the gateways attach anew: not to a leader whose epoch is over.
    pub fn follow(&mut self, partition: PartitionId, epoch: Epoch) -> bool {
        let known = self.epochs.entry(partition).or_insert(epoch);
        let is_new = *known <= epoch;
        *known = epoch.max(*known);
        is_new
    }

    /// A worker's stream breaks. What its gateway says then, where it is heard.
    pub fn disconnect(&mut self, worker: usize) -> Vec<(PartitionId, PartitionCommand)> {
        let worker = &mut self.all[worker];
        worker.is_connected = false;
        let streams = std::mem::take(&mut worker.streams).into_iter();
        streams
            .map(|(partition, key)| {
                let gateway = key.gateway;
                (partition, PartitionCommand::GatewayGone { gateway })
            })
            .collect()
    }

    /// The process is gone, and what it had with it.
    pub fn kill(&mut self, env: &mut Env, worker: usize) {
        self.instances += 1;
        let worker = &mut self.all[worker];
        for task in std::mem::take(&mut worker.holds) {
            env.checks.leases.on_let_go(task);
        }
        (worker.instance, worker.number) = (self.instances, 0);
    }

    /// What a gateway that does not know yet that its worker has gone says of it to a new leader.
    pub fn haunt(
        &mut self,
        env: &Env,
        worker: usize,
        partition: PartitionId,
    ) -> Option<PartitionCommand> {
        let stream = self.all[worker].streams.get(&partition).copied();
        let said = self.attach(env, worker, partition);
        if let Some(stream) = stream {
            // The worker itself hears nothing of it.
            self.all[worker].streams.insert(partition, stream);
        }
        said
    }

    /// A task reaches its worker, if that is still there.
    pub fn granted(&mut self, env: &mut Env, grant: &TaskGrant) {
        let partition = grant.task.step.execution.partition();
        let holder = self
            .all
            .iter()
            .position(|w| w.streams.get(&partition) == Some(&grant.session));
        let Some(worker) = holder else {
            env.count("grants to dead workers");
            return;
        };
        self.all[worker].holds.insert(grant.task);
        env.checks.leases.on_taken(grant.task);
        let lease = u64::from(grant.lease_ms);
        let soon = env.random.between(5, 900);
        let mood = if env.faults { env.random.below(100) } else { 0 };
        let outcome = self.outcome(env, grant);
        let first = self.add(grant, outcome);
        match mood {
            0..=69 => env.after(soon, Event::Complete { completion: first }),
            70..=75 => env.count("workers silent"),
            76..=82 => {
                env.count("completions late");
                let ms = lease + env.random.between(0, 3_000);
                env.after(ms, Event::Complete { completion: first });
            }
            83..=89 => {
                env.count("completions repeated");
                let again = self.add(grant, self.completions[first].outcome.clone());
                env.after(soon, Event::Complete { completion: first });
                let ms = soon + env.random.between(0, 2_000);
                env.after(ms, Event::Complete { completion: again });
            }
            90..=94 => {
                let task = grant.task;
                let left = env.random.between(1, 4) as u32;
                let every = lease / 2;
                env.after(every, Event::Renew { worker, task, left });
                let ms = every * u64::from(left) + env.random.between(0, lease);
                env.after(ms, Event::Complete { completion: first });
            }
            _ => {
                env.count("completions forged");
                let mut forged = self.completions[first].clone();
                match env.random.below(3) {
                    0 => forged.task.attempt += 1,
                    1 => forged.task.attempt = forged.task.attempt.wrapping_sub(1),
                    _ => forged.task.step.step = env.random.below(6) as u32,
                }
                self.completions.push(forged);
                let forged = self.completions.len() - 1;
                env.after(soon, Event::Complete { completion: forged });
                env.after(soon + 400, Event::Complete { completion: first });
            }
        }
    }

    fn add(&mut self, grant: &TaskGrant, outcome: Outcome) -> usize {
        self.completions.push(Completion {
            task: grant.task,
            outcome,
            session: grant.session,
            tries: 0,
            done: false,
        });
        self.completions.len() - 1
    }

    fn outcome(&self, env: &mut Env, grant: &TaskGrant) -> Outcome {
        let mood = if env.faults {
            env.random.below(100)
        } else {
            env.random.below(70)
        };
        let failure = |fatal| {
            Outcome::Failure(ErrorRow {
                code: "BROKEN".into(),
                message: "it broke".into(),
                fatal,
                ..ErrorRow::default()
            })
        };
        match mood {
            0..=69 => {
                let count = [1, 1, 1, 1, 0, 2, 3][env.random.index(7)];
                let messages = (0..count).map(|_| message(env, grant)).collect();
                let node_state = env
                    .random
                    .chance(150)
                    .then(|| Bytes::from(json!({ "at": env.now_ms }).to_string()));
                Outcome::Success {
                    messages,
                    node_state,
                }
            }
            70..=83 => failure(false),
            84..=88 => failure(true),
            89..=95 => {
                env.count("rebounds");
                Outcome::Rebound {
                    after_ms: env.random.between(0, 5_000),
                }
            }
            _ => {
                env.count("completions invalid");
                Outcome::Success {
                    messages: vec![OutputMessage {
                        message: MessageRow::default(),
                        targets: Targets::Named(vec!["nowhere".into()]),
                    }],
                    node_state: None,
                }
            }
        }
    }

    /// A completion is sent (again): its command.
    pub fn send(&mut self, env: &mut Env, completion: usize) -> Option<Envelope> {
        let sent = &mut self.completions[completion];
        if sent.done || sent.tries >= TRIES_MAX {
            return None;
        }
        sent.tries += 1;
        let ms = env.random.between(500, 4_000);
        env.after(ms, Event::Complete { completion });
        env.checks.completions.on_sent(sent.task);
        Some(Envelope {
            command: Command::Partition(PartitionCommand::Complete(CompleteTask {
                task: sent.task,
                outcome: sent.outcome.clone(),
                session: sent.session,
            })),
            origin: Origin::Worker { completion },
        })
    }

    /// What a worker says to keep its lease.
    #[must_use]
    pub fn renewal(task: TaskId) -> Envelope {
        Envelope {
            command: Command::Partition(PartitionCommand::Renew(RenewLease {
                task,
                progress: String::new(),
            })),
            origin: Origin::Nobody,
        }
    }

    /// The engine answers a completion.
    pub fn answered(&mut self, env: &mut Env, completion: usize, answer: Answer) {
        let sent = &mut self.completions[completion];
        let Answer::Done(Reply::Partition(PartitionReply::Completed(status))) = answer else {
            return;
        };
        if sent.done {
            return;
        }
        sent.done = true;
        let task = sent.task;
        for worker in &mut self.all {
            worker.holds.remove(&task);
        }
        env.checks.leases.on_let_go(task);
        env.count(match &status {
            CompletionStatus::Accepted => "completions accepted",
            CompletionStatus::Already => "completions already there",
            CompletionStatus::LeaseLost => "completions stale",
            CompletionStatus::Invalid(_) => "completions not allowed",
        });
        env.tell(|| format!("completion of {task}: {status:?}"));
        let result = env.checks.on_completed(task, &status);
        env.check(result);
    }
}

fn message(env: &mut Env, grant: &TaskGrant) -> OutputMessage {
    let n = env.random.between(0, 5);
    let targets = match env.random.below(10) {
        0 => Targets::None,
        1 => {
            let names = grant.targets.first().map(ToString::to_string);
            Targets::Named(names.into_iter().collect())
        }
        _ => Targets::All,
    };
    let data = json!({ "n": n, "again": env.random.chance(500) });
    OutputMessage {
        message: MessageRow {
            data: data.to_string().into(),
            ..MessageRow::default()
        },
        targets,
    }
}
