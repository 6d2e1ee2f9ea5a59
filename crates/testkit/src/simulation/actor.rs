//! A group's actor on one node, as the server drives it: an epoch begins, commands are decided, up to
//! K batches are in flight, answers and effects go out when they are applied, and on the first
//! refusal, error or unknown outcome everything is dropped and a new epoch begins.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tidemill_core::{
    Catalog, Damage, Decider, Partition, Rejection,
    catalog::CatalogConfig,
    command::{CatalogEffect, CatalogReply, PartitionEffect, PartitionReply},
    memory::MemoryRows,
    partition::PartitionConfig,
};
use tidemill_rows::{Epoch, Mutation};

use super::env::{Command, Envelope, Origin, Reply, Result};

/// What the simulator needs to know of a decider besides [`Decider`].
pub trait Kind: Decider {
    /// The configuration of all runs.
    fn config() -> Self::Config;
    /// The command, if it is one of this decider's.
    fn unwrap(command: Command) -> Option<Self::Command>;
    /// The answer, for whoever asked.
    fn wrap(reply: Self::Reply) -> Reply;
    /// The effect.
    fn effect(effect: Self::Effect) -> Effect;
}

/// An effect of one group or another.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Of the catalog.
    Catalog(CatalogEffect),
    /// Of a partition.
    Partition(PartitionEffect),
}

impl Kind for Catalog {
    fn config() -> CatalogConfig {
        CatalogConfig {
            start_deadline_ms: 10_000,
            request_retention_ms: 300_000,
        }
    }

    fn unwrap(command: Command) -> Option<Self::Command> {
        match command {
            Command::Catalog(command) => Some(command),
            Command::Partition(_) => None,
        }
    }

    fn wrap(reply: CatalogReply) -> Reply {
        Reply::Catalog(reply)
    }

    fn effect(effect: CatalogEffect) -> Effect {
        Effect::Catalog(effect)
    }
}

impl Kind for Partition {
    fn config() -> PartitionConfig {
        PartitionConfig {
            message_bytes_max: 4_096,
            retention_ms: 90_000,
            // Small, so that executions end in several slices.
            steps_ended_per_turn: 2,
            rows_forgotten_per_turn: 1,
            deleted_flow_kept_ms: 30_000,
            ..PartitionConfig::default()
        }
    }

    fn unwrap(command: Command) -> Option<Self::Command> {
        match command {
            Command::Partition(command) => Some(command),
            Command::Catalog(_) => None,
        }
    }

    fn wrap(reply: PartitionReply) -> Reply {
        Reply::Partition(reply)
    }

    fn effect(effect: PartitionEffect) -> Effect {
        Effect::Partition(effect)
    }
}

/// An answer that waits for its batch.
pub struct Waiting<D: Kind> {
    /// Who asked.
    pub origin: Origin,
    /// What is to be answered.
    pub answer: std::result::Result<D::Reply, Rejection>,
}

/// A batch, or the proof that this node still leads, on its way.
pub struct InFlight<D: Kind> {
    /// The proposal's number.
    pub ticket: u64,
    /// The batch's number; none for a barrier.
    pub seq: Option<u64>,
    /// Answers that wait for it.
    pub waiting: Vec<Waiting<D>>,
    /// Effects that wait for it.
    pub effects: Vec<D::Effect>,
    /// What it would write: kept only when a bug is planted that proposes it again.
    pub mutations: Vec<Mutation>,
}

/// One epoch.
pub struct Run<D: Kind> {
    /// Which.
    pub epoch: Epoch,
    /// The log's term when it began.
    pub term: u64,
    /// The real thing.
    pub decider: D,
    /// The last batch taken.
    pub seq: u64,
    /// Answers that rest on the batch being made.
    pub waiting: Vec<Waiting<D>>,
    /// Oldest first.
    pub in_flight: VecDeque<InFlight<D>>,
    /// What was heard of proposals that are not the oldest yet.
    pub heard: BTreeMap<u64, Result>,
}

/// What the actor does.
pub enum State<D: Kind> {
    /// It does not lead, as far as it knows.
    Idle,
    /// It waits for its `EpochStart` to be applied.
    Beginning {
        /// The proposal's number.
        ticket: u64,
        /// The log's term when it was proposed.
        term: u64,
        /// Recovered before its time, when that bug is planted.
        early: Option<Box<D>>,
    },
    /// It decides.
    Leading(Box<Run<D>>),
}

/// See the module.
pub struct Actor<D: Kind> {
    /// What it does.
    pub state: State<D>,
    /// What waits to be decided.
    pub mailbox: VecDeque<Envelope>,
    /// When its next turn is.
    pub wake_ms: Option<u64>,
    /// Batches to be proposed again, when that bug is planted.
    pub again: Vec<Vec<Mutation>>,
    /// Rows that are to be written a batch too late, when that bug is planted.
    pub late: Vec<Mutation>,
}

impl<D: Kind> Default for Actor<D> {
    fn default() -> Self {
        Self {
            state: State::Idle,
            mailbox: VecDeque::new(),
            wake_ms: None,
            again: Vec::new(),
            late: Vec::new(),
        }
    }
}

/// Why the core could not go on.
#[derive(Debug)]
pub enum Broken {
    /// It says that rows make no sense.
    Damage(Damage),
    /// It panicked.
    Panic(String),
}

/// Calls the core; a panic is a finding, not the end of the simulator.
pub fn guarded<T>(
    call: impl FnOnce() -> std::result::Result<T, Damage>,
) -> std::result::Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(damage)) => Err(Broken::Damage(damage)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(Broken::Panic(text.unwrap_or_default()))
        }
    }
}

impl<D: Kind> Actor<D> {
    /// Recovers a decider from rows, as a new leader does.
    pub fn recover(
        partition: tidemill_types::PartitionId,
        time: tidemill_types::Timestamp,
        rows: &MemoryRows,
    ) -> std::result::Result<D, Broken> {
        guarded(|| D::recover(D::config(), partition, time, rows))
    }
}
