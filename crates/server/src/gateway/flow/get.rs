//! `GetFlow`.

use tidemill_proto::{
    convert,
    v1::{GetFlowRequest, GetFlowResponse},
};
use tonic::Status;

use super::{client, find::find};
use crate::gateway::{Checks, Open, Origin, forwarded, route::Kind, status};

pub(in crate::gateway) async fn get(
    open: &Open,
    origin: Origin,
    request: GetFlowRequest,
) -> Result<GetFlowResponse, Status> {
    let flow = &Checks::flow("flow", &request.flow).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Read,
        &node.catalog,
        |catalog| async move {
            let (id, row) = find(&catalog.read().await?, flow)?;
            Ok(GetFlowResponse {
                flow: Some(convert::flow(id, row, true)),
            })
        },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).get_flow(request).await) }
        },
    )
    .await
}
