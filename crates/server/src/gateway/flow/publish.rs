//! `PublishFlow`.

use tidemill_core::{Catalog, command::CatalogCommand};
use tidemill_proto::{
    convert,
    v1::{PublishFlowRequest, PublishFlowResponse},
};
use tidemill_rows::table::{FlowVersionRow, flow_version_key};
use tonic::Status;

use super::client;
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{Checks, Open, Origin, check::CheckResult, forwarded, route::Kind, status},
    rows::stored,
};

pub(in crate::gateway) async fn publish(
    open: &Open,
    origin: Origin,
    mut request: PublishFlowRequest,
) -> Result<PublishFlowResponse, Status> {
    request.request_id = Checks::request_id(request.request_id).map_err(status)?;
    Checks::flow("flow", &request.flow).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Write,
        &node.catalog,
        |catalog| local(catalog, request.clone()),
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).publish_flow(request).await) }
        },
    )
    .await
}

async fn local(
    catalog: GroupHandle<Catalog>,
    request: PublishFlowRequest,
) -> CheckResult<PublishFlowResponse> {
    let PublishFlowRequest { flow, request_id } = request;
    let reply = catalog
        .ask(CatalogCommand::Publish { flow, request_id })
        .await?;
    let key = flow_version_key(reply.flow, reply.version);
    let row: FlowVersionRow = stored(&catalog.stale(), &key)?.ok_or_else(|| {
        AskError::Corrupt(format!(
            "version {} of {} is missing",
            reply.version, reply.flow
        ))
    })?;
    Ok(PublishFlowResponse {
        version: Some(convert::flow_version(
            reply.flow,
            reply.version,
            &row,
            false,
        )),
        created: reply.created,
    })
}
