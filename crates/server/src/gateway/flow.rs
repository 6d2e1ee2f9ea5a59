//! `FlowService`: one file per call. All are answered by the catalog's leader, so that a client never
//! misses its own write.

mod apply;
mod delete;
mod find;
mod get;
mod list;
mod names;
mod publish;
mod start;
mod stop;
mod validate;
mod versions;

use tidemill_proto::v1::{
    flow_service_client::FlowServiceClient, flow_service_server::FlowService, *,
};
use tidemill_replica::PeerChannel;
use tidemill_types::limits::ANSWER_BYTES_MAX;
use tonic::{Request, Response, Status};

pub(super) use self::{
    apply::apply, delete::delete, find::resolve, get::get, list::list, names::FlowNames,
    publish::publish, start::start, stop::stop, versions::get as get_version,
};
use super::Gateway;

pub(super) fn client(channel: PeerChannel) -> FlowServiceClient<PeerChannel> {
    FlowServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlowService for Gateway {
    async fn apply_flow(&self, request: Request<ApplyFlowRequest>) -> Answer<ApplyFlowResponse> {
        let open = &self.open;
        apply::apply(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn validate_flow(
        &self,
        request: Request<ValidateFlowRequest>,
    ) -> Answer<ValidateFlowResponse> {
        Ok(Response::new(validate::validate(&request.into_inner())))
    }

    async fn get_flow(&self, request: Request<GetFlowRequest>) -> Answer<GetFlowResponse> {
        let open = &self.open;
        get::get(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_flows(&self, request: Request<ListFlowsRequest>) -> Answer<ListFlowsResponse> {
        let open = &self.open;
        list::list(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_flow(
        &self,
        request: Request<PublishFlowRequest>,
    ) -> Answer<PublishFlowResponse> {
        let open = &self.open;
        publish::publish(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_flow_versions(
        &self,
        request: Request<ListFlowVersionsRequest>,
    ) -> Answer<ListFlowVersionsResponse> {
        let open = &self.open;
        versions::list(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_flow_version(
        &self,
        request: Request<GetFlowVersionRequest>,
    ) -> Answer<GetFlowVersionResponse> {
        let open = &self.open;
        versions::get(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn start_flow(&self, request: Request<StartFlowRequest>) -> Answer<StartFlowResponse> {
        let open = &self.open;
        start::start(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stop_flow(&self, request: Request<StopFlowRequest>) -> Answer<StopFlowResponse> {
        let open = &self.open;
        stop::stop(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete_flow(&self, request: Request<DeleteFlowRequest>) -> Answer<DeleteFlowResponse> {
        let open = &self.open;
        delete::delete(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }
}
