//! What a node answers its peers. As `crates/replica/src/network/serve.rs`, whose rules it repeats: who is
//! heard leads, a node that has just restarted does not vote, a full disk takes no entries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::StreamExt as _;
use openraft::{Snapshot, async_runtime::WatchReceiver, raft::StreamAppendError};
use prost::Message as _;
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::sync::mpsc;

use super::{
    links::{Body, Links, Request},
    wire,
};
use crate::{
    codec::{log_id_from_wire, stored_membership_from_wire, vote_from_wire, vote_to_wire},
    group::Group,
    raft::SnapshotMeta,
    run,
    snapshot::SnapshotSource,
    space::SpaceWatch,
};

/// One process's side of the links.
pub(crate) struct Server {
    pub node: u64,
    pub links: Arc<Links>,
    pub groups: BTreeMap<PartitionId, Group>,
    pub space: Arc<SpaceWatch>,
    pub streams: Mutex<BTreeMap<u64, mpsc::UnboundedSender<Bytes>>>,
}

impl Server {
    fn streams(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, mpsc::UnboundedSender<Bytes>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has arrived.
    pub fn take(self: &Arc<Self>, from: u64, body: Body) {
        match body {
            Body::Call {
                call,
                group,
                request,
            } => {
                let (server, to) = (Arc::clone(self), from);
                tokio::spawn(async move {
                    match server.answer(group, request).await {
                        Some(bytes) => server.links.reply(server.node, to, call, bytes),
                        None => server.links.refuse(server.node, to, call),
                    }
                });
            }
            Body::Reply { call, reply } => self.links.answered(call, reply),
            Body::Open { stream, group } => self.open(stream, group),
            Body::Append { stream, bytes } => {
                if let Some(requests) = self.streams().get(&stream) {
                    // It may have ended.
                    let _ = requests.send(bytes);
                }
            }
            Body::End { stream } => drop(self.streams().remove(&stream)),
            Body::Appended { stream, bytes } => self.links.appended(stream, bytes),
            Body::Ended { stream } => self.links.ended(stream),
        }
    }

    fn open(self: &Arc<Self>, stream: u64, group: PartitionId) {
        let group = match self.groups.get(&group) {
            Some(group) if !self.space.is_critical() => group.clone(),
            _ => return self.links.send(self.node, Body::Ended { stream }),
        };
        // As long as what the leader may have in flight.
        #[allow(clippy::disallowed_methods)]
        let (tell, requests) = mpsc::unbounded_channel();
        self.streams().insert(stream, tell);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let shared = Arc::clone(group.shared());
            let space = Arc::clone(&server.space);
            let requests = futures::stream::unfold(requests, |mut requests| async {
                requests.recv().await.map(|bytes: Bytes| (bytes, requests))
            })
            .map(move |bytes| {
                if space.is_critical() {
                    return None;
                }
                let request = peer::AppendRequest::decode(bytes).ok()?;
                let request = wire::append_from_wire(request).ok()?;
                shared.hear(&request.vote);
                Some(request)
            })
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
            let mut answers = std::pin::pin!(group.raft().stream_append(requests));
            while let Some(Ok(answer)) = answers.next().await {
                let bytes = wire::appended_to_wire(answer).encode_to_vec().into();
                server
                    .links
                    .send(server.node, Body::Appended { stream, bytes });
            }
            server.streams().remove(&stream);
            server.links.send(server.node, Body::Ended { stream });
        });
    }

    async fn answer(&self, group: PartitionId, request: Request) -> Option<Bytes> {
        let group = self.groups.get(&group)?;
        match request {
            Request::Heartbeat(bytes) => heartbeat(group, bytes).await,
            Request::Vote(bytes) => self.vote(group, bytes).await,
            Request::Transfer(bytes) => {
                let request = peer::TransferLeaderRequest::decode(bytes).ok()?;
                let transfer = wire::transfer_from_wire(request).ok()?;
                let response = group.raft().handle_transfer_leader(transfer).await.ok()?;
                Some(wire::transferred_to_wire(response).encode_to_vec().into())
            }
            Request::Snapshot(header, rows) => {
                if self.space.is_critical() {
                    return None;
                }
                let header = peer::SnapshotHeader::decode(header).ok()?;
                let vote = vote_from_wire(header.vote).ok()?;
                let own = group.raft().metrics().borrow_watched().vote;
                let vote = if own.leader_id.term > vote.leader_id.term {
                    own
                } else {
                    let snapshot = Snapshot {
                        meta: SnapshotMeta {
                            last_log_id: header.last.map(log_id_from_wire),
                            last_membership: stored_membership_from_wire(header.membership?)
                                .ok()?,
                        },
                        snapshot: SnapshotSource::Received(rows),
                    };
                    let installed = group.raft().install_full_snapshot(vote, snapshot).await;
                    installed.ok()?.vote
                };
                let response = peer::SnapshotResponse {
                    vote: Some(vote_to_wire(&vote)),
                };
                Some(response.encode_to_vec().into())
            }
        }
    }

    async fn vote(&self, group: &Group, bytes: Bytes) -> Option<Bytes> {
        let request = peer::VoteRequest::decode(bytes).ok()?;
        let vote = wire::vote_request_from_wire(&request).ok()?;
        if !vote.leadership_transfer && !group.shared().is_settled() {
            run::count("votes refused after a restart");
            return None;
        }
        let (term, candidate) = (vote.vote.leader_id.term, vote.vote.leader_id.voted_for);
        let response = if request.pre_vote {
            group.raft().pre_vote(vote).await
        } else {
            group.raft().vote(vote).await
        };
        let response = response.ok()?;
        if response.vote_granted && !request.pre_vote {
            run::on_vote(group.id(), self.node, term, candidate);
        }
        Some(
            wire::vote_response_to_wire(&response)
                .encode_to_vec()
                .into(),
        )
    }
}

async fn heartbeat(group: &Group, bytes: Bytes) -> Option<Bytes> {
    let request = peer::AppendRequest::decode(bytes).ok()?;
    let request = wire::append_from_wire(request).ok()?;
    let (prev, vote) = (request.prev_log_id, request.vote);
    let response = group.raft().append_entries(request).await.ok()?;
    let result = wire::heartbeat_result(response, prev)?;
    if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
        group.shared().hear(&vote);
    }
    Some(wire::appended_to_wire(result).encode_to_vec().into())
}
