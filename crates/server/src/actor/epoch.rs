//! One epoch: commands in, batches out, answers when they are applied.
//!
//! Group commit: whatever is ready when a batch leaves goes into the next one. Several are on their way at once
//! ([`Pace`] says how many); the decider's ledger knows what they will have written. The epoch ends at the first
//! error: nothing that was decided after it may stand.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use tidemill_core::{Damage, Rejection};
use tidemill_replica::ProposeError;
use tidemill_rows::Epoch;
use tidemill_types::{
    ErrorClass, Timestamp,
    limits::{BATCH_BYTES_MAX, COMMANDS_PER_TURN_MAX, MAILBOX_COMMANDS_MAX},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    AskError, Envelope, SharedRows,
    end::End,
    jump::ClockWatch,
    line::Backlog,
    pace::{Pace, Sent},
    poison::Panic,
    run::{Actor, lost, read_fence},
    supervised::{Sequences, Supervised, digest, panic_reason},
    waiting::Waiting,
};

pub(super) const TICK: &str = "tick";
/// Wall clocks jump: a timer is looked at again after this time at the latest.
const TIMER_LOOK: Duration = Duration::from_secs(1);

/// What is on its way: a batch, or the proof that this node still leads.
enum Outcome {
    Batch {
        seq: u64,
        sent: Sent,
        done: BoxFuture<'static, Result<tidemill_replica::Committed, ProposeError>>,
    },
    Barrier(BoxFuture<'static, Result<(), tidemill_replica::ReadError>>),
}

struct InFlight<D: Supervised> {
    outcome: Outcome,
    waiting: Vec<Waiting<D>>,
    effects: Vec<D::Effect>,
}

enum Event {
    Lost,
    Stop,
    Commands(usize),
    Batch(Result<(), ProposeError>),
    Barrier(Result<(), tidemill_replica::ReadError>),
    Timer,
}

pub(super) struct EpochRun<'a, D: Supervised> {
    actor: &'a mut Actor<D>,
    epoch: Epoch,
    decider: D,
    rows: SharedRows,
    seq: u64,
    backlog: Backlog<D>,
    incoming: Vec<Envelope<D>>,
    /// Answers that rest on the batch being made.
    waiting: Vec<Waiting<D>>,
    batch_commands: usize,
    in_flight: VecDeque<InFlight<D>>,
    batches_in_flight: usize,
    pace: Pace,
    sequences: Sequences,
    /// Names of commands of which one is refused: only those are worth a digest of each.
    guarded: BTreeSet<String>,
    stopping: bool,
    clock: ClockWatch,
}

impl<'a, D: Supervised> EpochRun<'a, D> {
    pub(super) fn new(
        actor: &'a mut Actor<D>,
        epoch: Epoch,
        decider: D,
        rows: SharedRows,
        mut guarded: BTreeSet<String>,
    ) -> Self {
        guarded.extend(actor.poison.names().map(ToOwned::to_owned));
        Self {
            sequences: Sequences::new((actor.options.clock)()),
            clock: ClockWatch::new((actor.options.clock)()),
            guarded,
            backlog: Backlog::new(Arc::clone(&actor.line)),
            actor,
            epoch,
            decider,
            rows,
            seq: 0,
            incoming: Vec::with_capacity(COMMANDS_PER_TURN_MAX),
            waiting: Vec::new(),
            batch_commands: 0,
            in_flight: VecDeque::new(),
            batches_in_flight: 0,
            pace: Pace::new(Instant::now()),
            stopping: false,
        }
    }

