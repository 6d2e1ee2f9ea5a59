//! `ClusterService`: members, groups, leaders, and changes of them. Answered by any node: what a
//! change needs of a group's leader the replica asks for itself.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tidemill_proto::v1::{
    AddMemberRequest, AddMemberResponse, GetStatusRequest, GetStatusResponse, Member as WireMember,
    PartitionStatus, RemoveMemberRequest, RemoveMemberResponse, TransferLeadershipRequest,
    TransferLeadershipResponse, cluster_service_server::ClusterService,
};
use tidemill_replica::{ChangeError, Member, Replica};
use tidemill_types::{NodeId, PartitionId};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::{ErrorDetails, StatusExt as _};

/// How long another node may take to say that it is there.
const REACH_TIMEOUT: Duration = Duration::from_millis(500);

/// The service, on any node.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) replica: Arc<Replica>,
}

impl Cluster {
    async fn is_reachable(&self, node: NodeId) -> bool {
        if node == self.replica.node() {
            return true;
        }
        let Some(channel) = self.replica.peer_channel(node) else {
            return false;
        };
        let mut client = HealthClient::new(channel);
        let check = client.check(HealthCheckRequest::default());
        // Any answer at all shows that it is there.
        match tokio::time::timeout(REACH_TIMEOUT, check).await {
            Ok(Ok(_)) => true,
            Ok(Err(status)) => !matches!(status.code(), Code::Unavailable | Code::Unknown),
            Err(_) => false,
        }
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let members = self.replica.members();
        let reachable = members.iter().map(|member| self.is_reachable(member.id));
        let reachable = futures::future::join_all(reachable).await;
        let stats = self.replica.stats();
        Ok(Response::new(GetStatusResponse {
            cluster: self.name.clone(),
            node_id: self.replica.node().0,
            version: env!("CARGO_PKG_VERSION").into(),
            members: members
                .into_iter()
                .zip(reachable)
                .map(|(member, reachable)| WireMember {
                    id: member.id.0,
                    peer: member.peer,
                    grpc: member.grpc,
                    http: member.http,
                    voter: member.voter,
                    reachable,
                })
                .collect(),
            partitions: stats
                .groups
                .into_iter()
                .map(|group| PartitionStatus {
                    id: group.id.0.into(),
                    leader: group.leader.map_or(0, |leader| leader.0),
                    term: group.term,
                    last_log_index: group.last_log,
                    applied_index: group.applied,
                    snapshot_index: group.snapshot,
                    fault: group.fault.unwrap_or_default(),
                })
                .collect(),
            disk_low: self.replica.space().is_some_and(|space| space.low),
        }))
    }

    async fn add_member(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<AddMemberResponse>, Status> {
        let Some(member) = request.into_inner().member else {
            return Err(invalid("member", "must be set"));
        };
        let member = Member {
            id: NodeId(member.id),
            peer: member.peer,
            grpc: member.grpc,
            http: member.http,
            // The API's promise: it becomes a voter of every group.
            voter: true,
        };
        self.replica.add_member(&member).await.map_err(refused)?;
        tracing::info!(node_id = %member.id, peer = member.peer, "member added");
        Ok(Response::new(AddMemberResponse {}))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let node = NodeId(request.into_inner().id);
        let known = self.replica.members().iter().any(|m| m.id == node);
        if !known {
            return Err(invalid("id", &format!("node {node} is not a member")));
        }
        self.replica.remove_member(node).await.map_err(refused)?;
        tracing::info!(node_id = %node, "member removed");
        Ok(Response::new(RemoveMemberResponse {}))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let request = request.into_inner();
        let to = NodeId(request.to);
        let groups = match request.partition {
            None => (0..=self.replica.partitions()).map(PartitionId).collect(),
            Some(id) => {
                let id = u16::try_from(id)
                    .ok()
                    .filter(|id| *id <= self.replica.partitions());
                let most = self.replica.partitions();
                let id =
                    id.ok_or_else(|| invalid("partition", &format!("0 to {most} is allowed")))?;
                vec![PartitionId(id)]
            }
        };
        for group in groups {
            self.replica
                .transfer_leadership(group, to)
                .await
                .map_err(refused)?;
            tracing::info!(partition = %group, node_id = %to, "leadership handed over");
        }
        Ok(Response::new(TransferLeadershipResponse {}))
    }
}

fn with_code(status: Code, code: &'static str, message: &str, details: ErrorDetails) -> Status {
    let mut details = details;
    details.set_error_info(code, "tidemill", HashMap::new());
    Status::with_error_details(status, message.to_owned(), details)
}

fn invalid(field: &str, problem: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, problem);
    let message = format!("{field}: {problem}");
    with_code(Code::InvalidArgument, "TM0001", &message, details)
}

fn refused(error: ChangeError) -> Status {
    let (status, code) = match &error {
        ChangeError::Invalid(_) => (Code::InvalidArgument, "TM0001"),
        ChangeError::Conflict(_) => (Code::FailedPrecondition, "TM0151"),
        ChangeError::Unavailable(_) => (Code::Unavailable, "TM0251"),
        ChangeError::Unknown(_) => (Code::Unknown, "TM0252"),
    };
    with_code(status, code, &error.to_string(), ErrorDetails::new())
}
