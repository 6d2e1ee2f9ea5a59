//! `ScheduleService`: one file per call.

mod backfill;
mod change;
mod get;
mod list;
mod preview;

use tidemill_core::{Partition, Rejection};
use tidemill_proto::v1::{
    BackfillScheduleRequest, BackfillScheduleResponse, GetScheduleRequest, GetScheduleResponse,
    ListOccurrencesRequest, ListOccurrencesResponse, PauseScheduleRequest, PauseScheduleResponse,
    PreviewScheduleRequest, PreviewScheduleResponse, ResumeScheduleRequest, ResumeScheduleResponse,
    schedule_service_client::ScheduleServiceClient, schedule_service_server::ScheduleService,
};
use tidemill_replica::PeerChannel;
use tidemill_types::{FlowId, limits::ANSWER_BYTES_MAX};
use tonic::{Request, Response, Status};

use super::{Checks, Gateway, Open, Origin, flow::resolve, status};
use crate::actor::{AskError, GroupHandle};

pub(super) fn client(channel: PeerChannel) -> ScheduleServiceClient<PeerChannel> {
    ScheduleServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// A flow that exists, and the partition that it lives in.
async fn home_of<'a>(
    open: &'a Open,
    origin: Origin,
    flow: &str,
) -> Result<(FlowId, &'a GroupHandle<Partition>), Status> {
    let checked = Checks::flow("flow", flow).map_err(status)?;
    let id = resolve(open, &checked, origin == Origin::Client).await?;
    let home = open.node.partition(id.partition());
    let home = home.ok_or_else(|| {
        let rejection = Rejection::FlowNotFound(flow.to_owned());
        status(AskError::Rejected(rejection))
    })?;
    Ok((id, home))
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

    async fn pause_schedule(
        &self,
        request: Request<PauseScheduleRequest>,
    ) -> Answer<PauseScheduleResponse> {
        change::pause(&self.open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn resume_schedule(
        &self,
        request: Request<ResumeScheduleRequest>,
    ) -> Answer<ResumeScheduleResponse> {
        change::resume(&self.open, self.origin, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn backfill_schedule(
        &self,
        request: Request<BackfillScheduleRequest>,
    ) -> Answer<BackfillScheduleResponse> {
        backfill::backfill(&self.open, self.origin, request.into_inner())
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
