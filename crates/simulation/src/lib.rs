//! Whole nodes in one process: real openraft, the replica's and the store's own logic and the real
//! partition actors of three or five nodes, over a simulated network, simulated disks and simulated time.
//!
//! How: this crate compiles the files of `crates/replica` (and two of `crates/store`) a second time,
//! against its own `platform`, network, snapshots and store, which stand where theirs do. So what runs
//! here is what runs in production, line for line, and the production build knows nothing of it.
//! `docs/simulator.md` says what is real and what is not. Must never be a dependency of anything that ships.

// The shared files name the store, and the fence, by their crates: here they find the simulated ones.
extern crate self as tidemill_rows;
extern crate self as tidemill_store;

mod fence;
mod network;
mod options;
mod platform;
mod run;
mod snapshot;
mod store;
mod world;

/// The real files.
#[allow(dead_code, unused_imports)] // not all of what they offer is used here
#[path = "../../replica/src"]
mod replica {
    pub(crate) mod change;
    pub(crate) mod codec;
    pub(crate) mod group;
    pub(crate) mod limits;
    pub(crate) mod log;
    pub(crate) mod machine;
    pub(crate) mod raft;
    pub(crate) mod shared;
    pub(crate) mod space;
    pub(crate) mod tasks;
}
#[path = "../../store/src/log/committed.rs"]
mod committed;
#[allow(dead_code)]
#[path = "../../store/src/error.rs"]
mod store_error;
#[allow(dead_code)]
#[path = "../../store/src/log/tail.rs"]
mod tail;

use replica::{change, codec, group, limits, log, machine, raft, shared, space, tasks};
use tidemill_replica::{GroupStats, ProposeError, ReadError, ReplicaConfig, StartError};

// As `tidemill_rows`.
pub(crate) use fence::Fence;
pub(crate) use rows::{
    AsChange, Batch, Change, CheckedBatch, EncodedBatch, Epoch, FenceRefusal, Key, Mutation, Table,
    key,
};
// As `tidemill_store`.
pub(crate) use store::{Done, LogEntry, LogStore, NodeStore, StateStore};
#[cfg(test)]
pub(crate) use store::{StoreIdentity, StoreOptions};
pub(crate) use store_error::StoreError;

pub use options::{Options, Planted};
pub use run::Violation;
pub use world::{Outcome, World};
