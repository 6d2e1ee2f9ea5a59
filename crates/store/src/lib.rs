//! What a node keeps on disk: the Raft log of all its groups, their state, checkpoints.
//!
//! The only home of RocksDB, whose types do not cross this crate's public API. It stores bytes and
//! decides nothing: what an entry or a row means is known to `replica`, `rows` and `core`. Damage is
//! always an error, never an empty answer. See `docs/adr/0004-store.md`.
//!
//! Everything here is blocking code; each method says whether it may wait for the disk.

mod error;
mod file;
mod identity;
mod log;
mod memory;
mod node;
mod options;
mod space;
mod state;
mod stats;
mod stop;
mod vendor;

pub use error::{OpenError, StoreError};
pub use identity::{FORMAT, StoreIdentity};
pub use log::{Done, LogEntry, LogStore};
pub use node::NodeStore;
pub use options::{OnFailStop, StoreOptions};
pub use space::Space;
pub use state::{
    CHECKPOINT_LIST, CheckpointFile, CheckpointFiles, StateStore, StateView, Verified,
};
pub use stats::StoreStats;
