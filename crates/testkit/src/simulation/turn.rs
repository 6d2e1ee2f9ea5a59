//! An actor's turns: what the server's actor does, step by step, in simulated time.

use std::collections::{BTreeMap, VecDeque};

use tidemill_core::command::{PartitionCommand, PartitionEffect};
use tidemill_rows::{Batch, Epoch, Stored, table::StepRow, table::step_key};
use tidemill_types::Timestamp;

use super::{
    actor::{Actor, Broken, Effect, InFlight, Kind, Run, State, Waiting, guarded},
    env::{Answer, Command, Env, Envelope, Event, Result},
    group::Group,
    options::Planted,
    replica::{Payload, Replica},
};
use crate::invariant::{Violation, ends};

/// How long an actor waits for the outcome of a proposal.
const PROPOSAL_MS: (u64, u64) = (1_500, 6_000);
/// A timer is looked at again after this time at the latest: wall clocks jump.
const TIMER_LOOK_MS: u64 = 1_000;

impl<D: Kind> Group<D> {
    /// A command reaches the actor of a node.
    pub fn deliver(&mut self, env: &mut Env, node: usize, envelope: Envelope) {
        if !self.up[node] {
            return;
        }
        if !self.is_leading(node) {
            env.answer(envelope.origin, Answer::Unavailable);
            return;
        }
        self.actors[node].mailbox.push_back(envelope);
        let ms = env.random.between(0, 2);
        self.wake(env, node, ms);
    }

    fn wake(&mut self, env: &mut Env, node: usize, ms: u64) {
        let at = env.now_ms + ms;
        let actor = &mut self.actors[node];
        if actor.wake_ms.is_none_or(|wake| at < wake) {
            actor.wake_ms = Some(at);
            let group = self.number;
            env.after(ms, Event::Turn { group, node });
        }
    }

    /// The actor looks whether its node leads.
    pub fn notice(&mut self, env: &mut Env, node: usize) {
        if !self.up[node] {
            return;
        }
        let is_leader = self.leader == Some(node);
        match &self.actors[node].state {
            State::Idle if is_leader => self.begin(env, node),
            State::Beginning { .. } | State::Leading(_) if !is_leader => {
                env.count("depositions noticed");
                self.end(env, node);
            }
            // It lost and regained its place between two looks: it does not see the difference.
            State::Leading(run) if run.term != self.term => {
                env.count("depositions overlooked");
            }
            _ => {}
        }
    }

    fn begin(&mut self, env: &mut Env, node: usize) {
        let ticket = env.ticket();
        let replica = &self.replicas[node];
        let early = if env.planted(Planted::RecoverTooEarly) {
            let time = replica.fence(self.partition).time;
            Actor::recover(self.partition, time, &replica.rows).ok()
        } else {
            None
        };
        let (group, term) = (self.number, self.term);
        self.actors[node].state = State::Beginning {
            ticket,
            term,
            early: early.map(Box::new),
        };
        env.note("begin", &[group as u64, node as u64, ticket]);
        self.propose_entry(env, node, ticket, term, Payload::EpochStart);
    }

    fn propose_entry(
        &mut self,
        env: &mut Env,
        node: usize,
        ticket: u64,
        term: u64,
        payload: Payload,
    ) {
        let group = self.number;
        let ms = if env.fault(15) {
            env.count("proposals delayed");
            env.random.between(50, 4_000)
        } else {
            env.random.between(0, 2)
        };
        env.after(
            ms,
            Event::Append {
                group,
                node,
                ticket,
                term,
                payload,
            },
        );
        let (least, most) = PROPOSAL_MS;
        let ms = env.random.between(least, most);
        let result = Result::Unknown;
        env.after(
            ms,
            Event::Heard {
                group,
                node,
                ticket,
                result,
            },
        );
    }

    /// Everything in memory is dropped; whoever waits is told that the outcome is not known.
    fn end(&mut self, env: &mut Env, node: usize) {
        let actor = &mut self.actors[node];
        for envelope in std::mem::take(&mut actor.mailbox) {
            env.answer(envelope.origin, Answer::Unavailable);
        }
        let State::Leading(run) = std::mem::replace(&mut actor.state, State::Idle) else {
            return;
        };
        env.count("epochs ended");
        env.note("end", &[self.number as u64, node as u64]);
        let in_flight = run.in_flight.into_iter().flat_map(|batch| {
            if env.options.planted == Some(Planted::BatchReproposed) && !batch.mutations.is_empty()
            {
                actor.again.push(batch.mutations);
            }
            batch.waiting
        });
        let waiting: Vec<Waiting<D>> = in_flight.chain(run.waiting).collect();
        for waiting in waiting {
            env.answer(waiting.origin, Answer::Unknown);
        }
    }

