//! Clients: they arm flows (as the catalog would), start, cancel and redrive executions, read what was
//! acknowledged, and repeat what was not answered with the same request id, wherever they think the leader is.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use rows::table::{MessageRow, execution_key};
use tidemill_core::{
    Rejection,
    command::{
        ApplyFlow, ArmFlow, CancelExecution, CatalogCommand, CatalogReply, DisarmFlow,
        PartitionCommand, PartitionReply, RedriveExecution, StartExecution, TellEnd,
    },
    flow,
};
use tidemill_server::actor::AskError;
use tidemill_testkit::invariant::Acknowledged;
use tidemill_types::{ExecutionId, FlowId, PartitionId};

use super::{BEGIN_MS, Event, Reply, Said, World};
use crate::{Violation, run};

/// What a request asks for.
#[derive(Clone, Debug)]
enum Op {
    Arm(FlowId, &'static str),
    Disarm(FlowId),
    Start(FlowId),
    Cancel(ExecutionId),
    Redrive(ExecutionId),
    /// Of the catalog: a flow of this number gets another draft.
    Apply(usize),
    Publish(usize),
    /// It starts, or stops.
    Switch(usize, bool),
}

impl Op {
    fn group(&self) -> PartitionId {
        match self {
            Self::Arm(flow, _) | Self::Disarm(flow) | Self::Start(flow) => flow.partition(),
            Self::Cancel(execution) | Self::Redrive(execution) => execution.partition(),
            Self::Apply(_) | Self::Publish(_) | Self::Switch(..) => PartitionId::CATALOG,
        }
    }
}

/// Something that a client wants, until it has an answer.
#[derive(Clone, Debug)]
pub(super) struct Request {
    op: Op,
    id: String,
    entropy: u64,
    /// Tries so far.
    pub attempt: u32,
    pub is_done: bool,
}

/// See the module.
pub(super) struct Clients {
    pub requests: Vec<Request>,
    /// Where a group's leader was last.
    pub leaders: BTreeMap<PartitionId, u64>,
    flows: Vec<FlowId>,
    /// Those of the catalog, by their numbers, that clients know.
    catalog: BTreeMap<usize, FlowId>,
    /// Those that can be started, by group.
    groups: Vec<PartitionId>,
    /// Executions that clients know, with the request.
    executions: Vec<(usize, ExecutionId)>,
}

pub(super) const CLIENTS: usize = 4;
/// Milliseconds between two wishes of a client.
const PAUSE_MS: (u64, u64) = (20, 350);
/// Flows that are in the catalog; the others are armed by clients.
const CATALOG_FLOWS: usize = 2;
const TIMEOUT_MS: (u64, u64) = (1_000, 3_000);
/// Before a request that was refused is sent again.
const RETRY_MS: (u64, u64) = (20, 250);

/// All that a flow has to do with a step here: worker steps with retries, fan-out and join, a wait.
const FLOWS: [&str; 3] = [
    "name: chain\ngraph:\n  nodes:\n    - {id: a, componentId: w, function: f, retry: {maxAttempts: 3, initialDelay: 50ms}}\n    - {id: b, componentId: w, function: f, retry: {maxAttempts: 2, initialDelay: 50ms}}\n  edges: [{source: a, target: b}]\n",
    "name: fan\ngraph:\n  nodes:\n    - {id: a, componentId: w, function: f}\n    - {id: b, componentId: wait, function: delay, fields: {duration: 150ms}}\n    - {id: c, componentId: w, function: f}\n    - {id: d, componentId: w, function: f, join: all}\n  edges: [{source: a, target: b}, {source: a, target: c}, {source: b, target: d}, {source: c, target: d}]\n",
    "name: clock\ntrigger:\n  schedule: {every: 1s, catchUp: {policy: all, window: 1h}}\ngraph:\n  nodes:\n    - {id: a, componentId: w, function: f}\n  edges: []\n",
];

impl Clients {
    pub fn new(groups: &[PartitionId]) -> Self {
        Self {
            requests: Vec::new(),
            leaders: BTreeMap::new(),
            flows: Vec::new(),
            catalog: BTreeMap::new(),
            groups: groups.to_vec(),
            executions: Vec::new(),
        }
    }

