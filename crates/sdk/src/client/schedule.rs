//! `ScheduleService`: when flows are due, and what became of it.

use tidemill_proto::v1::{
    GetScheduleRequest, GetScheduleResponse, ListOccurrencesRequest, ListOccurrencesResponse,
    PreviewScheduleRequest, PreviewScheduleResponse,
    schedule_service_client::ScheduleServiceClient,
};
use tonic::transport::Channel;

use super::{Call, Client};
use crate::{error::ClientError, limits::ANSWER_BYTES_MAX};

fn service(channel: Channel) -> ScheduleServiceClient<Channel> {
    ScheduleServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// The next occurrences of a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview_schedule(
        &self,
        request: PreviewScheduleRequest,
    ) -> Result<PreviewScheduleResponse, ClientError> {
        self.call(
            Call::read("PreviewSchedule"),
            request,
            |channel, request| async move { service(channel).preview_schedule(request).await },
        )
        .await
    }

    /// When an active flow is due next.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_schedule(
        &self,
        request: GetScheduleRequest,
    ) -> Result<GetScheduleResponse, ClientError> {
        self.call(
            Call::read("GetSchedule"),
            request,
            |channel, request| async move { service(channel).get_schedule(request).await },
        )
        .await
    }

    /// One page of a flow's occurrences, with what became of each.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_occurrences(
        &self,
        request: ListOccurrencesRequest,
    ) -> Result<ListOccurrencesResponse, ClientError> {
        self.call(
            Call::read("ListOccurrences"),
            request,
            |channel, request| async move { service(channel).list_occurrences(request).await },
        )
        .await
    }
}
