//! Clients: they define, publish, start and stop flows, start, cancel and redrive executions, read,
//! and repeat what was not answered with the same request id.

use std::collections::BTreeMap;

use serde_json::json;
use tidemill_core::command::{
    ApplyFlow, Backfill, CancelExecution, CatalogCommand, CatalogReply, ChangeSchedule,
    PartitionCommand, PartitionReply, RedriveExecution, StartExecution,
};
use tidemill_rows::table::{MessageRow, ScheduleChange};
use tidemill_types::{ExecutionId, FlowId, Timestamp, flow::FlowDocument};

use super::{
    env::{Answer, Command, Env, Envelope, Event, Origin, Reply},
    flows,
};
use crate::invariant::{Acknowledged, ends};

/// What a request asks for.
#[derive(Clone, Debug)]
pub enum Op {
    /// Define a flow.
    Apply(String, Box<FlowDocument>),
    /// Publish its draft.
    Publish(String),
    /// Start it.
    StartFlow(String, bool),
    /// Stop it.
    StopFlow(String, bool),
    /// Delete it.
    DeleteFlow(String),
    /// Start an execution, by hand or not.
    Start(FlowId, u64, bool),
    /// Pause its schedule, or resume it.
    ChangeSchedule(FlowId, ScheduleChange),
    /// Run what was due in some seconds until some seconds ago.
    Backfill(FlowId, Timestamp, Timestamp, bool),
    /// Cancel one.
    Cancel(ExecutionId),
    /// Redrive one.
    Redrive(ExecutionId),
}

/// Something that a client wants, until it has an answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who wants it.
    pub client: usize,
    /// What.
    pub op: Op,
    /// Its request id.
    pub id: String,
    /// Tries so far.
    pub attempt: u32,
    /// It is settled.
    pub done: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Clients {
    /// All requests so far.
    pub requests: Vec<Request>,
    /// Flows that clients know, by name.
    pub flows: BTreeMap<String, FlowId>,
    /// Executions that clients know.
    pub executions: Vec<ExecutionId>,
}

/// How many clients there are.
pub const CLIENTS: usize = 5;
const TIMEOUT_MS: (u64, u64) = (1_000, 9_000);
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

impl Clients {
    /// A client's next wish; none: it only looks around.
    pub fn next(&mut self, env: &mut Env, client: usize) -> Option<usize> {
        let name = NAMES[env.random.index(NAMES.len())].to_owned();
        let known = self.flows.contains_key(&name);
        let recent = self.executions.len().saturating_sub(12);
        let op = match env.random.below(100) {
            _ if !known => {
                let document = flows::document(&mut env.random, &name);
                Op::Apply(name, document)
            }
            0..=3 => {
                let document = flows::document(&mut env.random, &name);
                Op::Apply(name, document)
            }
            4..=10 => Op::Publish(name),
            11..=24 => Op::StartFlow(name, env.random.chance(700)),
            25..=27 => Op::StopFlow(name, env.random.chance(300)),
            28 => Op::DeleteFlow(name),
            29..=34 => Op::Cancel(*env.random.pick(&self.executions[recent..])?),
            35..=48 => Op::Redrive(*env.random.pick(&self.executions[recent..])?),
            49..=55 => return None,
            56..=58 => Op::ChangeSchedule(self.flows[&name], ScheduleChange::Pause),
            59..=62 => Op::ChangeSchedule(self.flows[&name], ScheduleChange::Resume),
            63..=65 => {
                // As a client's clock has it, which may be ahead.
                let now = env.clock(0);
                let ago_ms = env.random.between(0, 40_000) as i64;
                let to = Timestamp::from_millis(now.as_millis() - ago_ms);
                let long_ms = env.random.between(1, 40_000) as i64;
                let from = Timestamp::from_millis(to.as_millis() - long_ms);
                Op::Backfill(self.flows[&name], from, to, env.random.chance(400))
            }
            _ => {
                let n = env.random.between(0, 4);
                Op::Start(self.flows[&name], n, env.random.chance(300))
            }
        };
        let request = self.want(op);
        self.requests[request].client = client;
        Some(request)
    }

