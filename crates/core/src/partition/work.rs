//! Work: who wants tasks, which steps wait for one, who holds what until when.
//!
//! Fair between flows: each function's queue takes its flows in turn. Everything here is volatile;
//! queues and leases are rebuilt from their rows, sessions are said again by the gateways.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tidemill_rows::table::{LeaseRow, QueueRow, lease_key};
use tidemill_types::{
    ExecutionId, FlowId, StepId, TaskId, Timestamp,
    limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN},
};

use self::instance::Instances;
use crate::{
    Turns,
    command::{SessionKey, SessionUpdate},
    ledger::Ledger,
};

mod grant;
mod instance;

/// How long a component counts as served after its last worker went: a rolling restart of workers must
/// not make a start fail.
const SERVED_FOR_MS: u64 = 60_000;

type Function = (Arc<str>, Arc<str>);

type Queue = Turns<FlowId, (StepId, QueueRow)>;

#[derive(Debug)]
struct Session {
    worker: Arc<str>,
    serves: Vec<Function>,
    lease_ms: u32,
    limit: u32,
    held: u32,
    instance: u64,
    number: u64,
}

#[derive(Debug)]
struct Lease {
    row: LeaseRow,
    session: Option<SessionKey>,
    deadline: Timestamp,
}

/// Steps of one node of one execution, where the node limits how many run at once.
#[derive(Debug, Default)]
struct Gate {
    running: u32,
    held_back: VecDeque<(StepId, QueueRow)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Work {
    queues: BTreeMap<Function, Queue>,
    /// Steps in `queues` or held back at a gate.
    queued: BTreeSet<StepId>,
    /// How many of them each flow has; flows without any are left out.
    queued_of: BTreeMap<FlowId, usize>,
    leases: BTreeMap<StepId, Lease>,
    deadlines: BTreeSet<(Timestamp, StepId)>,
    sessions: BTreeMap<SessionKey, Session>,
    /// Sessions with a free place.
    free: BTreeSet<SessionKey>,
    /// Sessions that serve a function (of any name, where it is empty), in the order of their turns.
    served_by: BTreeMap<Function, VecDeque<SessionKey>>,
    last_served: BTreeMap<Function, Timestamp>,
    gates: BTreeMap<(ExecutionId, u32), Gate>,
    /// The function of which a task was given out last: the next search begins after it.
    last_function: Option<Function>,
    instances: Instances,
    now: Timestamp,
}

impl Work {
    /// True when a worker serves the function, or did so a moment ago.
    pub fn is_served(&self, component: &Arc<str>, function: &Arc<str>) -> bool {
        [function.clone(), Arc::from("")]
            .into_iter()
            .any(|function| {
                let key = (component.clone(), function);
                self.served_by
                    .get(&key)
                    .is_some_and(|sessions| !sessions.is_empty())
                    || self
                        .last_served
                        .get(&key)
                        .is_some_and(|at| self.now.millis_since(*at) <= SERVED_FOR_MS)
            })
    }

    /// How many steps wait for a worker: of one flow, of all.
    pub fn waiting(&self, flow: &FlowId) -> (usize, usize) {
        let of_flow = self.queued_of.get(flow).copied().unwrap_or_default();
        (of_flow, self.queued.len())
    }

    /// How many flows have steps that wait for a worker.
    pub fn flows_waiting(&self) -> usize {
        self.queued_of.len()
    }

    /// So many steps of a flow do not wait any more.
    fn not_waiting(&mut self, flow: FlowId, count: usize) {
        if let Some(queued) = self.queued_of.get_mut(&flow) {
            *queued -= count;
            if *queued == 0 {
                self.queued_of.remove(&flow);
            }
        }
    }

    /// A step waits for a worker.
    pub fn enqueue(&mut self, step: StepId, row: QueueRow) {
        if self.queued.insert(step) {
            *self.queued_of.entry(row.flow).or_default() += 1;
        }
        if row.concurrency > 0 {
            let gate = self.gates.entry((step.execution, row.node)).or_default();
            if gate.running >= row.concurrency {
                gate.held_back.push_back((step, row));
                return;
            }
            gate.running += 1;
        }
        self.push(step, row);
    }

    fn push(&mut self, step: StepId, row: QueueRow) {
        let function = (row.component.clone(), row.function.clone());
        let queue = self.queues.entry(function).or_default();
        queue.push(row.flow, (step, row));
    }

    /// The step's place at its gate is free again.
    fn leave_gate(&mut self, step: StepId, row: &QueueRow) {
        if row.concurrency == 0 {
            return;
        }
        let key = (step.execution, row.node);
        let Some(gate) = self.gates.get_mut(&key) else {
            return;
        };
        if let Some((next, row)) = gate.held_back.pop_front() {
            self.push(next, row);
            return;
        }
        gate.running -= 1;
        if gate.running == 0 {
            self.gates.remove(&key);
        }
    }

    /// Takes a step out of queue or lease, wherever it is.
    pub fn remove(&mut self, step: StepId, ledger: &mut Ledger) {
        if let Some(lease) = self.leases.remove(&step) {
            ledger.delete(lease_key(step));
            self.instances.remove_lease(lease.row.instance, step);
            self.deadlines.remove(&(lease.deadline, step));
            self.free_place(lease.session);
            if let Some(row) = &lease.row.queue {
                self.leave_gate(step, row);
            }
        } else if self.queued.remove(&step) {
            // Rare (cancel, time-out of an execution): a search is cheaper than an index kept for it.
            let mut queues = self.queues.values_mut();
            if let Some((_, row)) = queues.find_map(|queue| queue.remove(|(s, _)| *s == step)) {
                self.not_waiting(row.flow, 1);
                self.leave_gate(step, &row);
                return;
            }
            for gate in self.gates.values_mut() {
                let held_back = &mut gate.held_back;
                if let Some(at) = held_back.iter().position(|(s, _)| *s == step)
                    && let Some((_, row)) = held_back.remove(at)
                {
                    self.not_waiting(row.flow, 1);
                    return;
                }
            }
        }
    }

