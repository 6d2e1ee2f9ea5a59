//! `PartitionControlService`: the home partition's side of starting and stopping a flow, for the
//! catalog's leader on another node.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_core::{
    Partition,
    command::{ArmFlow, DisarmFlow, PartitionCommand, PartitionReply},
};
use tidemill_proto::peer::v1::{
    ArmRequest, ArmResponse, DisarmRequest, DisarmResponse, ForgetRequest, ForgetResponse,
    partition_control_service_client::PartitionControlServiceClient,
    partition_control_service_server::PartitionControlService,
};
use tidemill_replica::PeerChannel;
use tidemill_rows::Hash;
use tidemill_types::FlowId;
use tonic::{Request, Response, Status};

use crate::{
    actor::{AskError, GroupHandle},
    gateway::status,
    node::Node,
};

/// `PartitionControlService`, on the peer port.
pub(crate) struct ControlService {
    node: Arc<Node>,
}

impl ControlService {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn home(&self, flow: &str) -> Result<(FlowId, GroupHandle<Partition>), Status> {
        let id: FlowId = flow
            .parse()
            .map_err(|error| Status::invalid_argument(format!("flow_id: {error}")))?;
        let home = self.node.partition(id.partition());
        let home = home.ok_or_else(|| Status::invalid_argument("flow_id: no such partition"))?;
        Ok((id, home.clone()))
    }
}

pub(crate) fn control_client(channel: PeerChannel) -> PartitionControlServiceClient<PeerChannel> {
    PartitionControlServiceClient::new(channel)
}

/// Whether anything was changed.
fn changed(reply: Result<PartitionReply, AskError>) -> Result<bool, Status> {
    match reply.map_err(status)? {
        PartitionReply::Done { changed } => Ok(changed),
        other => unreachable!("arm and disarm were answered {other:?}"),
    }
}

#[tonic::async_trait]
impl PartitionControlService for ControlService {
    async fn arm(&self, request: Request<ArmRequest>) -> Result<Response<ArmResponse>, Status> {
        let request = request.into_inner();
        let (flow, home) = self.home(&request.flow_id)?;
        let hash = <[u8; 32]>::try_from(request.content_hash.as_ref())
            .map_err(|_| Status::invalid_argument("content_hash: must have 32 bytes"))?;
        let command = ArmFlow {
            flow,
            name: request.name,
            version: request.version,
            document: Bytes::clone(&request.document),
            content_hash: Hash(hash),
            activation: request.activation,
            without_workers: request.without_workers,
        };
        let changed = changed(home.ask(PartitionCommand::Arm(command)).await)?;
        Ok(Response::new(ArmResponse { changed }))
    }

    async fn disarm(
        &self,
        request: Request<DisarmRequest>,
    ) -> Result<Response<DisarmResponse>, Status> {
        let request = request.into_inner();
        let (flow, home) = self.home(&request.flow_id)?;
        let command = DisarmFlow {
            flow,
            activation: request.activation,
            cancel_running: request.cancel_running,
        };
        let changed = changed(home.ask(PartitionCommand::Disarm(command)).await)?;
        Ok(Response::new(DisarmResponse { changed }))
    }

    async fn forget(
        &self,
        request: Request<ForgetRequest>,
    ) -> Result<Response<ForgetResponse>, Status> {
        let (flow, home) = self.home(&request.into_inner().flow_id)?;
        let changed = changed(home.ask(PartitionCommand::Forget { flow }).await)?;
        Ok(Response::new(ForgetResponse { changed }))
    }
}
