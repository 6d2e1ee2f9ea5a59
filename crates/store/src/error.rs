//! What can go wrong with stored data, by what the caller does next.

use std::{io, path::Path};

use thiserror::Error;
use tidemill_types::{ErrorClass, NodeId, PartitionId};

/// Why an operation of an open store failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// An earlier write or fsync failed, so nothing is written any more: the process must end. Whether
    /// the writes in flight then are on disk is not known before a restart.
    #[error("the store is stopped after a failed write: the node must restart")]
    Stopped,
    /// The disk, or what must be kept free of it, is full. Nothing was written.
    #[error("no space left for {what}")]
    NoSpace {
        /// What was to be written.
        what: String,
    },
    /// The operating system refused something.
    #[error("{what}: {error}")]
    Io {
        /// What was attempted.
        what: String,
        /// What it answered.
        error: String,
    },
    /// Stored bytes are damaged, or something that must be there is not.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What is damaged, and how.
        what: String,
    },
    /// The entry asked for was purged from the log; a snapshot holds what it did.
    #[error("log entry {index} of partition {group} was purged; entries start after {purged}")]
    Purged {
        /// The group.
        group: PartitionId,
        /// The first index asked for.
        index: u64,
        /// The last index that was purged.
        purged: u64,
    },
}

impl StoreError {
    /// What the caller does next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Stopped | Self::Io { .. } => ErrorClass::Unknown,
            Self::NoSpace { .. } => ErrorClass::Unavailable,
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            Self::Purged { .. } => ErrorClass::NotFound,
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let what = what.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { what },
            _ => Self::Io {
                what,
                error: error.to_string(),
            },
        }
    }

    pub(crate) fn path(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::io(format!("{doing} {}", path.display()), error)
    }
}

/// Why a data directory could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The directory belongs to somebody else.
    #[error(
        "data directory {dir} belongs to node {found_node} of cluster {found_cluster:?}, not to node \
         {node} of cluster {cluster:?}"
    )]
    OtherIdentity {
        /// The directory.
        dir: String,
        /// The cluster that wrote it.
        found_cluster: String,
        /// The node that wrote it.
        found_node: NodeId,
        /// The cluster that was configured.
        cluster: String,
        /// The node that was configured.
        node: NodeId,
    },
    /// A newer version wrote the directory.
    #[error(
        "data directory {dir} has format {found}, this version knows formats up to {known}: use the \
         version that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The directory.
        dir: String,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The directory is not empty, and nothing says that Tidemill wrote it.
    #[error("data directory {dir} holds other files and no IDENTITY: choose an empty directory")]
    NotOurs {
        /// The directory.
        dir: String,
    },
    /// Another process has the directory open.
    #[error("data directory {dir} is in use by another process")]
    Locked {
        /// The directory.
        dir: String,
    },
    /// It was found damaged, or could not be read or written.
    #[error("cannot open data directory {dir}: {error}")]
    Store {
        /// The directory.
        dir: String,
        /// Why.
        error: StoreError,
    },
}