    pub(super) async fn run(mut self, restarted: Option<D::Command>) -> End {
        if let Some(command) = restarted {
            self.backlog.push_front(Envelope::of_shell(command));
        }
        let end = loop {
            if let Err(end) = self.turn() {
                break end;
            }
            if self.stopping && self.in_flight.is_empty() {
                break End::Stopping;
            }
            let event = self.next_event().await;
            match event {
                Event::Lost => break End::LostLeadership,
                Event::Stop => self.stopping = true,
                Event::Commands(0) => break End::Stopping,
                Event::Commands(_) => self.take_in(),
                Event::Timer => {}
                Event::Batch(Ok(())) => self.applied(),
                Event::Batch(Err(error)) => break End::Failed(error),
                // Leadership may have been lost and won again unseen: the answers rest on this
                // epoch's memory, and the barrier only says that this node leads now.
                Event::Barrier(Ok(())) if self.superseded() => break End::Superseded,
                Event::Barrier(Ok(())) => self.confirmed(),
                Event::Barrier(Err(error)) => self.not_confirmed(&error),
            }
        };
        // A leader that has not noticed its successor reads rows that do not fit its memory. That is
        // no damage, and no fault of the command.
        let end = match end {
            End::Damaged(_) | End::Panicked(_) if self.superseded() => End::Superseded,
            end => end,
        };
        self.finish(end).await
    }

    /// True when the rows are of another epoch than this one.
    fn superseded(&self) -> bool {
        read_fence(self.actor.partition, &*self.rows).is_ok_and(|fence| fence.epoch != self.epoch)
    }

    /// Decides what has come and is due, then proposes.
    fn turn(&mut self) -> Result<(), End> {
        let begun = Instant::now();
        if let Some(by_ms) = self.clock.look((self.actor.options.clock)(), begun) {
            self.clock_jumped(by_ms)?;
        }
        let mut decided = 0;
        while decided < COMMANDS_PER_TURN_MAX && !self.batch_full() && !self.stopping {
            let Some(envelope) = self.backlog.pop() else {
                break;
            };
            self.decide(envelope)?;
            decided += 1;
        }
        self.backlog.show();
        self.tick()?;
        self.propose()
    }

    fn clock_jumped(&mut self, by_ms: u64) -> Result<(), End> {
        tracing::warn!(partition = %self.actor.partition, by_ms, "the wall clock jumped forward");
        let Some(command) = D::clock_jumped(by_ms) else {
            return Ok(());
        };
        self.decide(Envelope::of_shell(command))
    }

    fn take_in(&mut self) {
        for envelope in self.incoming.drain(..) {
            self.backlog.push(envelope);
        }
    }

    fn batch_full(&self) -> bool {
        self.decider.batch_bytes() >= BATCH_BYTES_MAX
            || self.decider.batch_len() >= self.pace.rows(Instant::now())
    }