    /// Forgets all waiting steps of an execution of a flow, in one go. Their rows stay.
    pub fn forget_queued(&mut self, execution: ExecutionId, flow: FlowId) {
        let is_other = |step: &StepId| step.execution != execution;
        let first = StepId { execution, step: 0 };
        let last = StepId {
            execution,
            step: u32::MAX,
        };
        let queued: Vec<StepId> = self.queued.range(first..=last).copied().collect();
        if queued.is_empty() {
            return;
        }
        for step in &queued {
            self.queued.remove(step);
        }
        self.not_waiting(flow, queued.len());
        self.queues.retain(|_, queue| {
            queue.retain(|(step, _)| is_other(step));
            !queue.is_empty()
        });
        // Steps of it that are leased find no gate any more, and need none.
        self.gates.retain(|(of, _), _| *of != execution);
    }

    fn free_place(&mut self, session: Option<SessionKey>) {
        let Some(key) = session else { return };
        if let Some(session) = self.sessions.get_mut(&key) {
            session.held = session.held.saturating_sub(1);
        }
        self.note_places(key);
    }

    /// Keeps the set of sessions with a free place.
    fn note_places(&mut self, key: SessionKey) {
        if self
            .sessions
            .get(&key)
            .is_some_and(|session| session.held < session.limit)
        {
            self.free.insert(key);
        } else {
            self.free.remove(&key);
        }
    }

    /// A lease from before this epoch: its holder is given a whole lease more, for how much of it is
    /// used up only the leader before knew. The fencing token keeps that safe.
    pub fn recover_lease(&mut self, step: StepId, row: LeaseRow, now: Timestamp) {
        if let Some(queue) = row.queue.as_ref().filter(|queue| queue.concurrency > 0) {
            self.gates
                .entry((step.execution, queue.node))
                .or_default()
                .running += 1;
        }
        self.add_lease(step, row, None, now);
    }

    fn add_lease(
        &mut self,
        step: StepId,
        row: LeaseRow,
        session: Option<SessionKey>,
        now: Timestamp,
    ) {
        let deadline = lease_deadline(&row, now);
        self.deadlines.insert((deadline, step));
        self.instances.add_lease(row.instance, step);
        self.leases.insert(
            step,
            Lease {
                row,
                session,
                deadline,
            },
        );
    }

    /// Prolongs a lease; false when it is lost.
    pub fn renew(&mut self, task: TaskId, now: Timestamp) -> bool {
        let Some(lease) = self
            .leases
            .get_mut(&task.step)
            .filter(|l| l.row.attempt == task.attempt)
        else {
            return false;
        };
        self.deadlines.remove(&(lease.deadline, task.step));
        lease.deadline = lease_deadline(&lease.row, now);
        self.deadlines.insert((lease.deadline, task.step));
        true
    }

    /// When the first lease or time-out of an attempt ends, or there are leases to free.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.instances.has_work() {
            return Some(self.now);
        }
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A step whose lease has ended by `now`, with whether that was the node's time-out.
    pub fn next_expired(&self, now: Timestamp) -> Option<(StepId, LeaseRow, Option<SessionKey>)> {
        let (deadline, step) = self.deadlines.first()?;
        if *deadline > now {
            return None;
        }
        let lease = self.leases.get(step)?;
        Some((*step, lease.row.clone(), lease.session))
    }

    /// A session came, changed or went. Its leases live on when it goes.
    pub fn update_session(&mut self, update: SessionUpdate, now: Timestamp) {
        self.now = now;
        if update.gone {
            self.forget_session(update.key);
            return;
        }
        let lease_ms = match update.lease_ms {
            0 => LEASE_MS_DEFAULT,
            ms => ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX),
        };
        if let Some(session) = self.sessions.get_mut(&update.key) {
            session.limit = update.limit;
            self.note_places(update.key);
            return;
        }
        if !self.admit_session(&update) {
            return;
        }
        for function in &update.serves {
            self.served_by
                .entry(function.clone())
                .or_default()
                .push_back(update.key);
        }
        let session = Session {
            worker: update.worker,
            serves: update.serves,
            lease_ms,
            limit: update.limit,
            held: 0,
            instance: update.instance,
            number: update.number,
        };
        self.sessions.insert(update.key, session);
        self.note_places(update.key);
    }

    fn forget_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        self.free.remove(&key);
        self.instances.session_gone(session.instance, key, self.now);
        for function in session.serves {
            if let Some(sessions) = self.served_by.get_mut(&function) {
                sessions.retain(|other| *other != key);
                if sessions.is_empty() {
                    self.served_by.remove(&function);
                    self.last_served.insert(function, self.now);
                }
            }
        }
        let now = self.now;
        self.last_served
            .retain(|_, at| now.millis_since(*at) <= SERVED_FOR_MS);
    }

    /// All sessions of a gateway's stream are gone.
    pub fn forget_gateway(&mut self, gateway: u64) {
        let from = SessionKey {
            gateway,
            session: 0,
        };
        let to = SessionKey {
            gateway,
            session: u64::MAX,
        };
        let keys: Vec<SessionKey> = self
            .sessions
            .range(from..=to)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.forget_session(key);
        }
    }
}

fn lease_deadline(row: &LeaseRow, now: Timestamp) -> Timestamp {
    let deadline = now.plus_millis(u64::from(row.lease_ms));
    row.timeout_at
        .map_or(deadline, |timeout| deadline.min(timeout))
}
