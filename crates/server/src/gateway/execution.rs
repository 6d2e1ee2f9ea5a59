//! `ExecutionService`: one file per call. Each is answered by the leader of the execution's partition.

mod cancel;
mod get;
mod list;
mod nodes;
mod read;
mod redrive;
mod refusals;
mod start;
mod starts;
mod steps;
mod wait;
mod watch;

use std::{pin::Pin, sync::Arc};

use tidemill_proto::v1::{
    execution_service_client::ExecutionServiceClient, execution_service_server::ExecutionService, *,
};
use tidemill_replica::PeerChannel;
use tidemill_types::limits::ANSWER_BYTES_MAX;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

pub(super) use self::{
    get::get, list::list, nodes::NodeNames, refusals::Refusals, start::start,
    steps::list as list_steps, wait::wait,
};
use super::Gateway;

pub(super) fn client(channel: PeerChannel) -> ExecutionServiceClient<PeerChannel> {
    ExecutionServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

type Answer<T> = Result<Response<T>, Status>;
type Starting = Pin<Box<dyn Stream<Item = Result<StartExecutionsResponse, Status>> + Send>>;
type Watching = Pin<Box<dyn Stream<Item = Result<WatchExecutionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExecutionService for Gateway {
    type StartExecutionsStream = Starting;
    type WatchExecutionStream = Watching;

    async fn start_execution(
        &self,
        request: Request<StartExecutionRequest>,
    ) -> Answer<StartExecutionResponse> {
        let open = &self.open;
        let (metadata, _, request) = request.into_parts();
        start::start(open, self.origin, request, &metadata)
            .await
            .map(Response::new)
    }

    async fn start_executions(
        &self,
        request: Request<Streaming<StartExecutionsRequest>>,
    ) -> Answer<Self::StartExecutionsStream> {
        let open = Arc::clone(&self.open);
        let answers = starts::serve(open, self.origin, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Answer<GetExecutionResponse> {
        let open = &self.open;
        get::get(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Answer<ListExecutionsResponse> {
        let open = &self.open;
        list::list(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_steps(&self, request: Request<ListStepsRequest>) -> Answer<ListStepsResponse> {
        let open = &self.open;
        steps::list(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn watch_execution(
        &self,
        request: Request<WatchExecutionRequest>,
    ) -> Answer<Self::WatchExecutionStream> {
        let open = &self.open;
        watch::watch(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn wait_execution(
        &self,
        request: Request<WaitExecutionRequest>,
    ) -> Answer<WaitExecutionResponse> {
        let open = &self.open;
        wait::wait(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn cancel_execution(
        &self,
        request: Request<CancelExecutionRequest>,
    ) -> Answer<CancelExecutionResponse> {
        let open = &self.open;
        cancel::cancel(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn redrive_execution(
        &self,
        request: Request<RedriveExecutionRequest>,
    ) -> Answer<RedriveExecutionResponse> {
        let open = &self.open;
        redrive::redrive(open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }
}
