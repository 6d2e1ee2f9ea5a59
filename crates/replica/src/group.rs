//! The handle of one Raft group on this node.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tidemill_rows::Epoch;
use tidemill_types::{NodeId, PartitionId};
use tokio::sync::watch;

use crate::{ProposeError, ReadError};

/// Who leads a group, as far as this node knows now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, when one has been heard of since this node started.
    pub leader: Option<NodeId>,
    /// It is this node.
    pub is_self: bool,
    /// The term in which it leads.
    pub term: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log index.
    pub index: u64,
}

/// One Raft group on this node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    id: PartitionId,
    leadership: watch::Receiver<Leadership>,
    applied: watch::Receiver<u64>,
}

impl Group {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Who leads; changes are told at once.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Commits the start of a new epoch and waits until it is applied here.
    ///
    /// # Errors
    /// [`ProposeError`]; after `Unknown` another epoch can be started.
    pub async fn start_epoch(&self) -> Result<Epoch, ProposeError> {
        Err(ProposeError::NotLeader { leader: None })
    }

    /// Queues a batch (`tidemill_rows::Batch::encode`). The order of calls is the order in the log.
    #[must_use]
    pub fn propose(&self, _epoch: Epoch, _batch: Bytes) -> Proposal {
        Proposal(())
    }

    /// Returns when everything acknowledged before the call is applied here. Leader only.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        Err(ReadError::NotLeader { leader: None })
    }

    /// Index of the last entry applied here; changes on every replica.
    #[must_use]
    pub fn applied_changes(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// Why the group has stopped on this node, if it has.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        None
    }
}

/// A batch on its way; resolves when it is applied on this node, or failed.
#[must_use = "the outcome of a proposal decides what to answer"]
pub struct Proposal(());

impl Future for Proposal {
    type Output = Result<Committed, ProposeError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(ProposeError::NotLeader { leader: None }))
    }
}
