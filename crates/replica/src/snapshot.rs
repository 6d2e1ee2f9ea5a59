//! Snapshots: the files of a checkpoint, made when somebody needs them.
//!
//! A snapshot is announced as what the state durably held when it was last flushed; its files are made
//! later and can hold more. That is sound, since what is applied is committed: the receiver's state is
//! then ahead of what openraft believes, and apply skips what it already holds. The alternative,
//! keeping the files of every snapshot, would keep deleted rows on disk for as long.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tidemill_store::{CheckpointFiles, StateStore};

use crate::log::io_error;

/// A snapshot's data.
pub(crate) enum SnapshotSource {
    /// The state of this node.
    Live {
        /// The state.
        state: StateStore,
        /// The node's data directory, where checkpoints can be made.
        dir: Arc<Path>,
    },
    /// Files that came from another node.
    Received(SnapshotDir),
}

impl SnapshotSource {
    /// Makes the files of `state` as it is now, below `dir`. Blocks.
    pub fn checkpoint(
        state: &StateStore,
        dir: &Path,
    ) -> Result<(SnapshotDir, CheckpointFiles), io::Error> {
        let made = SnapshotDir::temporary(dir);
        let files = state.checkpoint(made.path()).map_err(io_error)?;
        Ok((made, files))
    }

    /// Blocks.
    pub fn install(self, into: &StateStore) -> Result<(), io::Error> {
        match self {
            Self::Received(dir) => into.install(dir.path()).map_err(io_error),
            Self::Live { state, dir } => {
                let (made, _) = Self::checkpoint(&state, &dir)?;
                into.install(made.path()).map_err(io_error)
            }
        }
    }
}

/// A directory with a snapshot's files; removed when dropped.
pub(crate) struct SnapshotDir(PathBuf);

/// Where snapshots are made and received, below a node's data directory.
const DIR: &str = "snapshots";

impl SnapshotDir {
    /// A new name below `parent`; the directory is not made.
    pub fn temporary(parent: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self(parent.join(DIR).join(name))
    }

    /// Removes what a crash left.
    pub fn clear(parent: &Path) -> Result<(), io::Error> {
        let dir = parent.join(DIR);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&dir),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.0.display(), %error, "snapshot files left behind");
        }
    }
}
