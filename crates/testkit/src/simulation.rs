//! A simulated cluster, from a seed: one thread, one agenda, no clock but its own.

mod actor;
mod clients;
mod env;
mod faults;
pub mod flows;
mod group;
mod hand_over;
mod options;
mod planted;
pub mod random;
mod replica;
mod trace;
mod turn;
mod workers;

use std::collections::BTreeMap;

use tidemill_core::{
    Catalog, Partition,
    command::{CatalogCommand, PartitionCommand},
};
use tidemill_types::{ExecutionId, FlowId};

use self::{
    clients::{CLIENTS, Clients, Op},
    env::{Asked, Command, Env, Envelope, Event, Origin},
    group::Group,
    workers::Workers,
};
pub use self::{
    options::{Deposed, Options, Planted},
    replica::fence_key,
};
use crate::invariant::Violation;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first violation; none: every invariant held.
    pub violation: Option<Violation>,
    /// A hash of everything that happened: the same seed gives the same.
    pub trace_hash: u64,
    /// The trace as text, if it was asked for.
    pub trace: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
}

/// The count of what happens while a flow is starting or stopping.
pub const TRANSITION_MOMENTS: &str = "moments in transitions";

/// See the module.
pub struct Simulation {
    env: Env,
    catalog: Group<Catalog>,
    partitions: Vec<Group<Partition>>,
    up: Vec<bool>,
    clients: Clients,
    workers: Workers,
}

/// Does the same with the group of this number, whichever kind it is.
macro_rules! on_group {
    ($self:ident, $number:expr, $group:ident => $do:expr) => {
        match $number {
            0 => {
                let $group = &mut $self.catalog;
                $do
            }
            number => {
                let $group = &mut $self.partitions[number - 1];
                $do
            }
        }
    };
}

impl Simulation {
    /// Runs a seed to its end, or to the first violation.
    #[must_use]
    pub fn run(seed: u64, options: &Options) -> Outcome {
        let mut env = Env::new(seed, options);
        let workers = Workers::new(&mut env);
        let nodes = options.nodes;
        let mut world = Self {
            catalog: Group::new(0, nodes),
            partitions: (1..=usize::from(options.partitions))
                .map(|number| Group::new(number, nodes))
                .collect(),
            up: vec![true; nodes],
            clients: Clients::default(),
            workers,
            env,
        };
        world.begin();
        world.go_on(options.faults_ms);
        world.end_faults();
        world.come_to_rest(options.rest_ms_max);
        for (what, count) in std::mem::take(&mut world.env.checks.occurrences.counts) {
            *world.env.counts.entry(what).or_default() += count;
        }
        let answers = world.env.checks.answers.given();
        *world
            .env
            .counts
            .entry("answers given by `respond`")
            .or_default() += answers;
        Outcome {
            seed,
            violation: world.env.violation,
            trace_hash: world.env.trace.hash(),
            trace: world.env.trace.into_lines(),
            counts: world.env.counts,
            simulated_ms: world.env.now_ms,
        }
    }

    fn begin(&mut self) {
        for group in 0..=self.partitions.len() {
            self.env.after(0, Event::Elect { group });
        }
        for client in 0..CLIENTS {
            let ms = self.env.random.between(100, 3_000);
            self.env.after(ms, Event::ClientNext { client });
        }
        for worker in 0..self.workers.all.len() {
            let ms = self.env.random.between(0, 1_000);
            self.env.after(ms, Event::WorkerBack { worker });
        }
        if self.env.options.deposed == Deposed::ByChance {
            self.env.after(2_000, Event::Fault);
        }
        self.env.after(5_000, Event::Look);
    }

    fn go_on(&mut self, until_ms: u64) {
        while self.env.now_ms < until_ms && self.env.violation.is_none() {
            let Some(event) = self.env.next_event() else {
                return;
            };
            self.happen(event);
            if self.env.options.deposed != Deposed::ByChance {
                self.depose_in_transition();
            }
        }
    }

    /// Faults end: everybody is up, and nobody wants anything new.
    fn end_faults(&mut self) {
        self.env.faults = false;
        self.env.note("faults end", &[]);
        for worker in 0..self.workers.all.len() {
            if !self.workers.all[worker].is_connected {
                self.env.after(0, Event::WorkerBack { worker });
            }
        }
    }

