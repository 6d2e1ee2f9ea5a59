//! `ClusterService`: members, partitions, leaders.
//!
//! Its mutations carry no request id, so they are sent again only when they surely were not taken.

use tidemill_proto::v1::{
    AddMemberRequest, AddMemberResponse, GetStatusRequest, GetStatusResponse, RemoveMemberRequest,
    RemoveMemberResponse, TransferLeadershipRequest, TransferLeadershipResponse,
    cluster_service_client::ClusterServiceClient,
};
use tonic::transport::Channel;

use super::{Call, Client};
use crate::{error::ClientError, limits::ANSWER_BYTES_MAX};

fn service(channel: Channel) -> ClusterServiceClient<Channel> {
    ClusterServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// Members, partitions and leaders, as the node that is asked sees them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_status(
        &self,
        request: GetStatusRequest,
    ) -> Result<GetStatusResponse, ClientError> {
        self.call(
            Call::read("GetStatus"),
            request,
            |channel, request| async move { service(channel).get_status(request).await },
        )
        .await
    }

    /// Adds a node. Answered when it is a voter of every group, or not at all within the call's time.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_member(
        &self,
        request: AddMemberRequest,
    ) -> Result<AddMemberResponse, ClientError> {
        let time = self.shared.call_timeout;
        let call = Call::once("AddMember").patient(time, time);
        self.call(call, request, |channel, request| async move {
            service(channel).add_member(request).await
        })
        .await
    }

    /// Removes a node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_member(
        &self,
        request: RemoveMemberRequest,
    ) -> Result<RemoveMemberResponse, ClientError> {
        let time = self.shared.call_timeout;
        let call = Call::once("RemoveMember").patient(time, time);
        self.call(call, request, |channel, request| async move {
            service(channel).remove_member(request).await
        })
        .await
    }

    /// Hands leadership over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transfer_leadership(
        &self,
        request: TransferLeadershipRequest,
    ) -> Result<TransferLeadershipResponse, ClientError> {
        self.call(
            Call::once("TransferLeadership"),
            request,
            |channel, request| async move { service(channel).transfer_leadership(request).await },
        )
        .await
    }
}
