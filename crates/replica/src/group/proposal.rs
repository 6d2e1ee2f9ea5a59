//! A batch on its way, and the task that hands proposals to openraft in order.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use openraft::{errors::ClientWriteError, raft::ClientWriteResponse};
use tidemill_types::NodeId;
use tokio::sync::{mpsc, oneshot};

use crate::{
    ProposeError,
    raft::{Applied, Command, Raft, Types, WriteReceiver, WriteResponder, WriteResult},
};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its log index.
    pub index: u64,
}

/// A batch on its way; resolves when it is applied on this node, or failed. Dropping it changes
/// nothing about the batch.
#[must_use = "the outcome of a proposal decides what to answer"]
pub struct Proposal(Inner);

enum Inner {
    Failed(Option<ProposeError>),
    Waiting(WriteReceiver),
}

impl Proposal {
    pub(super) fn failed(error: ProposeError) -> Self {
        Self(Inner::Failed(Some(error)))
    }

    pub(super) fn waiting(told: WriteReceiver) -> Self {
        Self(Inner::Waiting(told))
    }
}

impl Future for Proposal {
    type Output = Result<Committed, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(ProposeError::Unknown))),
            Inner::Waiting(told) => {
                let told = ready!(Pin::new(told).poll(context));
                Poll::Ready(outcome(told).map(|written| Committed {
                    index: written.log_id.index(),
                }))
            }
        }
    }
}

/// What openraft said, by what the caller does next.
pub(super) fn outcome(
    told: Result<WriteResult, oneshot::error::RecvError>,
) -> Result<ClientWriteResponse<Types>, ProposeError> {
    match told {
        Ok(Ok(written)) => match written.data {
            Applied::Done => Ok(written),
            Applied::Refused(refusal) => Err(ProposeError::Fenced(refusal)),
        },
        // Refused before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(ProposeError::NotLeader {
            leader: forward.leader_id.map(NodeId),
        }),
        // Appended here and replaced, which says nothing about other nodes; or openraft stopped.
        Ok(Err(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        ))
        | Err(_) => Err(ProposeError::Unknown),
    }
}

/// A command on its way to openraft.
pub(super) struct Queued {
    pub command: Command,
    /// The term in which it was decided; in another one it is not even appended.
    pub term: u64,
    pub responder: WriteResponder,
}

/// Hands proposals to openraft one after the other: only then is the order kept. Ends when all handles
/// of the group are gone, or openraft is.
pub(super) async fn submit(raft: Raft, mut queue: mpsc::Receiver<Queued>) {
    while let Some(queued) = queue.recv().await {
        let write = raft
            .write(queued.command)
            .with_leader(queued.term)
            .responder(queued.responder);
        if write.await.is_err() {
            // Stopped. The responders are dropped, which tells their proposals.
            return;
        }
    }
}
