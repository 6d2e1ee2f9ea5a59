//! `ScheduleService`: one file per call.

mod get;
mod list;
mod preview;

use tidemill_proto::v1::{
    GetScheduleRequest, GetScheduleResponse, ListOccurrencesRequest, ListOccurrencesResponse,
    PreviewScheduleRequest, PreviewScheduleResponse,
    schedule_service_client::ScheduleServiceClient, schedule_service_server::ScheduleService,
};
use tidemill_replica::PeerChannel;
use tidemill_types::limits::ANSWER_BYTES_MAX;
use tonic::{Request, Response, Status};

use super::Gateway;

fn client(channel: PeerChannel) -> ScheduleServiceClient<PeerChannel> {
    ScheduleServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ScheduleService for Gateway {
    async fn preview_schedule(
        &self,
        request: Request<PreviewScheduleRequest>,
    ) -> Answer<PreviewScheduleResponse> {
        preview::preview(&self.open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_schedule(
        &self,
        request: Request<GetScheduleRequest>,
    ) -> Answer<GetScheduleResponse> {
        get::get(&self.open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_occurrences(
        &self,
        request: Request<ListOccurrencesRequest>,
    ) -> Answer<ListOccurrencesResponse> {
        list::list(&self.open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }
}
