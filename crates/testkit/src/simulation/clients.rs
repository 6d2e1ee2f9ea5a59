//! Clients: they define, publish, start and stop flows, start, cancel and redrive executions, read,
//! and repeat what was not answered with the same request id.

use std::collections::BTreeMap;

use serde_json::json;
use tidemill_core::command::{
    ApplyFlow, CancelExecution, CatalogCommand, CatalogReply, PartitionCommand, PartitionReply,
    RedriveExecution, StartExecution,
};
use tidemill_rows::table::MessageRow;
use tidemill_types::{ExecutionId, FlowId, flow::FlowDocument};

use super::{
    env::{Answer, Command, Env, Envelope, Event, Origin, Reply},
    flows,
};
use crate::invariant::Acknowledged;

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
    /// Start an execution.
    Start(FlowId, u64),
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
            49..=58 => return None,
            _ => Op::Start(self.flows[&name], env.random.between(0, 4)),
        };
        let id = format!("q{}", self.requests.len());
        self.requests.push(Request {
            client,
            op,
            id,
            attempt: 0,
            done: false,
        });
        Some(self.requests.len() - 1)
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
            Op::Start(flow, n) => (
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
                    entropy: env.random.draw(),
                    request_id_only: false,
                })),
            ),
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
            (Op::Start(flow, _), Reply::Partition(PartitionReply::Started { execution, .. })) => {
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

    /// True when nobody waits for anything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.requests.iter().all(|request| request.done)
    }
}
