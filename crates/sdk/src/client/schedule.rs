//! `ScheduleService`: when flows are due, and what became of it.

use tidemill_proto::v1::{
    BackfillScheduleRequest, BackfillScheduleResponse, GetScheduleRequest, GetScheduleResponse,
    ListOccurrencesRequest, ListOccurrencesResponse, PauseScheduleRequest, PauseScheduleResponse,
    PreviewScheduleRequest, PreviewScheduleResponse, ResumeScheduleRequest, ResumeScheduleResponse,
    schedule_service_client::ScheduleServiceClient,
};
use tonic::transport::Channel;

use super::{Call, Client};
use crate::{error::ClientError, limits::ANSWER_BYTES_MAX, request_id};

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

    /// Keeps a schedule from firing until it is resumed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pause_schedule(
        &self,
        mut request: PauseScheduleRequest,
    ) -> Result<PauseScheduleResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let id = request.request_id.clone();
        let call = Call::mutation("PauseSchedule", &id);
        self.call(call, request, |channel, request| async move {
            service(channel).pause_schedule(request).await
        })
        .await
    }

    /// Has a paused schedule fire again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume_schedule(
        &self,
        mut request: ResumeScheduleRequest,
    ) -> Result<ResumeScheduleResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let id = request.request_id.clone();
        let call = Call::mutation("ResumeSchedule", &id);
        self.call(call, request, |channel, request| async move {
            service(channel).resume_schedule(request).await
        })
        .await
    }

    /// Runs the occurrences of a past range, each once. [`Client::get_schedule`] tells how far it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backfill_schedule(
        &self,
        mut request: BackfillScheduleRequest,
    ) -> Result<BackfillScheduleResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let id = request.request_id.clone();
        let call = Call::mutation("BackfillSchedule", &id);
        self.call(call, request, |channel, request| async move {
            service(channel).backfill_schedule(request).await
        })
        .await
    }
}