    /// Everything that can finish finishes.
    fn come_to_rest(&mut self, rest_ms_max: u64) {
        let until = self.env.now_ms + rest_ms_max;
        const LOOK_MS: u64 = 10_000;
        while self.env.violation.is_none() {
            let next = (self.env.now_ms + LOOK_MS).min(until);
            self.go_on(next);
            if self.env.violation.is_some() {
                return;
            }
            self.stop_flows();
            let unfinished = self.unfinished();
            if unfinished.is_none() {
                break;
            }
            if self.env.now_ms >= until {
                let result = crate::invariant::liveness::unfinished(unfinished);
                self.env.check(result);
                return;
            }
        }
        self.look_at_everything();
        let groups =
            std::iter::once(replicas(&self.catalog)).chain(self.partitions.iter().map(replicas));
        let result = crate::invariant::replicas::equal(groups);
        self.env.check(result);
    }

    /// Schedules never come to rest by themselves.
    fn stop_flows(&mut self) {
        for name in crate::invariant::liveness::active_flows(&self.catalog.truth.rows) {
            let is_asked = self.clients.requests.iter().any(|request| {
                !request.done && matches!(&request.op, Op::StopFlow(n, _) if *n == name)
            });
            if !is_asked {
                let request = self.clients.want(Op::StopFlow(name, false));
                self.send_request(request);
            }
        }
    }

    /// What has not come to rest yet, if anything.
    fn unfinished(&self) -> Option<String> {
        if !self.clients.is_quiet() {
            let open = self.clients.requests.iter().find(|r| !r.done);
            return Some(format!("a client's request is not settled: {open:?}"));
        }
        for number in 0..=self.partitions.len() {
            let (quiet, partition) = match number {
                0 => (self.catalog.is_quiet(), self.catalog.partition),
                n => {
                    let group = &self.partitions[n - 1];
                    (group.is_quiet(), group.partition)
                }
            };
            if !quiet {
                return Some(format!(
                    "group {partition} has entries that are not applied"
                ));
            }
        }
        if let Some(flow) = crate::invariant::liveness::flow_in_transition(&self.catalog.truth.rows)
        {
            return Some(flow);
        }
        self.partitions.iter().find_map(|group| {
            crate::invariant::liveness::work_left(group.partition, &group.truth.rows)
        })
    }

