//! The only home of openraft: Raft groups, the network between peers, proposals, read barriers and
//! news of leadership.
//!
//! Owns: the groups of this node, the peer port and the connections to the other nodes, the
//! encoding of log entries, the fence rule at apply. Must never: decide what a batch contains, read
//! a business row, or let a type of openraft cross its public API.
//!
//! A caller that leads a group: [`Group::start_epoch`], wait, read rows from [`Group::state`],
//! decide, [`Group::propose`] with that epoch and numbers 1, 2, 3 and so on. On the first error of a
//! proposal it drops what it holds in memory and starts a new epoch, if it still leads.

mod change;
mod codec;
mod config;
mod directory;
mod elsewhere;
mod error;
mod group;
mod handover;
mod limits;
mod log;
mod machine;
mod member;
mod members;
mod network;
mod platform;
mod raft;
mod replica;
mod shared;
mod snapshot;
mod space;
mod stats;
#[cfg(test)]
mod storage_suite;
mod tasks;

pub use config::{ConfigError, ReplicaConfig, SnapshotPolicy};
pub use error::{ChangeError, ProposeError, ReadError, StartError};
pub use group::{Committed, Group, Leadership, Proposal, StoppedGroup};
pub use member::Member;
#[doc(hidden)]
pub use network::fuzz;
pub use network::{PeerChannel, PeerIdentity};
pub use replica::Replica;
pub use stats::{GroupStats, PeerStats, ReplicaStats};
