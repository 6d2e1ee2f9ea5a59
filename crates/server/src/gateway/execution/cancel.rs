//! `CancelExecution`.

use tidemill_core::{
    Partition,
    command::{CancelExecution, PartitionCommand, PartitionReply},
};
use tidemill_proto::{
    convert,
    v1::{CancelExecutionRequest, CancelExecutionResponse},
};
use tidemill_types::ExecutionId;
use tonic::Status;

use super::{client, read};
use crate::{
    actor::GroupHandle,
    gateway::{Checks, Open, Origin, check::CheckResult, forwarded, route::Kind, status},
};

pub(super) async fn cancel(
    open: &Open,
    origin: Origin,
    mut request: CancelExecutionRequest,
) -> Result<CancelExecutionResponse, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    Checks::reason(&request.reason).map_err(status)?;
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    node.on_leader(
        origin,
        Kind::Write,
        home,
        |home| local(home, id, request.clone()),
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).cancel_execution(request).await) }
        },
    )
    .await
}

async fn local(
    home: GroupHandle<Partition>,
    id: ExecutionId,
    request: CancelExecutionRequest,
) -> CheckResult<CancelExecutionResponse> {
    let command = PartitionCommand::Cancel(CancelExecution {
        execution: id,
        reason: request.reason,
        request_id: request.request_id,
    });
    let PartitionReply::Cancelled { changed } = home.ask(command).await? else {
        unreachable!("a cancel is answered as one");
    };
    let row = read::execution(&home.stale(), id)?;
    Ok(CancelExecutionResponse {
        execution: Some(convert::execution(id, row)),
        changed,
    })
}