    /// Checks what no single batch shows.
    fn look_at_everything(&mut self) {
        let catalog = (self.catalog.partition, &self.catalog.truth.rows);
        let groups = std::iter::once(catalog)
            .chain(self.partitions.iter().map(|g| (g.partition, &g.truth.rows)));
        for (partition, rows) in groups {
            let result = self.env.checks.at_rest(partition, rows);
            if let Err(violation) = result
                && self.env.violation.is_none()
            {
                self.env.violation = Some(violation);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver {
                group,
                node,
                envelope,
            } => on_group!(self, group, g => g.deliver(&mut self.env, node, envelope)),
            Event::Turn { group, node } => {
                on_group!(self, group, g => g.turn(&mut self.env, node));
            }
            Event::Append {
                group,
                node,
                ticket,
                term,
                payload,
            } => on_group!(self, group, g => g.append(&mut self.env, node, ticket, term, payload)),
            Event::Commit { group } => on_group!(self, group, g => g.commit(&mut self.env)),
            Event::Apply { group, node } => {
                on_group!(self, group, g => g.apply(&mut self.env, node));
            }
            Event::Heard {
                group,
                node,
                ticket,
                result,
            } => on_group!(self, group, g => g.heard(&mut self.env, node, ticket, result)),
            Event::Barrier {
                group,
                node,
                ticket,
                floor,
            } => on_group!(self, group, g => g.barrier(&mut self.env, node, ticket, floor)),
            Event::Depose { group } => on_group!(self, group, g => g.depose(&mut self.env)),
            Event::Elect { group } => on_group!(self, group, g => g.elect(&mut self.env)),
            Event::Notice { group, node } => {
                on_group!(self, group, g => g.notice(&mut self.env, node));
            }
            Event::EpochBegan { group, node } => self.say_sessions(group, node),
            Event::Restart { node } => self.restart(node),
            Event::Fault => self.fault(),
            Event::Answer { origin, answer } => self.answered(origin, answer),
            Event::ClientNext { client } => self.client_next(client),
            Event::ClientTimeout { request, attempt } => {
                let wanted = &self.clients.requests[request];
                if !wanted.done && wanted.attempt == attempt {
                    self.send_request(request);
                }
            }
            Event::Grant { grant } => self.workers.granted(&mut self.env, &grant),
            Event::Complete { completion } => {
                let partition = self.workers.completions[completion]
                    .task
                    .step
                    .execution
                    .partition();
                if let Some(envelope) = self.workers.send(&mut self.env, completion) {
                    self.send(usize::from(partition.0), envelope);
                }
            }
            Event::Renew { worker, task, left } => {
                self.env.count("renewals");
                let group = usize::from(task.step.execution.partition().0);
                self.send(group, Workers::renewal(task));
                if left > 1 {
                    let ms = u64::from(self.workers.all[worker].lease_ms) / 2;
                    let left = left - 1;
                    self.env.after(ms, Event::Renew { worker, task, left });
                }
            }
            Event::WorkerBack { worker } => {
                if !self.workers.all[worker].is_connected {
                    self.workers.connect(worker);
                    for group in 1..=self.partitions.len() {
                        let partition = self.partitions[group - 1].partition;
                        if let Some(said) = self.workers.attach(&self.env, worker, partition) {
                            self.tell(group, said);
                        }
                    }
                }
            }
            Event::Say { group, command } => self.tell(group, *command),
            Event::HandOver { flow } => self.hand_over(flow),
            Event::Read {
                execution,
                group,
                node,
                asked,
            } => self.read(execution, group, node, asked),
            Event::Look => {
                self.look_at_everything();
                if self.env.faults {
                    self.env.after(5_000, Event::Look);
                }
            }
        }
    }

    /// Sends something to a group, to whoever seems to lead it.
    fn send(&mut self, group: usize, envelope: Envelope) {
        let node = on_group!(self, group, g => g.target(&mut self.env));
        if self.env.fault(15) {
            self.env.count("commands lost");
            return;
        }
        let ms = if self.env.fault(20) {
            self.env.random.between(100, 6_000)
        } else {
            self.env.random.between(0, 6)
        };
        if envelope.origin == Origin::Nobody && self.env.fault(20) {
            let envelope = envelope.clone();
            let ms = ms + self.env.random.between(0, 300);
            self.env.after(
                ms,
                Event::Deliver {
                    group,
                    node,
                    envelope,
                },
            );
        }
        self.env.after(
            ms,
            Event::Deliver {
                group,
                node,
                envelope,
            },
        );
    }

    /// A gateway says something to the leader of a partition, if there is one.
    fn tell(&mut self, group: usize, command: PartitionCommand) {
        if let Some(node) = self.partitions[group - 1].leader {
            let ms = self.env.random.between(0, 6);
            self.deliver_after(ms, group, node, command);
        }
    }

    fn deliver_after(&mut self, ms: u64, group: usize, node: usize, command: PartitionCommand) {
        let envelope = Envelope {
            command: Command::Partition(command),
            origin: Origin::Nobody,
        };
        self.env.after(
            ms,
            Event::Deliver {
                group,
                node,
                envelope,
            },
        );
    }

    /// The gateways attach to a new leader: it is told of the workers that are there, and of what they hold.
    fn say_sessions(&mut self, group: usize, node: usize) {
        if group == 0 {
            return;
        }
        let at = &self.partitions[group - 1];
        let partition = at.partition;
        let actor::State::Leading(run) = &at.actors[node].state else {
            return;
        };
        if !self.workers.follow(partition, run.epoch) {
            return;
        }
        for worker in 0..self.workers.all.len() {
            if let Some(said) = self.workers.attach(&self.env, worker, partition) {
                let ms = self.env.random.between(0, 20);
                self.deliver_after(ms, group, node, said);
            }
        }
    }

    fn answered(&mut self, origin: Origin, answer: env::Answer) {
        match origin {
            Origin::Nobody => {}
            Origin::Worker { completion } => {
                self.workers.answered(&mut self.env, completion, answer);
            }
            Origin::Forget { flow } => {
                if let env::Answer::Done(_) = answer {
                    let command = Command::Catalog(CatalogCommand::Forgotten { flow });
                    let origin = Origin::Nobody;
                    self.send(0, Envelope { command, origin });
                }
            }
            Origin::HandOver {
                flow,
                activation,
                arm,
            } => {
                if let Some(envelope) = hand_over::answered(flow, activation, arm, &answer) {
                    self.send(0, envelope);
                }
            }
            Origin::Client { request, attempt } => {
                let client = self.clients.requests[request].client;
                if self.clients.answered(&mut self.env, request, answer) {
                    // A client looks at what it has just written, more than once.
                    for _ in 0..self.env.random.below(4) {
                        self.begin_read();
                    }
                    let ms = self.env.random.between(10, 1_200);
                    self.env.after(ms, Event::ClientNext { client });
                } else if self.clients.requests[request].attempt == attempt
                    && !self.clients.requests[request].done
                {
                    // Sooner than its time-out: it was told that this came to nothing.
                    let ms = self.env.random.between(20, 400);
                    self.env
                        .after(ms, Event::ClientTimeout { request, attempt });
                }
            }
        }
    }

    fn client_next(&mut self, client: usize) {
        if !self.env.faults {
            return;
        }
        match self.clients.next(&mut self.env, client) {
            Some(request) => self.send_request(request),
            None => {
                self.begin_read();
                let ms = self.env.random.between(10, 400);
                self.env.after(ms, Event::ClientNext { client });
            }
        }
    }

    fn send_request(&mut self, request: usize) {
        let (group, envelope) = self.clients.command(&mut self.env, request);
        self.env.note("request", &[request as u64]);
        self.send(group, envelope);
    }

    /// A client reads an execution, from whoever leads its partition.
    fn begin_read(&mut self) {
        // What is new changes most.
        let all = &self.clients.executions;
        let recent = &all[all.len().saturating_sub(8)..];
        let Some(execution) = self.env.random.pick(recent).copied() else {
            return;
        };
        let group = usize::from(execution.partition().0);
        let at = &self.partitions[group - 1];
        let node = at.target(&mut self.env);
        let ms = self.env.random.between(1, 300);
        self.env.after(
            ms,
            Event::Read {
                execution,
                group,
                node,
                asked: None,
            },
        );
    }

    fn read(&mut self, execution: ExecutionId, group: usize, node: usize, asked: Asked) {
        let at = &self.partitions[group - 1];
        let skips = self.env.planted(Planted::ReadWithoutBarrier) && at.is_leading(node);
        // What was committed, and seen by anybody, when the read reached the node.
        let (floor, revision) =
            asked.unwrap_or_else(|| (at.log.len(), self.env.checks.reads.seen(execution)));
        if !skips {
            if !self.up[node] || at.leader != Some(node) {
                return;
            }
            let has_own = at.log.last().is_some_and(|last| last.term == at.term);
            if at.replicas[node].applied < floor || !has_own {
                let asked = Some((floor.max(at.log.len()), revision));
                return self.env.after(
                    5,
                    Event::Read {
                        execution,
                        group,
                        node,
                        asked,
                    },
                );
            }
        }
        self.env.count("reads");
        let rows = &at.replicas[node].rows;
        let retired = self.env.checks.history.is_retired(execution);
        let result = self
            .env
            .checks
            .reads
            .on_read(execution, rows, revision, retired);
        self.env.check(result);
    }

    fn hand_over(&mut self, flow: FlowId) {
        let Some(envelope) = hand_over::command(flow, &self.catalog.truth.rows) else {
            return;
        };
        self.env.count("hand-overs");
        if self.env.fault(80) {
            self.env.count("leaders deposed in a hand-over");
            let home = usize::from(flow.partition().0);
            let group = if self.env.random.chance(500) { 0 } else { home };
            let ms = self.env.random.between(0, 12);
            self.env.after(ms, Event::Depose { group });
        }
        let ms = self.env.random.between(400, 2_000);
        self.env.after(ms, Event::HandOver { flow });
        self.send(usize::from(flow.partition().0), envelope);
    }

    fn with_group(&mut self, number: usize, change: impl FnOnce(usize, &mut u64)) {
        on_group!(self, number, g => change(g.number, &mut g.stalled_until_ms));
    }

    fn is_deciding(&self, group: usize, node: usize) -> bool {
        let idle = |idle: bool| !idle;
        match group {
            0 => idle(matches!(
                self.catalog.actors[node].state,
                actor::State::Idle
            )),
            n => idle(matches!(
                self.partitions[n - 1].actors[node].state,
                actor::State::Idle
            )),
        }
    }

    fn install(&mut self, group: usize, node: usize) {
        if self.up[node] {
            on_group!(self, group, g => g.install(&mut self.env, node));
        }
    }
}

fn replicas<D: actor::Kind>(
    group: &Group<D>,
) -> (
    tidemill_types::PartitionId,
    &tidemill_core::memory::MemoryRows,
    Vec<&tidemill_core::memory::MemoryRows>,
) {
    let rows = group.replicas.iter().map(|r| &r.rows).collect();
    debug_assert_eq!(group.truth.digest(), group.truth.digest_of_rows());
    (group.partition, &group.truth.rows, rows)
}
