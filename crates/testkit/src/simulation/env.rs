//! What everything in the simulated world shares: time, chance, the agenda, the trace, the checkers.

use std::collections::BTreeMap;

use tidemill_core::command::{CatalogCommand, PartitionCommand, TaskGrant};
use tidemill_core::{
    Rejection,
    command::{CatalogReply, PartitionReply},
};
use tidemill_types::{ExecutionId, FlowId, Timestamp};

use super::{
    options::{Deposed, Options, Planted},
    random::Random,
    replica::Payload,
    trace::Trace,
};
use crate::invariant::{Checks, Violation};

/// When the simulated world begins, in milliseconds since the Unix epoch.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// A command for one group or another.
#[derive(Clone, Debug)]
pub enum Command {
    /// For the catalog.
    Catalog(CatalogCommand),
    /// For a partition.
    Partition(PartitionCommand),
}

/// The answer of one group or another.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Of the catalog.
    Catalog(CatalogReply),
    /// Of a partition.
    Partition(PartitionReply),
}

/// Who sent a command, and waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's request, and which try of it.
    Client { request: usize, attempt: u32 },
    /// A worker's completion.
    Worker { completion: usize },
    /// The hand-over of a flow that is starting or stopping.
    HandOver {
        flow: FlowId,
        activation: u64,
        arm: bool,
    },
    /// The word that a flow was deleted.
    Forget { flow: FlowId },
    /// Nobody.
    Nobody,
}

/// A command on its way.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// What is asked.
    pub command: Command,
    /// Who asks.
    pub origin: Origin,
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Decided and applied.
    Done(Reply),
    /// A fact of the state stands against it.
    Rejected(Rejection),
    /// Nothing has happened.
    Unavailable,
    /// Something may have happened.
    Unknown,
}

/// How a proposal ended, as far as its proposer hears.
#[derive(Clone, Copy, Debug)]
pub enum Result {
    /// Applied on the proposer's node, as this index.
    Applied(tidemill_rows::Epoch),
    /// Dropped by the fence.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What was committed and what was seen when a read began; none before it has.
pub type Asked = Option<(usize, u64)>;

/// What is going to happen.
#[derive(Clone, Debug)]
pub enum Event {
    Deliver {
        group: usize,
        node: usize,
        envelope: Envelope,
    },
    Turn {
        group: usize,
        node: usize,
    },
    Append {
        group: usize,
        node: usize,
        ticket: u64,
        term: u64,
        payload: Payload,
    },
    Commit {
        group: usize,
    },
    Apply {
        group: usize,
        node: usize,
    },
    Heard {
        group: usize,
        node: usize,
        ticket: u64,
        result: Result,
    },
    Barrier {
        group: usize,
        node: usize,
        ticket: u64,
        floor: usize,
    },
    Depose {
        group: usize,
    },
    Elect {
        group: usize,
    },
    Notice {
        group: usize,
        node: usize,
    },
    EpochBegan {
        group: usize,
        node: usize,
    },
    Restart {
        node: usize,
    },
    Fault,
    Answer {
        origin: Origin,
        answer: Answer,
    },
    ClientNext {
        client: usize,
    },
    ClientTimeout {
        request: usize,
        attempt: u32,
    },
    Grant {
        grant: Box<TaskGrant>,
    },
    Complete {
        completion: usize,
    },
    Renew {
        worker: usize,
        task: tidemill_types::TaskId,
        left: u32,
    },
    WorkerBack {
        worker: usize,
    },
    /// A gateway that has lost its worker without knowing it speaks of it, or is silent at last.
    Say {
        group: usize,
        command: Box<PartitionCommand>,
    },
    HandOver {
        flow: FlowId,
    },
    Read {
        execution: ExecutionId,
        group: usize,
        node: usize,
        asked: Asked,
    },
    Look,
}

/// See the module.
pub struct Env {
    /// Milliseconds since the world began: true time, which nobody in it can see.
    pub now_ms: u64,
    /// What may happen by chance.
    pub random: Random,
    /// What has happened.
    pub trace: Trace,
    /// How the run goes.
    pub options: Options,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// The invariants.
    pub checks: Checks,
    /// The first violation: the run ends there.
    pub violation: Option<Violation>,
    /// True while faults are injected.
    pub faults: bool,
    /// What each node's clock is ahead, in milliseconds.
    pub clock_offset_ms: Vec<i64>,
    /// Batches in flight at most.
    pub in_flight_max: usize,
    agenda: BTreeMap<(u64, u64), Event>,
    tie: u64,
    ticket: u64,
}

impl Env {
    /// A world at its beginning.
    #[must_use]
    pub fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed);
        let clock_offset_ms = (0..options.nodes)
            .map(|_| random.between(0, 4_000) as i64 - 2_000)
            .collect();
        Self {
            now_ms: 0,
            in_flight_max: random.between(1, 4) as usize,
            clock_offset_ms,
            random,
            trace: Trace::new(options.verbose),
            options: options.clone(),
            counts: BTreeMap::new(),
            checks: Checks::default(),
            violation: None,
            faults: true,
            agenda: BTreeMap::new(),
            tie: 0,
            ticket: 0,
        }
    }

    /// Has something happen after a while.
    pub fn after(&mut self, ms: u64, event: Event) {
        self.tie += 1;
        self.agenda.insert((self.now_ms + ms, self.tie), event);
    }

    /// The next thing to happen; time moves on to it.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.agenda.pop_first()?;
        self.now_ms = at;
        Some(event)
    }

    /// A number that no other proposal has.
    pub fn ticket(&mut self) -> u64 {
        self.ticket += 1;
        self.ticket
    }

    /// What a node's wall clock says.
    #[must_use]
    pub fn clock(&self, node: usize) -> Timestamp {
        Timestamp::from_millis(BEGIN_MS + self.now_ms as i64 + self.clock_offset_ms[node])
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Notes something.
    pub fn note(&mut self, what: &str, numbers: &[u64]) {
        self.trace.note(self.now_ms, what, numbers);
    }

    /// A line for people.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        self.trace.tell(self.now_ms, text);
    }

    /// True when this bug is planted.
    #[must_use]
    pub fn planted(&self, bug: Planted) -> bool {
        self.options.planted == Some(bug)
    }

    /// By chance, but only while faults are injected.
    pub fn fault(&mut self, per_mille: u64) -> bool {
        self.faults && self.options.deposed == Deposed::ByChance && self.random.chance(per_mille)
    }

    /// Keeps the first violation.
    pub fn check(&mut self, result: std::result::Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.tell(|| format!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    /// Answers somebody, after the network's while; sometimes the answer is lost.
    pub fn answer(&mut self, origin: Origin, answer: Answer) {
        if origin == Origin::Nobody {
            return;
        }
        if self.fault(20) {
            self.count("answers lost");
            return;
        }
        let ms = self.random.between(0, 4);
        self.after(ms, Event::Answer { origin, answer });
    }
}
