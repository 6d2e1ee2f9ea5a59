//! The handle of one Raft group on this node.

mod barrier;
mod keeper;
mod open;
mod proposal;
mod stopped;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use openraft::{
    ReadPolicy, async_runtime::WatchReceiver, errors::LinearizableReadError, errors::RaftError,
    impls::ProgressResponder,
};
use tidemill_rows::{EncodedBatch, Epoch};
use tidemill_store::StateStore;
use tidemill_types::{NodeId, PartitionId};
use tokio::sync::{mpsc, watch};

use self::{
    barrier::Barriers,
    proposal::{Queued, outcome},
};
pub use self::{
    proposal::{Committed, Proposal},
    stopped::StoppedGroup,
};
use crate::{
    GroupStats, ProposeError, ReadError,
    limits::ENTRY_BYTES_MAX,
    raft::{Command, Raft},
    shared::Shared,
    space::SpaceWatch,
};

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

/// One Raft group on this node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    id: PartitionId,
    raft: Raft,
    state: StateStore,
    shared: Arc<Shared>,
    leadership: watch::Receiver<Leadership>,
    /// For when the group has stopped here, and its keeper with it.
    tell: watch::Sender<Leadership>,
    proposals: mpsc::Sender<Queued>,
    space: Arc<SpaceWatch>,
    barriers: Barriers,
}

impl Group {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.inner.id
    }

    /// Who leads; changes are told at once. A leader that reaches too few others is none, and nor is
    /// one from before a crash that has not been heard since.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Commits the start of a new epoch and waits until it is applied here. From then on all batches of
    /// earlier epochs are refused.
    ///
    /// # Errors
    /// [`ProposeError`]; after `Unknown` another epoch can be started.
    pub async fn start_epoch(&self) -> Result<Epoch, ProposeError> {
        self.check()?;
        let term = self.inner.leadership.borrow().term;
        let (responder, told) = ProgressResponder::complete_only();
        let queued = Queued {
            command: Command::EpochStart,
            term,
            responder,
        };
        // Waits for room: an epoch has no order to keep with what was proposed before it.
        if self.inner.proposals.send(queued).await.is_err() {
            return Err(self.stopped());
        }
        let written = outcome(told.await)?;
        Ok(Epoch {
            term: written.log_id.committed_leader_id().term,
            index: written.log_id.index(),
        })
    }

    /// Queues a batch. The order of calls is the order in the log. How
    /// many are in flight is the caller's affair, up to `ReplicaConfig::proposals_waiting_max`.
    pub fn propose(&self, batch: EncodedBatch) -> Proposal {
        if let Err(error) = self.check() {
            return Proposal::failed(error);
        }
        let got = batch.bytes().len();
        if got > ENTRY_BYTES_MAX {
            let max = ENTRY_BYTES_MAX;
            return Proposal::failed(ProposeError::TooLarge { got, max });
        }
        let (responder, told) = ProgressResponder::complete_only();
        let queued = Queued {
            term: batch.epoch().term,
            command: Command::Batch(batch.into_bytes()),
            responder,
        };
        match self.inner.proposals.try_send(queued) {
            Ok(()) => {
                self.inner.shared.proposed.fetch_add(1, Relaxed);
                Proposal::waiting(told)
            }
            Err(mpsc::error::TrySendError::Full(_)) => Proposal::failed(ProposeError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Proposal::failed(self.stopped()),
        }
    }

    fn check(&self) -> Result<(), ProposeError> {
        if self.inner.shared.fault().is_some() {
            return Err(self.stopped());
        }
        if self.inner.space.is_critical() {
            return Err(ProposeError::NoSpace);
        }
        Ok(())
    }

    fn stopped(&self) -> ProposeError {
        ProposeError::Stopped {
            reason: self.reason(),
        }
    }

    fn reason(&self) -> String {
        reason(&self.inner.shared)
    }

    /// Returns when everything acknowledged before the call is applied here, so that a read of
    /// [`Self::state`] sees it. Leader only. Costs no message while the leader's lease is valid, and
    /// is shared by all who ask at about the same time.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        // Not this group itself: a round that nobody awaits any more would keep it from closing.
        let (raft, shared) = (self.inner.raft.clone(), Arc::clone(&self.inner.shared));
        let begin = move || async move { own_barrier(&raft, &shared).await };
        self.inner.barriers.pass(begin).await
    }

    /// The rows, for reading; only this crate writes them.
    #[must_use]
    pub fn state(&self) -> StateStore {
        self.inner.state.clone()
    }

    /// Index of the last entry applied here.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.inner.shared.applied_index()
    }

    /// Index of the last entry applied here; changes on every replica.
    #[must_use]
    pub fn applied_changes(&self) -> watch::Receiver<u64> {
        self.inner.shared.applied()
    }

    /// Why the group has stopped on this node, if it has.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.inner.shared.fault().cloned()
    }

    /// Where the group stands.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leadership = *self.inner.leadership.borrow();
        let shared = &self.inner.shared;
        GroupStats {
            id: self.inner.id,
            term: metrics.current_term,
            leader: leadership.leader,
            is_leader: leadership.is_self,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: self.applied(),
            snapshot: metrics.snapshot.map_or(0, |id| id.index()),
            purged: metrics.purged.map_or(0, |id| id.index()),
            proposed: shared.proposed.load(Relaxed),
            committed: shared.committed.load(Relaxed),
            fenced: shared.fenced.load(Relaxed),
            snapshots_sent: shared.snapshots_sent.load(Relaxed),
            snapshots_installed: shared.snapshots_installed.load(Relaxed),
            fault: self.fault(),
        }
    }

    /// Stops the group on this node: whoever decides by its rows has found them damaged. It still takes
    /// entries, which go into its log, but proposes nothing, does not stand for election, and hands
    /// over what it leads.
    pub fn retire(&self, reason: &str) {
        self.inner.shared.set_fault(reason.to_owned());
        self.inner.raft.runtime_config().elect(false);
    }

    /// Tells who leads a group that has stopped here.
    pub(crate) fn led_by(&self, leader: Option<NodeId>) {
        stopped::lead(&self.inner.tell, leader);
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }
}

fn reason(shared: &Shared) -> String {
    let fault = shared.fault().cloned();
    fault.unwrap_or_else(|| "the replica is shutting down".to_owned())
}

async fn own_barrier(raft: &Raft, shared: &Shared) -> Result<(), ReadError> {
    let error = match raft.ensure_linearizable(ReadPolicy::LeaseRead).await {
        Ok(_) => return Ok(()),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    Err(match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
            ReadError::NotLeader {
                leader: forward.leader_id.map(NodeId),
            }
        }
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ReadError::NoQuorum,
        RaftError::Fatal(_) => ReadError::Stopped {
            reason: reason(shared),
        },
    })
}
