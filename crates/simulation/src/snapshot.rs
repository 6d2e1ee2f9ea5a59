//! In the place of `crates/replica/src/snapshot.rs`: a snapshot's data are rows, not files. As there,
//! they are made when somebody needs them and can hold more than what the snapshot is announced as.

use std::{io, path::Path, sync::Arc};

use tidemill_core::memory::MemoryRows;

use crate::{StateStore, log::io_error};

/// A snapshot's data.
pub(crate) enum SnapshotSource {
    /// The state of this node.
    Live {
        state: StateStore,
        #[allow(dead_code)] // the shared state machine gives it
        dir: Arc<Path>,
    },
    /// What came from another node.
    Received(MemoryRows),
}

impl SnapshotSource {
    /// A copy of `state` as it is now.
    pub fn checkpoint(state: &StateStore) -> Result<MemoryRows, io::Error> {
        state.checkpoint().map_err(io_error)
    }

    pub fn install(self, into: &StateStore) -> Result<(), io::Error> {
        let rows = match self {
            Self::Received(rows) => rows,
            Self::Live { state, .. } => Self::checkpoint(&state)?,
        };
        into.install(rows).map_err(io_error)
    }
}