    fn want(&mut self, op: Op) -> usize {
        self.requests.push(Request {
            op,
            id: format!("q{}", self.requests.len()),
            entropy: run::draw(),
            attempt: 0,
            is_done: false,
        });
        self.requests.len() - 1
    }

    pub fn arm_all(&mut self) {
        for group in self.groups.clone() {
            for document in FLOWS {
                let flow = FlowId::new(BEGIN_MS, group, run::draw());
                self.flows.push(flow);
                self.want(Op::Arm(flow, document));
            }
        }
        for number in 0..CATALOG_FLOWS {
            self.want(Op::Apply(number));
        }
    }

    pub fn disarm_all(&mut self) {
        for flow in self.flows.clone() {
            self.want(Op::Disarm(flow));
        }
    }

    fn next(&mut self) -> Option<usize> {
        let recent = self.executions.len().saturating_sub(12);
        let known = &self.executions[recent..];
        let flows: Vec<_> = self.flows.iter().chain(self.catalog.values()).collect();
        let flow = *flows[run::between(0, flows.len() as u64 - 1) as usize];
        let number = run::between(0, CATALOG_FLOWS as u64 - 1) as usize;
        let op = match run::between(0, 99) {
            0..=7 if !known.is_empty() => Op::Cancel(pick(known)),
            8..=17 if !known.is_empty() => Op::Redrive(pick(known)),
            18..=27 => return None,
            28..=29 => Op::Apply(number),
            30..=31 => Op::Publish(number),
            32..=35 => Op::Switch(number, true),
            36..=38 => Op::Switch(number, false),
            _ => Op::Start(flow),
        };
        Some(self.want(op))
    }
}

fn pick(known: &[(usize, ExecutionId)]) -> ExecutionId {
    known[run::between(0, known.len() as u64 - 1) as usize].1
}

/// What a group is asked for.
enum Command {
    Partition(PartitionCommand),
    Catalog(CatalogCommand),
}

fn command(request: &Request, partitions: u16) -> Command {
    let request_id = request.id.clone();
    let name = |number: &usize| format!("catalogued{number}");
    Command::Catalog(match &request.op {
        Op::Apply(number) => {
            let (name, entropy) = (name(number), request.entropy);
            let text = format!(
                "name: {name}\ndescription: draft {}\ngraph:\n  nodes: [{{id: a, componentId: w, function: f}}]\n  edges: []\n",
                entropy % 3
            );
            let mut documents = flow::parse(&text).expect("a valid document");
            CatalogCommand::Apply(ApplyFlow {
                document: Box::new(documents.remove(0)),
                flow: None,
                expected_revision: 0,
                create_only: false,
                request_id,
                entropy,
                partitions,
            })
        }
        Op::Publish(number) => CatalogCommand::Publish {
            flow: name(number),
            request_id,
        },
        Op::Switch(number, true) => CatalogCommand::Start {
            flow: name(number),
            version: 0,
            without_workers: true,
            request_id,
        },
        Op::Switch(number, false) => CatalogCommand::Stop {
            flow: name(number),
            cancel_running: request.entropy.is_multiple_of(2),
            request_id,
        },
        Op::Arm(..) | Op::Disarm(_) | Op::Start(_) | Op::Cancel(_) | Op::Redrive(_) => {
            return Command::Partition(of_partition(request));
        }
    })
}

fn of_partition(request: &Request) -> PartitionCommand {
    let request_id = request.id.clone();
    match &request.op {
        Op::Apply(_) | Op::Publish(_) | Op::Switch(..) => unreachable!("it is for the catalog"),
        Op::Arm(flow, document) => {
            let documents = flow::parse(document).expect("a valid document");
            let document = Bytes::from(flow::canonical_json(&documents[0]));
            PartitionCommand::Arm(ArmFlow {
                flow: *flow,
                name: documents[0].name.clone().unwrap_or_default(),
                version: 1,
                document,
                content_hash: rows::Hash([1; 32]),
                activation: 1,
                without_workers: true,
            })
        }
        Op::Disarm(flow) => PartitionCommand::Disarm(DisarmFlow {
            flow: *flow,
            activation: 1,
            cancel_running: false,
        }),
        Op::Start(flow) => PartitionCommand::Start(StartExecution {
            flow: *flow,
            message: MessageRow {
                data: Bytes::from(format!("{{\"n\":{}}}", request.entropy % 7)),
                ..MessageRow::default()
            },
            request_id,
            traceparent: String::new(),
            tracestate: String::new(),
            entropy: request.entropy,
            request_id_only: false,
            by_hand: false,
            tell_end: TellEnd::No,
        }),
        Op::Cancel(execution) => PartitionCommand::Cancel(CancelExecution {
            execution: *execution,
            reason: "a client wanted it".into(),
            request_id,
        }),
        Op::Redrive(execution) => PartitionCommand::Redrive(RedriveExecution {
            execution: *execution,
            steps: Vec::new(),
            request_id,
        }),
    }
}

impl World {
    pub(super) fn client_next(&mut self, client: usize) {
        if self.faults.are_over {
            return;
        }
        self.client_asks();
        let ms = run::between(PAUSE_MS.0, PAUSE_MS.1);
        self.after(ms, Event::ClientNext(client));
    }

