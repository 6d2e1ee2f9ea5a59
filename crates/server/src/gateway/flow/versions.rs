//! `ListFlowVersions` and `GetFlowVersion`.

use tidemill_core::{Rejection, Rows};
use tidemill_proto::{
    convert,
    v1::{
        GetFlowVersionRequest, GetFlowVersionResponse, ListFlowVersionsRequest,
        ListFlowVersionsResponse,
    },
};
use tidemill_rows::{
    Stored,
    table::{FlowVersionRow, flow_version_key, flow_versions_prefix, version_of_key},
};
use tonic::Status;

use super::{client, find::find};
use crate::{
    actor::AskError,
    gateway::{
        Checks, Open, Origin,
        check::{CheckResult, FlowRef},
        forwarded,
        page::{self, Page},
        route::Kind,
        status,
    },
    rows::{after, damaged, prefix_range, scan, stored},
};

pub(super) async fn list(
    open: &Open,
    origin: Origin,
    request: ListFlowVersionsRequest,
) -> Result<ListFlowVersionsResponse, Status> {
    let flow = &Checks::flow("flow", &request.flow).map_err(status)?;
    let page = &Page::check(request.page.clone()).map_err(status)?;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Read,
        &node.catalog,
        |catalog| async move { read_list(&catalog.read().await?, flow, page) },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).list_flow_versions(request).await) }
        },
    )
    .await
}

fn read_list(
    rows: &dyn Rows,
    flow: &FlowRef,
    page: &Page,
) -> CheckResult<ListFlowVersionsResponse> {
    let (id, _) = find(rows, flow)?;
    let (mut from, to) = prefix_range(&flow_versions_prefix(id));
    if let Some(version) = page.after_key()? {
        from = after(&flow_version_key(id, u32::from_be_bytes(version)));
    }
    let mut found = scan(rows, &from, &to, page.size + 1, false)?;
    let has_more = found.len() > page.size;
    found.truncate(page.size);
    let mut answer = ListFlowVersionsResponse::default();
    for (key, value) in found {
        let version = version_of_key(&key)
            .ok_or_else(|| AskError::Corrupt(format!("a version's key of {id} is damaged")))?;
        let row = FlowVersionRow::from_bytes(value).map_err(damaged)?;
        answer
            .versions
            .push(convert::flow_version(id, version, &row, false));
    }
    if let (true, Some(last)) = (has_more, answer.versions.last()) {
        answer.next_token = page::token(&last.version.to_be_bytes());
    }
    Ok(answer)
}

pub(in crate::gateway) async fn get(
    open: &Open,
    origin: Origin,
    request: GetFlowVersionRequest,
) -> Result<GetFlowVersionResponse, Status> {
    let flow = &Checks::flow("flow", &request.flow).map_err(status)?;
    let version = request.version;
    let node = &open.node;
    node.on_leader(
        origin,
        Kind::Read,
        &node.catalog,
        |catalog| async move { read_one(&catalog.read().await?, flow, version) },
        |channel| {
            let request = request.clone();
            async move { forwarded(client(channel).get_flow_version(request).await) }
        },
    )
    .await
}

fn read_one(rows: &dyn Rows, flow: &FlowRef, version: u32) -> CheckResult<GetFlowVersionResponse> {
    let (id, row) = find(rows, flow)?;
    let version = if version == 0 {
        row.latest_version
    } else {
        version
    };
    if version == 0 {
        return Err(AskError::Rejected(Rejection::NothingPublished(id)));
    }
    let row: FlowVersionRow = stored(rows, &flow_version_key(id, version))?.ok_or(
        AskError::Rejected(Rejection::VersionNotFound { flow: id, version }),
    )?;
    Ok(GetFlowVersionResponse {
        version: Some(convert::flow_version(id, version, &row, true)),
    })
}
