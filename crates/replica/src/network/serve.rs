//! What a node answers its peers.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, future::join_all};
use openraft::{
    alias::VoteOf,
    async_runtime::WatchReceiver,
    errors::{Fatal, RaftError},
    raft::{AppendEntriesRequest, StreamAppendError},
};
use tidemill_proto::peer::v1::{self as peer, peer_service_server::PeerService};
use tidemill_types::PartitionId;
use tonic::{Request, Response, Status, Streaming};

use super::{snapshot::Incoming, wire};
use crate::{
    codec::vote_to_wire, directory::Directory, group::Group, limits::PARTITIONS_MAX, members,
    raft::Types,
};

/// Metadata of an append stream: its group.
pub(super) const GROUP: &str = "tidemill-group";

/// The peer port's own service.
pub(crate) struct PeerServer {
    directory: Arc<Directory>,
}

fn wrong(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn fatal(error: &Fatal<Types>) -> Status {
    Status::unavailable(format!("the group has stopped on this node: {error}"))
}

fn raft_error(error: &RaftError<Types>) -> Status {
    match error {
        RaftError::Fatal(error) => fatal(error),
        // An empty enum, which the compiler does not see through the reference.
        RaftError::APIError(_) => Status::internal("no such error"),
    }
}

impl PeerServer {
    pub fn new(directory: Arc<Directory>) -> Self {
        Self { directory }
    }

    /// A leader may call for a group that this node has not opened yet: then it is a new member.
    async fn group(&self, id: u32) -> Result<Group, Status> {
        match u16::try_from(id) {
            Ok(id) if id <= self.directory.partitions().unwrap_or(PARTITIONS_MAX) => self
                .directory
                .open(PartitionId(id))
                .await
                .map_err(|error| Status::unavailable(error.to_string())),
            _ => Err(wrong(format!("there is no group {id}"))),
        }
    }

    fn check_space(&self) -> Result<(), Status> {
        if self.directory.space().is_critical() {
            return Err(Status::resource_exhausted("the disk is nearly full"));
        }
        Ok(())
    }

    async fn heartbeat(
        &self,
        heartbeat: peer::GroupHeartbeat,
    ) -> Result<peer::AppendResponse, Status> {
        let group = self.group(heartbeat.group).await?;
        let request =
            wire::append_from_wire(heartbeat.append.unwrap_or_default()).map_err(wrong)?;
        if !request.entries.is_empty() {
            return Err(wrong("a heartbeat carries no entries"));
        }
        let prev = request.prev_log_id;
        let vote = request.vote;
        let response = group
            .raft()
            .append_entries(request)
            .await
            .map_err(|error| raft_error(&error))?;
        let result = wire::heartbeat_result(response, prev)
            .ok_or_else(|| Status::internal("nothing cannot conflict"))?;
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            group.shared().hear(&vote);
        }
        Ok(wire::appended_to_wire(result))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<peer::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PeerService for PeerServer {
    type AppendStream = Answers;

    async fn append(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let group = request
            .metadata()
            .get(GROUP)
            .and_then(|group| group.to_str().ok()?.parse().ok())
            .ok_or_else(|| wrong(format!("metadata {GROUP} must be a group's number")))?;
        self.check_space()?;
        let group = self.group(group).await?;
        let shared = Arc::clone(group.shared());
        let space = Arc::clone(self.directory.space());
        // Damage ends the stream; the leader opens another.
        let requests = request
            .into_inner()
            .map(move |request| {
                if space.is_critical() {
                    return None;
                }
                let request: AppendEntriesRequest<Types> =
                    wire::append_from_wire(request.ok()?).ok()?;
                shared.hear(&request.vote);
                Some(request)
            })
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready)
            // openraft's stream ends with its input only, which may be silent for long.
            .take_until(self.directory.tasks().stopped());
        let answers = group
            .raft()
            .stream_append(requests)
            .map(|answer| match answer {
                Ok(answer) => Ok(wire::appended_to_wire(answer)),
                Err(error) => Err(fatal(&error)),
            })
            .take_until(self.directory.tasks().stopped());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn heartbeat(
        &self,
        request: Request<peer::HeartbeatRequest>,
    ) -> Result<Response<peer::HeartbeatResponse>, Status> {
        let groups = request.into_inner().groups;
        if groups.len() > usize::from(PARTITIONS_MAX) + 1 {
            return Err(wrong("more heartbeats than groups"));
        }
        let answers = join_all(groups.into_iter().map(|heartbeat| async {
            peer::GroupHeartbeatResponse {
                append: self
                    .heartbeat(heartbeat)
                    .await
                    .inspect_err(|status| tracing::debug!(%status, "heartbeat not answered"))
                    .ok(),
            }
        }))
        .await;
        Ok(Response::new(peer::HeartbeatResponse { groups: answers }))
    }

    async fn vote(
        &self,
        request: Request<peer::VoteRequest>,
    ) -> Result<Response<peer::VoteResponse>, Status> {
        let request = request.into_inner();
        let group = self.group(request.group).await?;
        let vote = wire::vote_request_from_wire(&request).map_err(wrong)?;
        // A leader that hands over has ended its lease itself.
        if !vote.leadership_transfer && !group.shared().is_settled() {
            return Err(Status::unavailable("this node has just restarted"));
        }
        let response = if request.pre_vote {
            group.raft().pre_vote(vote).await
        } else {
            group.raft().vote(vote).await
        };
        let response = response.map_err(|error| raft_error(&error))?;
        Ok(Response::new(wire::vote_response_to_wire(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferLeaderRequest>,
    ) -> Result<Response<peer::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let group = self.group(request.group).await?;
        let transfer = wire::transfer_from_wire(request).map_err(wrong)?;
        let response = group
            .raft()
            .handle_transfer_leader(transfer)
            .await
            .map_err(|error| fatal(&error))?;
        Ok(Response::new(wire::transferred_to_wire(response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotPart>>,
    ) -> Result<Response<peer::SnapshotResponse>, Status> {
        self.check_space()?;
        let incoming = Incoming::open(request.into_inner()).await?;
        let group = self.group(incoming.group.0.into()).await?;
        let vote = incoming.vote;
        let own: VoteOf<Types> = group.raft().metrics().borrow_watched().vote;
        if own.leader_id.term > vote.leader_id.term {
            // Not worth the bytes.
            return Ok(Response::new(peer::SnapshotResponse {
                vote: Some(vote_to_wire(&own)),
            }));
        }
        tracing::info!(partition = %group.id(), "receiving snapshot");
        let dir = self
            .directory
            .dir()
            .ok_or_else(|| Status::unavailable("the replica is shutting down"))?;
        let snapshot = incoming.receive(&dir).await?;
        let response = group
            .raft()
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|error| fatal(&error))?;
        Ok(Response::new(peer::SnapshotResponse {
            vote: Some(vote_to_wire(&response.vote)),
        }))
    }

    async fn status(
        &self,
        _: Request<peer::StatusRequest>,
    ) -> Result<Response<peer::StatusResponse>, Status> {
        Ok(Response::new(self.directory.status()))
    }

    async fn change_member(
        &self,
        request: Request<peer::ChangeMemberRequest>,
    ) -> Result<Response<peer::ChangeMemberResponse>, Status> {
        let request = request.into_inner();
        let group = self.group(request.group).await?;
        let change = request
            .change
            .ok_or_else(|| wrong("no change is asked for"))?;
        let result = members::change_here(&self.directory, &group, change).await?;
        Ok(Response::new(peer::ChangeMemberResponse {
            result: Some(result),
        }))
    }
}
