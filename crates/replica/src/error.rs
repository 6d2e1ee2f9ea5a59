//! One error per public operation.

use std::net::SocketAddr;

use thiserror::Error;
use tidemill_types::{ErrorClass, NodeId, PartitionId};

use crate::ConfigError;

/// Why a replica did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The peer port cannot be listened on.
    #[error("cannot listen for peers on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is stored of one group is damaged or cannot be read. The other groups can go on.
    #[error("{} is damaged: {reason}", named(*group))]
    Damaged {
        /// The group.
        group: PartitionId,
        /// What was found.
        reason: String,
    },
    /// What is stored cannot be used.
    #[error("group {group}: {reason}")]
    Store {
        /// The group.
        group: PartitionId,
        /// What was found.
        reason: String,
    },
}

/// A group as people know it.
fn named(group: PartitionId) -> String {
    if group.is_catalog() {
        "the catalog".to_owned()
    } else {
        format!("partition {group}")
    }
}

/// Why a batch or an epoch was not committed, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Not appended: another node leads, or none does.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<NodeId>,
    },
    /// Committed, and dropped whole on every replica: it was decided on other state.
    #[error("the batch was dropped by the fence: {0}")]
    Fenced(tidemill_rows::FenceRefusal),
    /// Handed to the log; whether it is committed is not known.
    #[error("the outcome of the proposal is not known")]
    Unknown,
    /// Not appended: more bytes than an entry may have.
    #[error("the batch has {got} bytes, at most {max} are allowed")]
    TooLarge {
        /// Its bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not appended: too many proposals wait.
    #[error("too many proposals wait")]
    Overloaded,
    /// Not appended: the disk is nearly full.
    #[error("the disk is nearly full")]
    NoSpace,
    /// Not appended: the group has stopped on this node.
    #[error("the group has stopped on this node: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ProposeError {
    /// What a caller does next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotLeader { .. } | Self::NoSpace => ErrorClass::Unavailable,
            // Not in the state, on any replica, ever: as good as not proposed.
            Self::Fenced(_) => ErrorClass::Unavailable,
            Self::Unknown => ErrorClass::Unknown,
            Self::TooLarge { .. } => ErrorClass::Invalid,
            Self::Overloaded => ErrorClass::Overloaded,
            Self::Stopped { .. } => ErrorClass::Corrupt,
        }
    }
}

/// Why a read barrier did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// Another node leads, or none does.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<NodeId>,
    },
    /// This node leads but reaches too few others to be sure.
    #[error("too few nodes of the group are reached")]
    NoQuorum,
    /// The group has stopped on this node.
    #[error("the group has stopped on this node: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl ReadError {
    /// What a caller does next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotLeader { .. } | Self::NoQuorum => ErrorClass::Unavailable,
            Self::Stopped { .. } => ErrorClass::Corrupt,
        }
    }
}

/// Why the cluster's layout was not changed. All changes can be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is another cluster on this node's disk, or at the other end.
    #[error("{0}")]
    Conflict(String),
    /// Nobody could do it now.
    #[error("not possible now: {0}")]
    Unavailable(String),
    /// Started; how it ended is not known.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

impl ChangeError {
    /// What a caller does next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid(_) => ErrorClass::Invalid,
            Self::Conflict(_) => ErrorClass::Rejected,
            Self::Unavailable(_) => ErrorClass::Unavailable,
            Self::Unknown(_) => ErrorClass::Unknown,
        }
    }
}