    fn decide(&mut self, envelope: Envelope<D>) -> Result<(), End> {
        let Envelope {
            command,
            reply,
            _room,
            _place,
            ..
        } = envelope;
        let name = D::name(&command);
        self.actor.options.metrics.commands.with(&[name]).add(1);
        if self.guarded.contains(name) {
            let digest = digest::<D>(&command);
            let refusal = self.actor.poison.refusal(digest).map(ToOwned::to_owned);
            let refusal = refusal.or_else(|| {
                self.decider
                    .is_quarantined(digest)
                    .then(|| "see the journal".to_owned())
            });
            if let Some(reason) = refusal {
                self.wait(reply, Err(Rejection::Quarantined(reason)));
                return Ok(());
            }
        }
        let now = (self.actor.options.clock)();
        // Kept for the case that it panics; payloads are shared, so this costs little.
        let kept = command.clone();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            self.decider.handle(command, now, &*self.rows)
        }));
        match decided {
            Ok(Ok(answer)) => {
                self.batch_commands += 1;
                self.wait(reply, answer);
                Ok(())
            }
            Ok(Err(damage)) => {
                let error = if self.superseded() {
                    restarting()
                } else {
                    AskError::Corrupt(damage.to_string())
                };
                fail(reply, &error);
                Err(End::Damaged(damage))
            }
            Err(panic) => {
                fail(reply, &restarting());
                Err(End::Panicked(Panic {
                    digest: Some(digest::<D>(&kept)),
                    command: name,
                    reason: panic_reason(&*panic),
                }))
            }
        }
    }

    fn wait(
        &mut self,
        reply: Option<oneshot::Sender<Result<D::Reply, AskError>>>,
        answer: Result<D::Reply, Rejection>,
    ) {
        if let Err(rejection) = &answer {
            let rejected = &self.actor.options.metrics.commands_rejected;
            rejected.with(&[rejection.code()]).add(1);
            // It says nothing of the state that may not stand: the sooner it is said, the cheaper.
            if rejection.class() == ErrorClass::Overloaded {
                return Waiting::<D> { reply, answer }.release();
            }
        }
        self.waiting.push(Waiting { reply, answer });
    }

    fn tick(&mut self) -> Result<(), End> {
        if self.batch_full() || self.stopping || !self.ticks_allowed() {
            return Ok(());
        }
        // A new leader's clock may be behind the last decision: what is due by that is due.
        let now = (self.actor.options.clock)().max(self.decider.now());
        if self.decider.next_due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let done = catch_unwind(AssertUnwindSafe(|| self.decider.tick(now, &*self.rows)));
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(damage)) => Err(End::Damaged(damage)),
            Err(panic) => Err(panicked(TICK, &*panic)),
        }
    }

    fn ticks_allowed(&self) -> bool {
        let after = self.actor.ticks_after;
        after.is_none_or(|after| Instant::now() >= after)
    }

    /// Proposes the batch being made, if there is one and a place for it.
    fn propose(&mut self) -> Result<(), End> {
        if !self.decider.has_batch() {
            self.release_unchanged();
            return Ok(());
        }
        let now = Instant::now();
        let in_flight = self.batches_in_flight;
        if !self.pace.may_send(in_flight, now) {
            return Ok(());
        }
        let sent = self.pace.sent(self.decider.batch_len(), in_flight, now);
        let seq = self.seq + 1;
        let taken = catch_unwind(AssertUnwindSafe(|| {
            let batch = self.decider.take_batch(self.epoch, seq)?;
            Ok::<_, Damage>((batch, self.decider.take_effects()))
        }));
        let (batch, effects) = match taken {
            Ok(Ok(taken)) => taken,
            Ok(Err(damage)) => return Err(End::Damaged(damage)),
            Err(panic) => return Err(panicked("take_batch", &*panic)),
        };
        self.seq = seq;
        let counts = &self.actor.counts;
        counts.proposed.add(1);
        counts.batch_commands.observe(self.batch_commands as f64);
        counts.batch_rows.observe(batch.rows() as f64);
        counts.batch_bytes.observe(batch.bytes().len() as f64);
        self.batch_commands = 0;
        self.batches_in_flight += 1;
        let is_mixed = self.backlog.batch_leaves(now);
        self.pace.keep_short(is_mixed);
        self.in_flight.push_back(InFlight {
            outcome: Outcome::Batch {
                seq,
                sent,
                done: self.actor.log.propose(batch),
            },
            waiting: std::mem::take(&mut self.waiting),
            effects,
        });
        Ok(())
    }

    /// Answers that changed nothing may rest on batches in flight: they wait for those. With none in
    /// flight they wait for the proof that no other leader has changed what they rest on.
    fn release_unchanged(&mut self) {
        self.batch_commands = 0;
        self.backlog.batch_leaves(Instant::now());
        let effects = self.decider.take_effects();
        if let Some(last) = self.in_flight.back_mut() {
            last.waiting.append(&mut self.waiting);
            last.effects.extend(effects);
            return;
        }
        if !effects.is_empty() {
            self.actor.options.sink.deliver(effects);
        }
        if self.waiting.iter().all(|waiting| waiting.reply.is_none()) {
            self.waiting.clear();
            return;
        }
        self.in_flight.push_back(InFlight {
            outcome: Outcome::Barrier(self.actor.log.read_barrier()),
            waiting: std::mem::take(&mut self.waiting),
            effects: Vec::new(),
        });
    }

    async fn next_event(&mut self) -> Event {
        let can_decide = !self.batch_full() && !self.stopping;
        let due = if can_decide { self.until_due() } else { None };
        if can_decide && (!self.backlog.is_empty() || due.is_some_and(|due| due.is_zero())) {
            // More to do at once: only look at what has happened meanwhile. The yield lets the
            // others of this thread run between two full turns.
            tokio::task::yield_now().await;
            self.take_more();
            return self.ready_event();
        }
        let Self {
            actor,
            in_flight,
            incoming,
            stopping,
            ..
        } = self;
        let front = async {
            match in_flight.front_mut() {
                Some(front) => match &mut front.outcome {
                    Outcome::Batch { done, .. } => Event::Batch(done.await.map(|_| ())),
                    Outcome::Barrier(done) => Event::Barrier(done.await),
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lost(&mut actor.leadership) => Event::Lost,
            event = front => event,
            () = actor.options.stop.cancelled(), if !*stopping => Event::Stop,
            // All of it, so that the lines of those who wait are seen whole.
            count = actor.mailbox.recv_many(incoming, MAILBOX_COMMANDS_MAX), if can_decide => {
                let waiting = actor.mailbox.len() as f64;
                actor.counts.mailbox.set(waiting);
                Event::Commands(count)
            }
            () = sleep(due) => Event::Timer,
        }
    }

    /// Takes what waits in the mailbox, as far as there is room: who came last may be next.
    fn take_more(&mut self) {
        use futures::FutureExt as _;
        let room = self.backlog.room();
        if room > 0 {
            let Self {
                actor, incoming, ..
            } = self;
            // The end of the mailbox is noticed where it is waited for.
            let _ = actor.mailbox.recv_many(incoming, room).now_or_never();
            self.take_in();
        }
    }

    /// What has happened, without waiting.
    fn ready_event(&mut self) -> Event {
        use futures::FutureExt as _;
        if !self.actor.leadership.borrow().is_self {
            return Event::Lost;
        }
        let ready = match self.in_flight.front_mut().map(|front| &mut front.outcome) {
            Some(Outcome::Batch { done, .. }) => done
                .now_or_never()
                .map(|done| Event::Batch(done.map(|_| ()))),
            Some(Outcome::Barrier(done)) => done.now_or_never().map(Event::Barrier),
            None => None,
        };
        ready.unwrap_or(Event::Timer)
    }

    /// How long until the decider has something to do.
    fn until_due(&self) -> Option<Duration> {
        let now: Timestamp = (self.actor.options.clock)().max(self.decider.now());
        let due = self.decider.next_due()?;
        let micros = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
        let mut wait = Duration::from_micros(micros).min(TIMER_LOOK);
        if let Some(after) = self.actor.ticks_after {
            wait = wait.max(after.saturating_duration_since(Instant::now()));
        }
        Some(wait)
    }

    /// The oldest in flight is a batch, and it is applied.
    fn applied(&mut self) {
        let Some(front) = self.in_flight.pop_front() else {
            return;
        };
        if let Outcome::Batch { seq, sent, .. } = front.outcome {
            self.batches_in_flight -= 1;
            self.decider.applied(seq);
            self.actor.counts.committed.add(1);
            let now = Instant::now();
            self.pace.applied(sent, now);
            let took = now - sent.at;
            self.actor.line.committed(took);
            let seconds = took.as_secs_f64();
            self.actor.counts.commit_seconds.observe(seconds);
        }
        D::observe(
            self.actor.partition,
            &mut front.waiting.iter().filter_map(|w| w.answer.as_ref().ok()),
            &front.effects,
            &mut self.sequences,
            &self.actor.options.metrics,
        );
        // Answers first: a client that waits is worth more than a worker that does.
        for waiting in front.waiting {
            waiting.release();
        }
        if !front.effects.is_empty() {
            self.actor.options.sink.deliver(front.effects);
        }
    }

    fn confirmed(&mut self) {
        let Some(front) = self.in_flight.pop_front() else {
            return;
        };
        for waiting in front.waiting {
            waiting.release();
        }
        if !front.effects.is_empty() {
            self.actor.options.sink.deliver(front.effects);
        }
    }

    fn not_confirmed(&mut self, error: &tidemill_replica::ReadError) {
        let Some(front) = self.in_flight.pop_front() else {
            return;
        };
        for waiting in front.waiting {
            waiting.fail(AskError::from(error.clone()));
        }
        // Effects are hints, and these rest on applied rows.
        if !front.effects.is_empty() {
            self.actor.options.sink.deliver(front.effects);
        }
    }

    /// Answers what is left. What was proposed is unknown, unless the log has refused it by a check
    /// that it makes before it appends: then the fence keeps out all after it, too.
    async fn finish(mut self, end: End) -> End {
        if let End::Panicked(_) = end {
            // What was proposed before the panic was well decided.
            self.settle().await;
        }
        let proposed = match &end {
            End::Failed(
                error @ (ProposeError::TooLarge { .. }
                | ProposeError::Overloaded
                | ProposeError::NoSpace),
            ) => AskError::Unavailable(error.to_string()),
            _ => AskError::Unknown,
        };
        let leader = self.actor.leadership.borrow().leader;
        let undecided = match &end {
            End::LostLeadership => AskError::NotLeader { leader },
            End::Damaged(damage) => AskError::Corrupt(damage.to_string()),
            End::Stopping => AskError::Unavailable("the node is shutting down".into()),
            End::NotBegun(_) | End::Failed(_) | End::Panicked(_) | End::Superseded => restarting(),
        };
        if let (End::Failed(ProposeError::TooLarge { .. }), Some(front)) =
            (&end, self.in_flight.front_mut())
            && let [waiting] = front.waiting.as_mut_slice()
            && let Some(reply) = waiting.reply.take()
        {
            // It was alone in its batch, so it is to blame, and repeating it would not help.
            let error =
                Rejection::invalid("message", "what it leads to does not fit into one batch");
            let _ = reply.send(Err(AskError::Rejected(error)));
        }
        for in_flight in self.in_flight.drain(..) {
            let error = match in_flight.outcome {
                Outcome::Batch { .. } => &proposed,
                Outcome::Barrier(_) => &undecided,
            };
            for waiting in in_flight.waiting {
                waiting.fail(error.clone());
            }
        }
        for waiting in self.waiting.drain(..) {
            waiting.fail(undecided.clone());
        }
        for envelope in self.backlog.drain().chain(self.incoming.drain(..)) {
            envelope.answer(Err(undecided.clone()));
        }
        end
    }

    /// Waits for what is in flight, as long as all goes well.
    async fn settle(&mut self) {
        loop {
            let event = match self.in_flight.front_mut().map(|front| &mut front.outcome) {
                None => return,
                Some(Outcome::Batch { done, .. }) => tokio::select! {
                    biased;
                    () = lost(&mut self.actor.leadership) => return,
                    done = done => Event::Batch(done.map(|_| ())),
                },
                Some(Outcome::Barrier(done)) => Event::Barrier(done.await),
            };
            match event {
                // The decider is as it was left by the panic; it is only told what is applied.
                Event::Batch(Ok(())) => {
                    if catch_unwind(AssertUnwindSafe(|| self.applied())).is_err() {
                        return;
                    }
                }
                Event::Barrier(Ok(())) => self.confirmed(),
                _ => return,
            }
        }
    }
}

fn restarting() -> AskError {
    AskError::Unavailable("the partition's leader restarts".into())
}

fn panicked(what: &'static str, panic: &(dyn std::any::Any + Send)) -> End {
    End::Panicked(Panic {
        digest: None,
        command: what,
        reason: panic_reason(panic),
    })
}

fn fail<R>(reply: Option<oneshot::Sender<Result<R, AskError>>>, error: &AskError) {
    if let Some(reply) = reply {
        let _ = reply.send(Err(error.clone()));
    }
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}
