//! One group's client of one peer, as openraft wants it.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use openraft::{
    OptionalSend, RPCTypes,
    alias::{SnapshotOf, VoteOf},
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tidemill_types::PartitionId;
use tokio::sync::oneshot;
use tonic::{Code, Request, Status};

use super::{append, heartbeat::Due, link::Link, snapshot, wire};
use crate::{
    codec::CodecError, limits::SNAPSHOT_TIMEOUT, raft::Types, shared::Shared,
    snapshot::SnapshotSource,
};

/// What openraft uses a client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Append,
    Heartbeat,
}

/// One group's client of one peer.
pub(crate) struct Client {
    pub(super) group: PartitionId,
    pub(super) node: u64,
    pub(super) link: Arc<Link>,
    pub(super) purpose: Use,
    pub(super) shared: Arc<Shared>,
    pub(super) dir: Arc<Path>,
}

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// Makes openraft's errors of ours.
#[derive(Clone)]
pub(super) struct Failure {
    pub node: u64,
    pub link: Arc<Link>,
    pub action: RPCTypes,
}

impl Failure {
    pub fn timeout(&self, timeout: Duration) -> RPCError<Types> {
        self.link.counters.failures.fetch_add(1, Relaxed);
        RPCError::Timeout(Timeout {
            action: self.action,
            id: self.node,
            target: self.link.target,
            timeout,
        })
    }

    /// Always with a pause before the next try: the port refuses connections while a node restarts.
    pub fn of(&self, status: &Status) -> RPCError<Types> {
        self.link.counters.failures.fetch_add(1, Relaxed);
        match status.code() {
            Code::Internal | Code::InvalidArgument => {
                tracing::warn!(peer = self.link.target, %status, "peer call failed");
            }
            _ => tracing::debug!(peer = self.link.target, %status, "peer call failed"),
        }
        RPCError::Unreachable(Unreachable::new(status))
    }
}

fn malformed(error: CodecError) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

impl Client {
    fn failure(&self, action: RPCTypes) -> Failure {
        Failure {
            node: self.node,
            link: Arc::clone(&self.link),
            action,
        }
    }

    async fn heartbeat(&self, request: AppendEntriesRequest<Types>) -> Answer {
        let failure = self.failure(RPCTypes::AppendEntries);
        let (tell, told) = oneshot::channel();
        let due = Due {
            group: self.group,
            request: wire::append_to_wire(request),
            tell,
        };
        if self.link.heartbeats.send(due).await.is_err() {
            return Err(failure.of(&Status::unavailable("the replica is shutting down")));
        }
        match told.await {
            Ok(answer) => answer.map_err(|status| failure.of(&status)),
            Err(_) => Err(failure.of(&Status::unavailable("the replica is shutting down"))),
        }
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<Types>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = wire::vote_request_to_wire(self.group, request, pre_vote);
        let mut call = Request::new(request);
        call.set_timeout(option.soft_ttl());
        let response = self
            .link
            .client()
            .vote(call)
            .await
            .map_err(|status| self.failure(RPCTypes::Vote).of(&status))?;
        wire::vote_response_from_wire(response.into_inner()).map_err(malformed)
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotSource;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        // openraft appends by `stream_append`; this is its way for transports without streams.
        let failure = self.failure(RPCTypes::AppendEntries);
        let input = Box::pin(stream::once(async { request }));
        let mut answers =
            append::open(&self.link, self.group, &self.shared, failure.clone(), input).await?;
        match answers.next().await {
            Some(answer) => answer.map(Into::into),
            None => Err(failure.of(&Status::unavailable("the stream ended"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Answer>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Use::Append {
            let failure = self.failure(RPCTypes::AppendEntries);
            return Box::pin(async move {
                let answers: BoxStream<'s, Answer> =
                    append::open(&self.link, self.group, &self.shared, failure, input).await?;
                Ok(answers)
            });
        }
        Box::pin(async move {
            let client = &*self;
            // Each heartbeat opens such a stream, of one request, and reads it to its end.
            let answers: BoxStream<'s, Answer> =
                Box::pin(stream::unfold(input, move |mut input| async move {
                    let request = input.next().await?;
                    Some((client.heartbeat(request).await, input))
                }));
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(request, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotSource>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let failure = self.failure(RPCTypes::InstallSnapshot);
        let send = snapshot::send(&self.link, self.group, vote, snapshot, &self.dir);
        let sent = tokio::select! {
            closed = cancel => return Err(closed.into()),
            sent = tokio::time::timeout(SNAPSHOT_TIMEOUT, send) => sent,
        };
        match sent {
            Ok(Ok(response)) => {
                self.shared.snapshots_sent.fetch_add(1, Relaxed);
                Ok(response)
            }
            Ok(Err(status)) => Err(failure.of(&status).into()),
            Err(_) => Err(failure.timeout(SNAPSHOT_TIMEOUT).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let last = request.last_log_id().copied();
        let mut call = Request::new(wire::transfer_to_wire(self.group, &request));
        call.set_timeout(option.soft_ttl());
        let response = self
            .link
            .client()
            .transfer_leader(call)
            .await
            .map_err(|status| self.failure(RPCTypes::TransferLeader).of(&status))?;
        wire::transferred_from_wire(response.into_inner(), *request.from_leader(), last)
            .map_err(malformed)
    }
}