    /// An epoch ends for a reason that has nothing to do with leadership; a new one begins if the
    /// node still leads.
    fn start_over(&mut self, env: &mut Env, node: usize) {
        self.end(env, node);
        let group = self.number;
        let ms = env.random.between(0, 30);
        env.after(ms, Event::Notice { group, node });
    }

    /// The actor hears how a proposal ended.
    pub fn heard(&mut self, env: &mut Env, node: usize, ticket: u64, result: Result) {
        if !self.up[node] {
            return;
        }
        match &mut self.actors[node].state {
            State::Idle => {}
            State::Beginning {
                ticket: own,
                term,
                early,
                ..
            } => {
                if *own != ticket {
                    return;
                }
                let (term, early) = (*term, early.take());
                match result {
                    Result::Applied(epoch) => self.lead(env, node, term, epoch, early),
                    Result::Refused | Result::Unknown => {
                        self.actors[node].state = State::Idle;
                        self.start_over(env, node);
                    }
                }
            }
            State::Leading(run) => {
                if run.in_flight.iter().any(|batch| batch.ticket == ticket) {
                    run.heard.entry(ticket).or_insert(result);
                    self.settle(env, node);
                }
            }
        }
    }

    fn lead(&mut self, env: &mut Env, node: usize, term: u64, epoch: Epoch, early: Option<Box<D>>) {
        let replica = &self.replicas[node];
        let time = if env.planted(Planted::TimeGoesBack) {
            env.clock(node)
        } else {
            replica.fence(self.partition).time
        };
        let recovered = match early {
            Some(early) => Ok(*early),
            None => Actor::recover(self.partition, time, &replica.rows),
        };
        let decider = match recovered {
            Ok(decider) => decider,
            Err(broken) => return self.broken(env, node, epoch, &broken),
        };
        env.note("lead", &[self.number as u64, node as u64, epoch.index]);
        self.actors[node].state = State::Leading(Box::new(Run {
            epoch,
            term,
            decider,
            seq: 0,
            waiting: Vec::new(),
            in_flight: VecDeque::new(),
            heard: BTreeMap::new(),
        }));
        let group = self.number;
        env.after(0, Event::EpochBegan { group, node });
        self.wake(env, node, 0);
    }

    /// The core could not go on. It may not be its fault: a deposed leader that has not noticed reads
    /// rows that its successor has written.
    fn broken(&mut self, env: &mut Env, node: usize, epoch: Epoch, broken: &Broken) {
        if self.replicas[node].fence(self.partition).epoch == epoch {
            let what = match broken {
                Broken::Damage(damage) => format!("says that rows are damaged: {damage}"),
                Broken::Panic(reason) => format!("panicked: {reason}"),
            };
            env.check(Err(Violation::new(
                "the core goes on",
                format!("partition {}: the core {what}", self.partition),
            )));
        } else {
            env.count("deposed leaders confused by their successor's rows");
            env.tell(|| format!("{broken:?}"));
        }
        self.start_over(env, node);
    }

    /// Decides what has come and is due, then proposes.
    pub fn turn(&mut self, env: &mut Env, node: usize) {
        let actor = &mut self.actors[node];
        if actor.wake_ms != Some(env.now_ms) || !self.up[node] {
            return;
        }
        actor.wake_ms = None;
        let State::Leading(run) = &mut actor.state else {
            return;
        };
        let replica = &self.replicas[node];
        let now = env.clock(node);
        let epoch = run.epoch;
        let count = env.random.between(1, 12);
        for _ in 0..count {
            let Some(envelope) = actor.mailbox.pop_front() else {
                break;
            };
            if let Err(broken) = decide(env, self.partition, run, replica, envelope, now) {
                return self.broken(env, node, epoch, &broken);
            }
        }
        // Decided time never goes back, so what is due by it is due, whatever the clock says.
        let reached = now.max(run.decider.now());
        if run.decider.next_due().is_some_and(|due| due <= reached)
            && let Err(broken) = guarded(|| run.decider.tick(now, &replica.rows))
        {
            return self.broken(env, node, epoch, &broken);
        }
        if let Err(broken) = self.propose(env, node) {
            return self.broken(env, node, epoch, &broken);
        }
        self.wake_when_due(env, node);
    }

