//! What a run can be told, and the bugs that can be planted in it.

/// A bug, built into the simulator's shell or into what it feeds the core: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// Apply admits every batch, whatever its epoch and number.
    SkipFence,
    /// A completion with a stale attempt is taken for one of the current attempt.
    LeaseNotFenced,
    /// The last journal record of a batch is written twice.
    JournalRecordTwice,
    /// Request ids are looked for in the leader's memory only, not in rows.
    RequestIdForgotten,
    /// After a refusal a leader proposes what it had decided again, in its new epoch.
    BatchReproposed,
    /// A replica that is rebuilt from another one's rows comes without the fence row.
    SnapshotWithoutFence,
    /// Clients are answered when a batch is proposed.
    AnswerBeforeCommit,
    /// A new leader reads rows before its `EpochStart` is applied.
    RecoverTooEarly,
    /// A read is answered by whoever thinks that it leads, without a barrier.
    ReadWithoutBarrier,
    /// A retry's timer is not written.
    TimerForgotten,
    /// A new leader goes by its own clock, not by the fence's time.
    TimeGoesBack,
    /// The counter of live steps in the execution's row is one too high after a fan-out.
    CounterOff,
    /// A worker that opens a new stream, or whose gateway attaches to a new leader, seems to hold nothing.
    HeldLeaseFreed,
    /// A new leader's first batch starts executions of schedules without their ledger rows.
    OccurrenceRowForgotten,
    /// The ledger row of an occurrence is written in the batch after that of its execution.
    OccurrenceRowLater,
    /// A request id's row goes when its execution ends, not when the execution's rows go.
    RequestIdExpiredEarly,
    /// What is hashed for the journal is not what is stored: the hash was made before the last field was set.
    JournalHashOff,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::SkipFence,
        Self::LeaseNotFenced,
        Self::JournalRecordTwice,
        Self::RequestIdForgotten,
        Self::BatchReproposed,
        Self::SnapshotWithoutFence,
        Self::AnswerBeforeCommit,
        Self::RecoverTooEarly,
        Self::ReadWithoutBarrier,
        Self::TimerForgotten,
        Self::TimeGoesBack,
        Self::CounterOff,
        Self::HeldLeaseFreed,
        Self::OccurrenceRowForgotten,
        Self::OccurrenceRowLater,
        Self::RequestIdExpiredEarly,
        Self::JournalHashOff,
    ];

    /// The bug with this name, as its `Debug` form writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| format!("{p:?}") == name)
    }
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Nodes; each holds a replica of every group.
    pub nodes: usize,
    /// Partitions besides the catalog.
    pub partitions: u16,
    /// How long faults and clients go on, in simulated milliseconds.
    pub faults_ms: u64,
    /// How long everything may take to come to rest afterwards.
    pub rest_ms_max: u64,
    /// Keep the trace as text.
    pub verbose: bool,
    /// A bug to be found.
    pub planted: Option<Planted>,
    /// Instead of faults by chance: one leader is deposed, at one moment of a start or a stop.
    pub deposed: Deposed,
}

/// Which leader is deposed while a flow is starting or stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deposed {
    /// Faults are by chance.
    #[default]
    ByChance,
    /// No fault at all: only to count the moments.
    Nobody,
    /// At the moment of this number, the leader of this group; the rest of the run is without faults.
    At {
        /// Counted over everything that happens while a flow is starting or stopping.
        moment: u64,
        /// The catalog is 0.
        group: usize,
        /// Its node goes down with it, for a while.
        crash: bool,
    },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            partitions: 2,
            faults_ms: 120_000,
            rest_ms_max: 3_600_000,
            verbose: false,
            planted: None,
            deposed: Deposed::ByChance,
        }
    }
}
