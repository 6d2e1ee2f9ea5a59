//! What a run can be told, and the bugs that can be planted in it.

/// A bug below the groups, one at a time: each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The log acknowledges what it has handed to the operating system and not synced.
    NoSyncBeforeAck,
    /// A vote is acknowledged and not written.
    VoteNotPersisted,
    /// Syncs of the log end in any order, so that a power cut leaves holes.
    LogOutOfOrder,
    /// A flush of the state says that it is durable and is not: the log is then purged too early.
    FlushNotDurable,
    /// A snapshot comes without the fence row.
    SnapshotWithoutFence,
    /// Apply admits every batch, whatever its epoch and number.
    FenceIgnored,
    /// openraft's `enable_leader_restore`, its default.
    LeaderRestore,
    /// The state keeps the members that it was first told of.
    MembersNotUpdated,
    /// A flush of the state that failed is taken for one that did not.
    FlushErrorIgnored,
    /// openraft is asked for requests without entries while others are in flight, and takes the answers to those for
    /// theirs.
    AskedTooEarly,
    /// The activator tells the catalog that a flow's home has done its part, and does not ask it.
    HandOverBelieved,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoSyncBeforeAck,
        Self::VoteNotPersisted,
        Self::LogOutOfOrder,
        Self::FlushNotDurable,
        Self::SnapshotWithoutFence,
        Self::FenceIgnored,
        Self::LeaderRestore,
        Self::MembersNotUpdated,
        Self::FlushErrorIgnored,
        Self::AskedTooEarly,
        Self::HandOverBelieved,
    ];

    /// The bug with this name, as its `Debug` form writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

/// What a run can be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// 3 or 5.
    pub nodes: u64,
    /// Partitions, each of them on all nodes, as is the catalog.
    pub groups: u16,
    /// Simulated milliseconds of faults.
    pub faults_ms: u64,
    /// Simulated milliseconds that everything may then take to finish.
    pub rest_ms_max: u64,
    /// A bug to be found.
    pub planted: Option<Planted>,
    /// Keep the trace as text.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            groups: 2,
            faults_ms: 8_000,
            rest_ms_max: 60_000,
            planted: None,
            verbose: false,
        }
    }
}