    fn wake_when_due(&mut self, env: &mut Env, node: usize) {
        let actor = &self.actors[node];
        let State::Leading(run) = &actor.state else {
            return;
        };
        let busy = run.in_flight.len() >= env.in_flight_max;
        let ms = if !actor.mailbox.is_empty() {
            1
        } else {
            let reached = env.clock(node).max(run.decider.now());
            let Some(due) = run.decider.next_due() else {
                return;
            };
            let wait = due.millis_since(reached);
            // With no place in flight there is nothing to hurry for.
            wait.clamp(if busy { 5 } else { 1 }, TIMER_LOOK_MS)
        };
        self.wake(env, node, ms);
    }

    fn propose(&mut self, env: &mut Env, node: usize) -> std::result::Result<(), Broken> {
        if let Some(mutations) = self.actors[node].again.pop() {
            return self.propose_again(env, node, mutations);
        }
        let State::Leading(run) = &mut self.actors[node].state else {
            return Ok(());
        };
        if !run.decider.has_batch() {
            self.release_unchanged(env, node);
            return Ok(());
        }
        if run.in_flight.len() >= env.in_flight_max {
            return Ok(());
        }
        let seq = run.seq + 1;
        let epoch = run.epoch;
        let encoded = guarded(|| run.decider.take_batch(epoch, seq))?;
        run.seq = seq;
        let effects = run.decider.take_effects();
        let mut waiting = std::mem::take(&mut run.waiting);
        if env.planted(Planted::AnswerBeforeCommit) {
            for waiting in std::mem::take(&mut waiting) {
                env.answer(waiting.origin, answer::<D>(waiting.answer));
            }
        }
        let ticket = env.ticket();
        let mut batch =
            Batch::decode(encoded.into_bytes()).expect("a batch is read as it was written");
        let term = run.term;
        let mutations = if env.planted(Planted::BatchReproposed) {
            batch.mutations.clone()
        } else {
            Vec::new()
        };
        run.in_flight.push_back(InFlight {
            ticket,
            seq: Some(seq),
            waiting,
            effects,
            mutations,
        });
        self.spoil(env, node, &mut batch);
        let bytes = batch.encode();
        self.note_proposal(env, node, ticket, &bytes);
        self.propose_entry(env, node, ticket, term, Payload::Batch(bytes));
        Ok(())
    }

    /// The planted bug: what an earlier epoch had decided is proposed in this one.
    fn propose_again(
        &mut self,
        env: &mut Env,
        node: usize,
        mutations: Vec<tidemill_rows::Mutation>,
    ) -> std::result::Result<(), Broken> {
        let State::Leading(run) = &mut self.actors[node].state else {
            return Ok(());
        };
        run.seq += 1;
        let ticket = env.ticket();
        let batch = Batch {
            epoch: run.epoch,
            seq: run.seq,
            time: run.decider.now(),
            mutations,
        };
        run.in_flight.push_back(InFlight {
            ticket,
            seq: Some(run.seq),
            waiting: Vec::new(),
            effects: Vec::new(),
            mutations: Vec::new(),
        });
        let term = run.term;
        self.propose_entry(env, node, ticket, term, Payload::Batch(batch.encode()));
        Ok(())
    }

    /// Answers that changed nothing may rest on batches in flight: they wait for those. With none in
    /// flight they wait for the proof that nobody else has changed what they rest on.
    fn release_unchanged(&mut self, env: &mut Env, node: usize) {
        let State::Leading(run) = &mut self.actors[node].state else {
            return;
        };
        let effects = run.decider.take_effects();
        if let Some(last) = run.in_flight.back_mut() {
            last.waiting.append(&mut run.waiting);
            last.effects.extend(effects);
            return;
        }
        for effect in effects {
            route(env, D::effect(effect));
        }
        if run.waiting.is_empty() {
            return;
        }
        let ticket = env.ticket();
        run.in_flight.push_back(InFlight {
            ticket,
            seq: None,
            waiting: std::mem::take(&mut run.waiting),
            effects: Vec::new(),
            mutations: Vec::new(),
        });
        let ms = env.random.between(1, 10);
        let event = Event::Barrier {
            group: self.number,
            node,
            ticket,
            floor: self.log.len(),
        };
        env.after(ms, event);
    }

    /// A barrier comes back: this node leads, and what was committed before the call is in its rows.
    pub fn barrier(&mut self, env: &mut Env, node: usize, ticket: u64, floor: usize) {
        if !self.up[node] {
            return;
        }
        let State::Leading(run) = &self.actors[node].state else {
            return;
        };
        if run.in_flight.iter().all(|batch| batch.ticket != ticket) {
            return;
        }
        let epoch = run.epoch;
        if self.leader != Some(node) {
            return self.heard(env, node, ticket, Result::Unknown);
        }
        let has_own = self.log.last().is_some_and(|last| last.term == self.term);
        if self.replicas[node].applied < floor || !has_own {
            let event = Event::Barrier {
                group: self.number,
                node,
                ticket,
                floor: floor.max(self.log.len()),
            };
            return env.after(5, event);
        }
        // That this node leads is not enough: its memory must be of the epoch that the rows are of.
        let is_current = self.replicas[node].fence(self.partition).epoch == epoch;
        let result = if is_current {
            Result::Applied(epoch)
        } else {
            env.count("barriers that found another epoch");
            Result::Refused
        };
        self.heard(env, node, ticket, result);
    }

