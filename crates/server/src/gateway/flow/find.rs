//! Finding flows: by id or by name, here or at the catalog's leader.

use tidemill_core::{Rejection, Rows};
use tidemill_proto::v1::GetFlowRequest;
use tidemill_rows::{
    key::{self, Table},
    table::{FlowRow, flow_by_name_key, flow_key, flow_of_key},
};
use tidemill_types::{FlowId, PartitionId};
use tonic::Status;

use super::client;
use crate::{
    actor::AskError,
    gateway::{
        Open, Origin,
        check::{CheckResult, FlowRef, invalid},
        forwarded, of_short,
        route::Kind,
        status,
    },
    rows::{get, prefix_range, scan, stored},
};

/// A flow's row, by id or name.
pub(super) fn find(rows: &dyn Rows, flow: &FlowRef) -> CheckResult<(FlowId, FlowRow)> {
    let not_found = || AskError::Rejected(Rejection::FlowNotFound(flow.to_string()));
    let id = match flow {
        FlowRef::Id(id) => *id,
        FlowRef::Name(name) => match id_of(rows, name)? {
            Some(id) => id,
            None => id_of_short(rows, name)?.ok_or_else(not_found)?,
        },
    };
    let row = stored(rows, &flow_key(id))?.ok_or_else(not_found)?;
    Ok((id, row))
}

fn id_of(rows: &dyn Rows, name: &str) -> CheckResult<Option<FlowId>> {
    let Some(value) = get(rows, &flow_by_name_key(name))? else {
        return Ok(None);
    };
    let id = value
        .as_ref()
        .try_into()
        .map_err(|_| AskError::Corrupt(format!("the id of flow {name:?} cannot be read")))?;
    Ok(Some(FlowId(id)))
}

/// The id that begins with these 24 hex digits, which is how clients of the Open Integration Hub write it.
fn id_of_short(rows: &dyn Rows, text: &str) -> CheckResult<Option<FlowId>> {
    let Some(short) = of_short(text) else {
        return Ok(None);
    };
    let mut prefix = key::prefix(PartitionId::CATALOG, Table::Flow).to_vec();
    prefix.extend_from_slice(&short);
    let (from, to) = prefix_range(&prefix);
    let found = scan(rows, &from, &to, 2, false)?;
    match found.as_slice() {
        [] => Ok(None),
        [(key, _)] => flow_of_key(key)
            .map(Some)
            .ok_or_else(|| AskError::Corrupt(format!("the key of flow {text} is damaged"))),
        _ => Err(invalid(
            "flow",
            "two flows have ids that begin so: use the whole id",
        )),
    }
}

/// The id of a flow that is to exist, as the catalog's leader knows it.
async fn id_at_leader(open: &Open, flow: &FlowRef) -> Result<FlowId, Status> {
    let node = &open.node;
    let text = flow.to_string();
    node.on_leader(
        Origin::Client,
        Kind::Read,
        &node.catalog,
        |catalog| async move { find(&catalog.read().await?, flow).map(|(id, _)| id) },
        |channel| {
            let request = GetFlowRequest { flow: text.clone() };
            async move {
                let answer = forwarded(client(channel).get_flow(request).await)?;
                let id = answer.flow.map(|flow| flow.id).unwrap_or_default();
                id.parse().map_err(|_| {
                    status(AskError::Corrupt(
                        "the catalog's leader gave a flow without id".into(),
                    ))
                })
            }
        },
    )
    .await
}

/// The id of a flow. Names are looked up in this node's copy of the catalog first: it may be behind,
/// so `fresh` asks the leader, for when what was found did not fit.
pub(in crate::gateway) async fn resolve(
    open: &Open,
    flow: &FlowRef,
    fresh: bool,
) -> Result<FlowId, Status> {
    if !fresh {
        match flow {
            FlowRef::Id(id) => return Ok(*id),
            FlowRef::Name(name) => {
                let catalog = &open.node.catalog;
                let applied = catalog.applied();
                if let Some(id) = open.flows.get(name, applied) {
                    return Ok(id);
                }
                let rows = catalog.stale();
                if let Some(id) = id_of(&rows, name).map_err(status)? {
                    open.flows.note(name, id, applied);
                    return Ok(id);
                }
                if let Some(id) = id_of_short(&rows, name).map_err(status)? {
                    return Ok(id);
                }
            }
        }
    }
    // Boxed, as it is seldom needed: most starts need not make room for it.
    Box::pin(id_at_leader(open, flow)).await
}
