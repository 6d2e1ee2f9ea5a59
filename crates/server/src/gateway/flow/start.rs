//! `StartFlow`: answered when the flow is active, or when its start was refused.

use std::time::Duration;

use tidemill_core::{Catalog, command::CatalogCommand};
use tidemill_proto::{
    convert,
    v1::{StartFlowRequest, StartFlowResponse},
};
use tidemill_rows::table::{FlowRow, FlowStatus};
use tidemill_types::FlowId;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{client, find::find};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, FlowRef},
        forwarded,
        route::Kind,
        status,
        status::start_refused,
    },
    work::too_many_watchers,
};

/// Longer than the catalog lets a start take (30 s).
const SWITCH_WAIT: Duration = Duration::from_secs(35);

pub(in crate::gateway) async fn start(
    open: &Open,
    origin: Origin,
    mut request: StartFlowRequest,
) -> Result<StartFlowResponse, Status> {
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
            async move { forwarded(client(channel).start_flow(request).await).map(Ok) }
        },
    )
    .await?
}

/// The inner error is the start's refusal: a fact, found out after the command was answered.
async fn local(
    open: &Open,
    catalog: GroupHandle<Catalog>,
    request: StartFlowRequest,
) -> CheckResult<Result<StartFlowResponse, Status>> {
    let command = CatalogCommand::Start {
        flow: request.flow,
        version: request.version,
        without_workers: request.without_workers,
        request_id: request.request_id,
    };
    let reply = catalog.ask(command).await?;
    let row = if request.no_wait {
        find(&catalog.stale(), &FlowRef::Id(reply.flow))?.1
    } else {
        let row = settled(open, &catalog, reply.flow).await?;
        if row.status == FlowStatus::Inactive {
            let reason = if row.reason.is_empty() {
                "it was stopped meanwhile"
            } else {
                &row.reason
            };
            return Ok(Err(start_refused(reason)));
        }
        row
    };
    Ok(Ok(StartFlowResponse {
        flow: Some(convert::flow(reply.flow, row, false)),
        changed: reply.changed,
    }))
}

/// The flow's row once it neither starts nor stops, or when that takes too long.
pub(super) async fn settled(
    open: &Open,
    catalog: &GroupHandle<Catalog>,
    flow: FlowId,
) -> CheckResult<FlowRow> {
    let deadline = Instant::now() + SWITCH_WAIT;
    let sink = &open.node.effects.catalog;
    let mut changes = sink.watch(flow).ok_or_else(too_many_watchers)?;
    loop {
        changes.seen();
        let (_, row) = find(&catalog.read().await?, &FlowRef::Id(flow))?;
        if matches!(row.status, FlowStatus::Active | FlowStatus::Inactive) {
            return Ok(row);
        }
        tokio::select! {
            changed = timeout_at(deadline, changes.changed()) => {
                if changed.is_err() {
                    return Ok(row);
                }
            }
            () = open.node.shutdown.cancelled() => {
                return Err(AskError::Unavailable("the node is shutting down".into()));
            }
        }
    }
}
