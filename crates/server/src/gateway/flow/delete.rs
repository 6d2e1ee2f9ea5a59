//! `DeleteFlow`.

use tidemill_core::command::CatalogCommand;
use tidemill_proto::v1::{DeleteFlowRequest, DeleteFlowResponse};
use tonic::Status;

use super::client;
use crate::gateway::{Checks, Open, Origin, forwarded, route::Kind, status};

pub(in crate::gateway) async fn delete(
    open: &Open,
    origin: Origin,
    mut request: DeleteFlowRequest,
) -> Result<DeleteFlowResponse, Status> {
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    Checks::flow("flow", &request.flow).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Write,
        &node.catalog,
        |catalog| {
            let DeleteFlowRequest { flow, request_id } = request.clone();
            async move {
                catalog
                    .ask(CatalogCommand::Delete { flow, request_id })
                    .await
                    .map(|_| DeleteFlowResponse {})
            }
        },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).delete_flow(request).await) }
        },
    )
    .await
}