    pub(super) fn client_asks(&mut self) {
        match self.clients.next() {
            Some(request) => self.send(request),
            None => self.read_something(),
        }
    }

    /// The node that is asked next: where the leader was last, or any.
    pub(super) fn target(&self, group: PartitionId) -> u64 {
        let any = self.any_machine();
        let known = self.clients.leaders.get(&group).copied();
        known
            .filter(|node| !self.nodes[*node as usize - 1].is_gone && run::chance(900))
            .unwrap_or(any)
    }

    pub(super) fn send(&mut self, request: usize) {
        let group = self.clients.requests[request].op.group();
        let wanted = &mut self.clients.requests[request];
        if wanted.is_done {
            return;
        }
        wanted.attempt += 1;
        if wanted.attempt > 1 {
            run::count("requests repeated");
        }
        let attempt = wanted.attempt;
        let node = self.target(group);
        let ms = run::between(0, 3);
        self.after(
            ms,
            Event::Arrive {
                request,
                attempt,
                node,
            },
        );
        let ms = run::between(TIMEOUT_MS.0, TIMEOUT_MS.1);
        self.after(ms, Event::TimeOut { request, attempt });
    }

    pub(super) fn arrive(&mut self, request: usize, attempt: u32, node: u64) {
        let wanted = &self.clients.requests[request];
        let said = move |answer| Said::Answer {
            request,
            attempt,
            answer,
        };
        match command(wanted, self.options.groups) {
            Command::Partition(command) => {
                let group = wanted.op.group();
                self.ask(node, group, command, move |answer| {
                    said(answer.map(Reply::Partition))
                });
            }
            Command::Catalog(command) => {
                let outbox = Arc::clone(&self.outbox);
                self.nodes[node as usize - 1].ask_catalog(command, &outbox, move |answer| {
                    said(answer.map(Reply::Catalog))
                });
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        request: usize,
        attempt: u32,
        answer: Result<Reply, AskError>,
    ) {
        let wanted = &mut self.clients.requests[request];
        if wanted.is_done {
            return;
        }
        run::tell(|| format!("{} try {attempt}: {answer:?}", wanted.id));
        match answer {
            Ok(reply) => {
                run::count("requests acknowledged");
                run::note("acknowledged", &[request as u64]);
                wanted.is_done = true;
                let wanted = wanted.clone();
                self.acknowledged(request, &wanted, &reply);
            }
            // Its schedule is behind, and catches up first: asked for again.
            Err(AskError::Rejected(Rejection::ScheduleBehind(_))) => {
                self.after(RETRY_MS.1, Event::Send(request));
            }
            Err(AskError::Rejected(rejection)) => {
                run::count("requests rejected");
                wanted.is_done = true;
                if matches!(
                    rejection,
                    Rejection::RequestIdReused(_)
                        | Rejection::InvalidDocument(_)
                        | Rejection::Quarantined(_)
                ) {
                    run::violate(Violation::new(
                        "I1 acknowledged commands stay",
                        format!("request {} was refused: {rejection}", wanted.id),
                    ));
                }
            }
            Err(error) => {
                if let AskError::NotLeader { leader } = error {
                    let group = wanted.op.group();
                    match leader {
                        Some(leader) => self.clients.leaders.insert(group, leader.0),
                        None => self.clients.leaders.remove(&group),
                    };
                } else if error == AskError::Unknown {
                    run::count("unknown outcomes");
                }
                if self.clients.requests[request].attempt == attempt {
                    let ms = run::between(RETRY_MS.0, RETRY_MS.1);
                    self.after(ms, Event::Send(request));
                }
            }
        }
    }

    fn acknowledged(&mut self, number: usize, request: &Request, reply: &Reply) {
        let reply = match reply {
            Reply::Partition(reply) => reply,
            Reply::Catalog(reply) => return self.catalogued(request, reply),
        };
        let what = match (&request.op, reply) {
            (Op::Start(flow), PartitionReply::Started { execution, .. }) => {
                run::count("executions started");
                self.clients.executions.push((number, *execution));
                Acknowledged::Started {
                    execution: *execution,
                    flow: *flow,
                }
            }
            (Op::Cancel(execution), PartitionReply::Cancelled { changed }) => {
                Acknowledged::Cancelled {
                    execution: *execution,
                    changed: *changed,
                }
            }
            (Op::Redrive(execution), PartitionReply::Redriven { .. }) => Acknowledged::Redriven {
                execution: *execution,
            },
            _ => return,
        };
        self.check_acknowledged(&request.id, &what);
    }

    fn check_acknowledged(&mut self, request_id: &str, what: &Acknowledged) {
        if let Err(violation) = self.checks.on_acknowledged(request_id, what) {
            run::violate(violation);
        }
    }

    /// The catalog has answered: a new flow is published and started.
    fn catalogued(&mut self, request: &Request, reply: &CatalogReply) {
        let (flow, changed) = (reply.flow, reply.changed);
        self.check_acknowledged(&request.id, &Acknowledged::Catalog { flow, changed });
        let next = match request.op {
            Op::Apply(number) if self.clients.catalog.insert(number, flow).is_none() => {
                run::count("flows created");
                Op::Publish(number)
            }
            Op::Publish(number) if reply.version == 1 => Op::Switch(number, true),
            _ => return,
        };
        let next = self.clients.want(next);
        self.send(next);
    }

    /// Reads an execution that was acknowledged, on whoever leads: it must be there.
    fn read_something(&mut self) {
        let Some((request, execution)) = self.clients.executions.last().copied() else {
            return;
        };
        let node = self.target(execution.partition());
        self.read(request, execution, node);
    }

    /// Reads the last acknowledged execution of each group on this node.
    pub(super) fn read_at(&mut self, node: u64) {
        let mut last = BTreeMap::new();
        for (request, execution) in &self.clients.executions {
            last.insert(execution.partition(), (*request, *execution));
        }
        for (request, execution) in last.into_values() {
            self.read(request, execution, node);
        }
    }

    fn read(&mut self, request: usize, execution: ExecutionId, node: u64) {
        let group = execution.partition();
        let key = Bytes::copy_from_slice(&execution_key(execution));
        self.nodes[node as usize - 1].read(group, key, &self.outbox, request);
    }
}
