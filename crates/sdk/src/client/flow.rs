//! `FlowService`: flows, their drafts and versions, start and stop.

use tidemill_proto::v1::{
    ApplyFlowRequest, ApplyFlowResponse, DeleteFlowRequest, DeleteFlowResponse, GetFlowRequest,
    GetFlowResponse, GetFlowVersionRequest, GetFlowVersionResponse, ListFlowVersionsRequest,
    ListFlowVersionsResponse, ListFlowsRequest, ListFlowsResponse, PublishFlowRequest,
    PublishFlowResponse, StartFlowRequest, StartFlowResponse, StopFlowRequest, StopFlowResponse,
    ValidateFlowRequest, ValidateFlowResponse, flow_service_client::FlowServiceClient,
};
use tonic::transport::Channel;

use super::{Call, Client};
use crate::{
    error::ClientError,
    limits::{ANSWER_BYTES_MAX, FLOW_SWITCH_TIMEOUT},
    request_id,
};

fn service(channel: Channel) -> FlowServiceClient<Channel> {
    FlowServiceClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

impl Client {
    /// Creates a flow, or replaces its draft.
    ///
    /// # Errors
    /// [`ClientError`]; `Invalid` lists everything that is wrong with the document.
    pub async fn apply_flow(
        &self,
        mut request: ApplyFlowRequest,
    ) -> Result<ApplyFlowResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let call = Call::mutation("ApplyFlow", &request.request_id);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).apply_flow(request).await
        })
        .await
    }

    /// [`Client::apply_flow`] with nothing but the document.
    ///
    /// # Errors
    /// As [`Client::apply_flow`].
    pub async fn apply(&self, document: &str) -> Result<ApplyFlowResponse, ClientError> {
        self.apply_flow(ApplyFlowRequest {
            document: document.to_owned(),
            ..ApplyFlowRequest::default()
        })
        .await
    }

    /// Checks a document; stores nothing.
    ///
    /// # Errors
    /// [`ClientError`]. A document with problems is no error here: see the answer.
    pub async fn validate_flow(
        &self,
        request: ValidateFlowRequest,
    ) -> Result<ValidateFlowResponse, ClientError> {
        self.call(
            Call::read("ValidateFlow"),
            request,
            |channel, request| async move { service(channel).validate_flow(request).await },
        )
        .await
    }

    /// One flow with its draft.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_flow(&self, request: GetFlowRequest) -> Result<GetFlowResponse, ClientError> {
        self.call(
            Call::read("GetFlow"),
            request,
            |channel, request| async move { service(channel).get_flow(request).await },
        )
        .await
    }

    /// One page of flows, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_flows(
        &self,
        request: ListFlowsRequest,
    ) -> Result<ListFlowsResponse, ClientError> {
        self.call(
            Call::read("ListFlows"),
            request,
            |channel, request| async move { service(channel).list_flows(request).await },
        )
        .await
    }

    /// Makes the draft an immutable version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish_flow(
        &self,
        mut request: PublishFlowRequest,
    ) -> Result<PublishFlowResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let call = Call::mutation("PublishFlow", &request.request_id);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).publish_flow(request).await
        })
        .await
    }

    /// [`Client::publish_flow`] with nothing but the flow's id or name.
    ///
    /// # Errors
    /// As [`Client::publish_flow`].
    pub async fn publish(&self, flow: &str) -> Result<PublishFlowResponse, ClientError> {
        self.publish_flow(PublishFlowRequest {
            flow: flow.to_owned(),
            ..PublishFlowRequest::default()
        })
        .await
    }

    /// One page of published versions, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_flow_versions(
        &self,
        request: ListFlowVersionsRequest,
    ) -> Result<ListFlowVersionsResponse, ClientError> {
        self.call(
            Call::read("ListFlowVersions"),
            request,
            |channel, request| async move { service(channel).list_flow_versions(request).await },
        )
        .await
    }

    /// One published version with its document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_flow_version(
        &self,
        request: GetFlowVersionRequest,
    ) -> Result<GetFlowVersionResponse, ClientError> {
        self.call(
            Call::read("GetFlowVersion"),
            request,
            |channel, request| async move { service(channel).get_flow_version(request).await },
        )
        .await
    }

    /// Starts a flow; answered when it is active or back in inactive, unless `no_wait` is set.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_flow(
        &self,
        mut request: StartFlowRequest,
    ) -> Result<StartFlowResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let timeout = self.shared.call_timeout.max(FLOW_SWITCH_TIMEOUT);
        let call =
            Call::mutation("StartFlow", &request.request_id).patient(FLOW_SWITCH_TIMEOUT, timeout);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).start_flow(request).await
        })
        .await
    }

    /// [`Client::start_flow`] with nothing but the flow's id or name: its newest version.
    ///
    /// # Errors
    /// As [`Client::start_flow`].
    pub async fn start_flow_by_name(&self, flow: &str) -> Result<StartFlowResponse, ClientError> {
        self.start_flow(StartFlowRequest {
            flow: flow.to_owned(),
            ..StartFlowRequest::default()
        })
        .await
    }

    /// Stops a flow.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop_flow(
        &self,
        mut request: StopFlowRequest,
    ) -> Result<StopFlowResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let timeout = self.shared.call_timeout.max(FLOW_SWITCH_TIMEOUT);
        let call =
            Call::mutation("StopFlow", &request.request_id).patient(FLOW_SWITCH_TIMEOUT, timeout);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).stop_flow(request).await
        })
        .await
    }

    /// Deletes an inactive flow.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_flow(
        &self,
        mut request: DeleteFlowRequest,
    ) -> Result<DeleteFlowResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let call = Call::mutation("DeleteFlow", &request.request_id);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).delete_flow(request).await
        })
        .await
    }
}
