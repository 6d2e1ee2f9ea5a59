//! `RedriveExecution`.

use tidemill_core::{
    Partition,
    command::{PartitionCommand, PartitionReply, RedriveExecution},
};
use tidemill_proto::{
    convert,
    v1::{RedriveExecutionRequest, RedriveExecutionResponse},
};
use tidemill_types::{ExecutionId, limits::EXECUTION_STEPS_MAX};
use tonic::Status;

use super::{client, read};
use crate::{
    actor::GroupHandle,
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, invalid},
        forwarded,
        route::Kind,
        status,
    },
};

pub(super) async fn redrive(
    open: &Open,
    origin: Origin,
    mut request: RedriveExecutionRequest,
) -> Result<RedriveExecutionResponse, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    if request.steps.len() > EXECUTION_STEPS_MAX as usize {
        let reason = format!("at most {EXECUTION_STEPS_MAX} steps are allowed");
        return Err(status(invalid("steps", reason)));
    }
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    node.on_leader(
        origin,
        Kind::Write,
        home,
        |home| local(home, id, request.clone()),
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).redrive_execution(request).await) }
        },
    )
    .await
}

async fn local(
    home: GroupHandle<Partition>,
    id: ExecutionId,
    request: RedriveExecutionRequest,
) -> CheckResult<RedriveExecutionResponse> {
    let command = PartitionCommand::Redrive(RedriveExecution {
        execution: id,
        steps: request.steps,
        request_id: request.request_id,
    });
    let PartitionReply::Redriven { steps } = home.ask(command).await? else {
        unreachable!("a redrive is answered as one");
    };
    let row = read::execution(&home.stale(), id)?;
    Ok(RedriveExecutionResponse {
        execution: Some(convert::execution(id, row)),
        redriven: steps,
    })
}
