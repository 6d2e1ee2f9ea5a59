//! One group's client of one peer, as openraft wants it. As `crates/replica/src/network/client.rs`.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openraft::{
    OptionalSend,
    alias::{SnapshotOf, VoteOf},
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use prost::Message as _;
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::time::timeout;

use super::{
    append,
    links::{Links, Request},
    wire,
};
use crate::{
    codec::{log_id_to_wire, stored_membership_to_wire, vote_from_wire, vote_to_wire},
    limits::SNAPSHOT_TIMEOUT,
    raft::Types,
    run,
    shared::Shared,
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
    pub(super) target: u64,
    pub(super) purpose: Use,
    pub(super) links: Arc<Links>,
    pub(super) shared: Arc<Shared>,
}

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// Always with a pause before the next try, as in production.
pub(super) fn failure(why: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&std::io::Error::other(why.to_owned())))
}

pub(super) fn malformed(error: impl std::error::Error + 'static) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&error))
}

fn bytes_of(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

/// As the production transport: one interval is what a heartbeat's answer is worth.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(75);

impl Client {
    async fn ask(&self, request: Request, wait: Duration) -> Result<Bytes, RPCError<Types>> {
        let told = self.links.call(self.node, self.target, self.group, request);
        match timeout(wait, told).await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(broken))) => Err(failure(&format!("{broken:?}"))),
            Ok(Err(_)) => Err(failure("the call is gone")),
            Err(_) => Err(failure("no answer in time")),
        }
    }

    async fn append<S>(&self, input: S) -> BoxStream<'static, Answer>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let (links, shared) = (&self.links, &self.shared);
        append::open(links, self.node, self.target, self.group, shared, input).await
    }

    async fn heartbeat(&self, request: AppendEntriesRequest<Types>) -> Answer {
        let request = bytes_of(&wire::append_to_wire(request));
        let answer = self
            .ask(Request::Heartbeat(request), HEARTBEAT_TIMEOUT)
            .await?;
        let answer = peer::AppendResponse::decode(answer).map_err(malformed)?;
        wire::appended_from_wire(answer).map_err(malformed)
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<Types>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        if !pre_vote {
            // Whoever stands for election has voted for itself.
            let leader = request.vote.leader_id;
            run::on_vote(self.group, self.node, leader.term, leader.voted_for);
        }
        let request = bytes_of(&wire::vote_request_to_wire(self.group, request, pre_vote));
        let answer = self.ask(Request::Vote(request), option.soft_ttl()).await?;
        let answer = peer::VoteResponse::decode(answer).map_err(malformed)?;
        wire::vote_response_from_wire(answer).map_err(malformed)
    }

    async fn send_snapshot(
        &self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotSource>,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        let rows = match snapshot.snapshot {
            SnapshotSource::Live { state, .. } => {
                crate::platform::run_blocking(move || SnapshotSource::checkpoint(&state)).await
            }
            SnapshotSource::Received(rows) => Ok(Ok(rows)),
        };
        let rows = rows
            .and_then(std::convert::identity)
            .map_err(|error| failure(&error.to_string()))?;
        let header = bytes_of(&peer::SnapshotHeader {
            group: self.group.0.into(),
            vote: Some(vote_to_wire(&vote)),
            last: snapshot.meta.last_log_id.map(log_id_to_wire),
            membership: Some(stored_membership_to_wire(&snapshot.meta.last_membership)),
            files: Vec::new(),
        });
        run::count("snapshots sent");
        let answer = self
            .ask(Request::Snapshot(header, rows), SNAPSHOT_TIMEOUT)
            .await?;
        let answer = peer::SnapshotResponse::decode(answer).map_err(malformed)?;
        let vote = vote_from_wire(answer.vote).map_err(malformed)?;
        Ok(SnapshotResponse::new(vote))
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
        let input = Box::pin(stream::once(async { request }));
        let mut answers = self.append(input).await;
        match answers.next().await {
            Some(answer) => answer.map(Into::into),
            None => Err(failure("the stream ended")),
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
            return Box::pin(async move {
                let answers: BoxStream<'s, Answer> = self.append(input).await;
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
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot) => sent,
        };
        let sent = sent?;
        self.shared.snapshots_sent.fetch_add(1, Relaxed);
        Ok(sent)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let last = request.last_log_id().copied();
        let call = bytes_of(&wire::transfer_to_wire(self.group, &request));
        let answer = self.ask(Request::Transfer(call), option.soft_ttl()).await?;
        let answer = peer::TransferLeaderResponse::decode(answer).map_err(malformed)?;
        wire::transferred_from_wire(answer, *request.from_leader(), last).map_err(malformed)
    }
}
