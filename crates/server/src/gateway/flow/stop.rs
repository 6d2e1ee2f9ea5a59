//! `StopFlow`: answered when the flow is inactive.

use tidemill_core::{Catalog, command::CatalogCommand};
use tidemill_proto::{
    convert,
    v1::{StopFlowRequest, StopFlowResponse},
};
use tonic::Status;

use super::{client, find::find, start::settled};
use crate::{
    actor::GroupHandle,
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, FlowRef},
        forwarded,
        route::Kind,
        status,
    },
};

pub(in crate::gateway) async fn stop(
    open: &Open,
    origin: Origin,
    mut request: StopFlowRequest,
) -> Result<StopFlowResponse, Status> {
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    Checks::flow("flow", &request.flow).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Write,
        &node.catalog,
        |catalog| local(open, catalog, request.clone()),
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).stop_flow(request).await) }
        },
    )
    .await
}

async fn local(
    open: &Open,
    catalog: GroupHandle<Catalog>,
    request: StopFlowRequest,
) -> CheckResult<StopFlowResponse> {
    let command = CatalogCommand::Stop {
        flow: request.flow,
        cancel_running: request.cancel_running,
        request_id: request.request_id,
    };
    let reply = catalog.ask(command).await?;
    let row = if request.no_wait {
        find(&catalog.stale(), &FlowRef::Id(reply.flow))?.1
    } else {
        settled(open, &catalog, reply.flow).await?
    };
    Ok(StopFlowResponse {
        flow: Some(convert::flow(reply.flow, row, false)),
        changed: reply.changed,
    })
}
