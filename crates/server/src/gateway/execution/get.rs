//! `GetExecution`.

use tidemill_proto::{
    convert,
    v1::{GetExecutionRequest, GetExecutionResponse},
};
use tonic::Status;

use super::{client, read};
use crate::gateway::{Checks, Open, Origin, forwarded, route::Kind, status};

pub(super) async fn get(
    open: &Open,
    origin: Origin,
    request: GetExecutionRequest,
) -> Result<GetExecutionResponse, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    node.on_leader(
        origin,
        Kind::Read,
        home,
        |home| async move {
            let row = read::execution(&home.read().await?, id)?;
            Ok(GetExecutionResponse {
                execution: Some(convert::execution(id, row)),
            })
        },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).get_execution(request).await) }
        },
    )
    .await
}