    /// Takes what was heard, oldest first.
    fn settle(&mut self, env: &mut Env, node: usize) {
        loop {
            let State::Leading(run) = &mut self.actors[node].state else {
                return;
            };
            let Some(front) = run.in_flight.front() else {
                break;
            };
            let Some(result) = run.heard.remove(&front.ticket) else {
                break;
            };
            let Result::Applied(_) = result else {
                if matches!(result, Result::Refused) {
                    env.count("refusals heard");
                }
                return self.start_over(env, node);
            };
            let Some(done) = run.in_flight.pop_front() else {
                break;
            };
            if let Some(seq) = done.seq {
                run.decider.applied(seq);
            }
            for waiting in done.waiting {
                env.answer(waiting.origin, answer::<D>(waiting.answer));
            }
            for effect in done.effects {
                let effect = D::effect(effect);
                if let Effect::Partition(PartitionEffect::Ended(told)) = &effect {
                    let checked = ends::on_told(told, &self.replicas[node].rows);
                    if checked == Ok(true) {
                        env.count("ends told");
                    }
                    env.check(checked.map(|_| ()));
                }
                route(env, effect);
            }
        }
        self.wake(env, node, 0);
    }
}

fn answer<D: Kind>(answer: std::result::Result<D::Reply, tidemill_core::Rejection>) -> Answer {
    match answer {
        Ok(reply) => Answer::Done(D::wrap(reply)),
        Err(rejection) => Answer::Rejected(rejection),
    }
}

fn decide<D: Kind>(
    env: &mut Env,
    partition: tidemill_types::PartitionId,
    run: &mut Run<D>,
    replica: &Replica,
    envelope: Envelope,
    now: Timestamp,
) -> std::result::Result<(), Broken> {
    let Envelope {
        mut command,
        origin,
    } = envelope;
    if env.planted(Planted::LeaseNotFenced) {
        take_for_current(&mut command, replica);
    }
    let Some(command) = D::unwrap(command) else {
        return Ok(());
    };
    env.count("commands");
    let forgetful = super::planted::WithoutRequests(&replica.rows);
    let rows: &dyn tidemill_core::Rows = if env.planted(Planted::RequestIdForgotten)
        && matches!(origin, super::env::Origin::Client { .. })
        && !partition.is_catalog()
    {
        &forgetful
    } else {
        &replica.rows
    };
    let answer = guarded(|| run.decider.handle(command, now, rows))?;
    if answer.is_err() {
        env.count("commands rejected");
    }
    run.waiting.push(Waiting { origin, answer });
    Ok(())
}

/// The planted bug: a completion is taken for one of the step's current attempt.
fn take_for_current(command: &mut Command, replica: &Replica) {
    use tidemill_core::Rows as _;
    if let Command::Partition(PartitionCommand::Complete(complete)) = command
        && let Ok(Some(row)) = replica.rows.get(&step_key(complete.task.step))
        && let Ok(step) = StepRow::from_bytes(row)
    {
        complete.task.attempt = step.attempt;
    }
}

/// An effect goes out.
fn route(env: &mut Env, effect: Effect) {
    match effect {
        Effect::Partition(PartitionEffect::Grant(grant)) => {
            env.count("grants");
            if env.fault(10) {
                env.count("grants lost");
                return;
            }
            let ms = env.random.between(0, 5);
            env.after(ms, Event::Grant { grant });
        }
        Effect::Partition(PartitionEffect::LeaseExpired { .. }) => env.count("leases expired"),
        Effect::Partition(PartitionEffect::LeaseFreed { .. }) => env.count("leases freed"),
        Effect::Partition(PartitionEffect::SessionSuperseded { .. }) => {
            env.count("sessions superseded");
        }
        Effect::Partition(PartitionEffect::EndUntold { .. }) => env.count("ends not told"),
        Effect::Partition(_) => {}
        Effect::Catalog(tidemill_core::command::CatalogEffect::HandOver(flow)) => {
            let ms = env.random.between(0, 5);
            env.after(ms, Event::HandOver { flow });
        }
        Effect::Catalog(_) => {}
    }
}