    /// The command of a request's next try, and the group that it goes to.
    pub fn command(&mut self, env: &mut Env, request: usize) -> (usize, Envelope) {
        let wanted = &mut self.requests[request];
        wanted.attempt += 1;
        if wanted.attempt > 1 {
            env.count("requests repeated");
        }
        let (attempt, request_id) = (wanted.attempt, wanted.id.clone());
        let (least, most) = TIMEOUT_MS;
        let ms = env.random.between(least, most);
        env.after(ms, Event::ClientTimeout { request, attempt });
        let (group, command) = match wanted.op.clone() {
            Op::Apply(_, document) => (
                0,
                Command::Catalog(CatalogCommand::Apply(ApplyFlow {
                    document,
                    flow: None,
                    expected_revision: 0,
                    create_only: false,
                    request_id,
                    entropy: env.random.draw(),
                    partitions: env.options.partitions,
                })),
            ),
            Op::Publish(flow) => (
                0,
                Command::Catalog(CatalogCommand::Publish { flow, request_id }),
            ),
            Op::StartFlow(flow, without_workers) => (
                0,
                Command::Catalog(CatalogCommand::Start {
                    flow,
                    version: 0,
                    without_workers,
                    request_id,
                }),
            ),
            Op::StopFlow(flow, cancel_running) => (
                0,
                Command::Catalog(CatalogCommand::Stop {
                    flow,
                    cancel_running,
                    request_id,
                }),
            ),
            Op::DeleteFlow(flow) => (
                0,
                Command::Catalog(CatalogCommand::Delete { flow, request_id }),
            ),
            Op::ChangeSchedule(flow, change) => (
                usize::from(flow.partition().0),
                Command::Partition(PartitionCommand::ChangeSchedule(ChangeSchedule {
                    flow,
                    change,
                    reason: String::new(),
                    request_id,
                })),
            ),
            Op::Backfill(flow, from, to, only_missed) => (
                usize::from(flow.partition().0),
                Command::Partition(PartitionCommand::Backfill(Backfill {
                    flow,
                    from,
                    to,
                    only_missed,
                    dry_run: false,
                    request_id,
                })),
            ),
            Op::Start(flow, n, by_hand) => {
                let entropy = env.random.draw();
                (
                    usize::from(flow.partition().0),
                    Command::Partition(PartitionCommand::Start(StartExecution {
                        flow,
                        message: MessageRow {
                            data: json!({ "n": n, "again": n == 4 }).to_string().into(),
                            ..MessageRow::default()
                        },
                        request_id,
                        traceparent: String::new(),
                        tracestate: String::new(),
                        entropy,
                        request_id_only: false,
                        by_hand,
                        tell_end: ends::asked(entropy),
                    })),
                )
            }
            Op::Cancel(execution) => (
                usize::from(execution.partition().0),
                Command::Partition(PartitionCommand::Cancel(CancelExecution {
                    execution,
                    reason: "a client wanted it".into(),
                    request_id,
                })),
            ),
            Op::Redrive(execution) => (
                usize::from(execution.partition().0),
                Command::Partition(PartitionCommand::Redrive(RedriveExecution {
                    execution,
                    steps: Vec::new(),
                    request_id,
                })),
            ),
        };
        let origin = Origin::Client { request, attempt };
        (group, Envelope { command, origin })
    }

    /// An answer reaches the client. True: the request is settled.
    pub fn answered(&mut self, env: &mut Env, request: usize, answer: Answer) -> bool {
        let wanted = &mut self.requests[request];
        if wanted.done {
            return false;
        }
        match answer {
            Answer::Unavailable => return false,
            Answer::Unknown => {
                env.count("unknown outcomes");
                return false;
            }
            Answer::Rejected(rejection) => {
                wanted.done = true;
                env.count("requests rejected");
                let (id, op) = (wanted.id.clone(), format!("{:?}", wanted.op));
                env.tell(|| format!("{id} rejected: {rejection}"));
                let result = env.checks.acknowledged.on_rejected(&id, &op, &rejection);
                env.check(result);
            }
            Answer::Done(reply) => {
                wanted.done = true;
                env.count("requests acknowledged");
                let wanted = wanted.clone();
                env.tell(|| format!("{} acknowledged: {reply:?}", wanted.id));
                self.acknowledged(env, &wanted, &reply);
            }
        }
        true
    }

    fn acknowledged(&mut self, env: &mut Env, request: &Request, reply: &Reply) {
        let id = request.id.clone();
        let what = match (&request.op, reply) {
            (Op::ChangeSchedule(flow, _), Reply::Partition(PartitionReply::Done { changed })) => {
                Acknowledged::Schedule {
                    flow: *flow,
                    changed: *changed,
                }
            }
            (
                Op::Backfill(flow, ..),
                Reply::Partition(PartitionReply::Backfill { created, .. }),
            ) => {
                env.count("backfills");
                Acknowledged::Schedule {
                    flow: *flow,
                    changed: *created,
                }
            }
            (Op::Start(flow, ..), Reply::Partition(PartitionReply::Started { execution, .. })) => {
                self.executions.push(*execution);
                env.count("executions started");
                Acknowledged::Started {
                    execution: *execution,
                    flow: *flow,
                }
            }
            (Op::Cancel(execution), Reply::Partition(PartitionReply::Cancelled { changed })) => {
                env.count("cancels");
                Acknowledged::Cancelled {
                    execution: *execution,
                    changed: *changed,
                }
            }
            (Op::Redrive(execution), Reply::Partition(PartitionReply::Redriven { .. })) => {
                env.count("redrives");
                Acknowledged::Redriven {
                    execution: *execution,
                }
            }
            (op, Reply::Catalog(reply)) => {
                let CatalogReply { flow, changed, .. } = *reply;
                match op {
                    Op::Apply(name, _) => {
                        self.flows.insert(name.clone(), flow);
                    }
                    Op::DeleteFlow(name) => {
                        env.count("flows deleted");
                        self.flows.remove(name);
                    }
                    _ => {}
                }
                Acknowledged::Catalog { flow, changed }
            }
            (op, reply) => panic!("{op:?} was answered {reply:?}"),
        };
        let result = env.checks.on_acknowledged(&id, &what);
        env.check(result);
    }

    /// A wish of the first client that has nothing to do with chance.
    pub fn want(&mut self, op: Op) -> usize {
        let id = format!("q{}", self.requests.len());
        self.requests.push(Request {
            client: 0,
            op,
            id,
            attempt: 0,
            done: false,
        });
        self.requests.len() - 1
    }

    /// True when nobody waits for anything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.requests.iter().all(|request| request.done)
    }
}
