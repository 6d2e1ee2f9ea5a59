//! `/flows`: what they are. `switch.rs` starts and stops them.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
};
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};
use tidemill_proto::v1::{ApplyFlowRequest, DeleteFlowRequest, Flow, FlowStatus, GetFlowRequest};
use tidemill_types::{FlowId, limits::FLOW_DOCUMENTS_PER_TEXT_MAX};
use tonic::{Code, Status};

use super::{
    Answer, Refusal, Rest, body, ids,
    listed::Wanted,
    query::Query,
    request_id,
    shape::{self, SERVER_KEYS},
};
use crate::gateway::{Open, Origin, flow as flows};

/// Flows of one list that are read at once.
const READ_AT_ONCE: usize = 16;

const NOT_FOUND: &str = "Flow not found";
/// OIH has several texts for it.
const NONE_FOUND: &str = "No flow found";

/// `GET /flows`.
pub(super) async fn list(State(rest): State<Arc<Rest>>, RawQuery(query): RawQuery) -> Answer {
    let open = rest.open()?;
    let query = Query::parse(&query.unwrap_or_default())?;
    let page = query.page()?;
    let found = Wanted::read(&query)?.find(open).await?;
    let shown: Vec<String> = found
        .iter()
        .skip(page.offset())
        .take(page.size)
        .map(|flow| flow.id.clone())
        .collect();
    let reads = shown
        .into_iter()
        .map(|id| async move { get_flow(open, &id, NONE_FOUND).await });
    let documents = stream::iter(reads)
        .buffered(READ_AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut data = Vec::new();
    for flow in documents {
        match flow {
            Ok(flow) => data.push(shape::flow(&flow)),
            // Deleted a moment ago.
            Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let meta = page.meta(found.len());
    Ok(Json(json!({ "data": data, "meta": meta })).into_response())
}

/// `POST /flows`: one flow, or a list of them of which each has a result of its own.
pub(super) async fn create(
    State(rest): State<Arc<Rest>>,
    headers: HeaderMap,
    content: Body,
) -> Answer {
    let open = rest.open()?;
    let request_id = request_id(&headers);
    match body(&headers, content).await? {
        Value::Array(items) => {
            if items.len() > FLOW_DOCUMENTS_PER_TEXT_MAX {
                return Err(Refusal::bad(format!(
                    "{} flows; at most {FLOW_DOCUMENTS_PER_TEXT_MAX} are allowed",
                    items.len()
                )));
            }
            let mut results = Vec::with_capacity(items.len());
            for (at, item) in items.into_iter().enumerate() {
                let request_id = match request_id.as_str() {
                    "" => String::new(),
                    id => format!("{id}/{at}"),
                };
                let result = create_one(open, item, request_id).await;
                results.push(result.unwrap_or_else(Refusal::item));
            }
            Ok((StatusCode::CREATED, Json(Value::Array(results))).into_response())
        }
        item => {
            let created = create_one(open, item, request_id).await?;
            Ok((StatusCode::CREATED, Json(created)).into_response())
        }
    }
}

async fn create_one(open: &Open, item: Value, request_id: String) -> Result<Value, Refusal> {
    let Value::Object(mut document) = item else {
        return Err(Refusal::bad("a flow must be a JSON object"));
    };
    let has_name = document
        .get("name")
        .is_some_and(|name| !matches!(name, Value::Null) && name != "");
    if !has_name {
        // OIH's flows need none; ours are told apart by theirs. The same request makes the same name.
        let unique = if request_id.is_empty() {
            format!("{:024x}", rand::random::<u128>() >> 32)
        } else {
            request_id.clone()
        };
        document.insert("name".into(), format!("flow-{unique}").into());
    }
    let request = ApplyFlowRequest {
        document: Value::Object(document).to_string(),
        request_id,
        create_only: true,
        ..ApplyFlowRequest::default()
    };
    let applied = flows::apply(open, Origin::Client, request).await?;
    Ok(one(&applied.flow.unwrap_or_default()))
}

/// `GET /flows/{id}`.
pub(super) async fn get(State(rest): State<Arc<Rest>>, Path(id): Path<String>) -> Answer {
    let flow = find(rest.open()?, &id, NONE_FOUND).await?;
    Ok(Json(one(&flow)).into_response())
}

/// `PATCH /flows/{id}`: what is given takes the place of what was there, key by key at the top.
pub(super) async fn change(
    State(rest): State<Arc<Rest>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Answer {
    let open = rest.open()?;
    let Value::Object(changes) = body(&headers, content).await? else {
        return Err(Refusal::bad("a change must be a JSON object"));
    };
    let flow = find(open, &id, NOT_FOUND).await?;
    require_inactive(&flow)?;
    let document = serde_json::from_str(&flow.document).unwrap_or_default();
    let Value::Object(mut document) = document else {
        return Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the flow's document cannot be read",
        ));
    };
    merge(&mut document, changes)?;
    let request = ApplyFlowRequest {
        document: Value::Object(document).to_string(),
        request_id: request_id(&headers),
        // Who changed it in between must not be written over.
        expected_revision: flow.draft_revision,
        flow_id: flow.id,
        ..ApplyFlowRequest::default()
    };
    let applied = flows::apply(open, Origin::Client, request).await?;
    Ok(Json(one(&applied.flow.unwrap_or_default())).into_response())
}

fn merge(document: &mut Map<String, Value>, changes: Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in changes {
        if key == "status" && value != "inactive" {
            return Err(Refusal::bad(
                "Flow status cannot be set manually. Use the flow start/stop end points instead.",
            ));
        }
        if SERVER_KEYS.contains(&key.as_str()) {
            continue;
        }
        if value.is_null() {
            document.remove(&key);
        } else {
            document.insert(key, value);
        }
    }
    Ok(())
}

/// `DELETE /flows/{id}`.
pub(super) async fn delete(
    State(rest): State<Arc<Rest>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let open = rest.open()?;
    let flow = find(open, &id, NOT_FOUND).await?;
    require_inactive(&flow)?;
    let request = DeleteFlowRequest {
        flow: flow.id,
        request_id: request_id(&headers),
    };
    flows::delete(open, Origin::Client, request).await?;
    let answer = json!({ "msg": "Flow was successfully deleted" });
    Ok(Json(answer).into_response())
}

fn one(flow: &Flow) -> Value {
    json!({ "data": shape::flow(flow), "meta": shape::flow_meta(flow) })
}

fn require_inactive(flow: &Flow) -> Result<(), Refusal> {
    if flow.status() == FlowStatus::Inactive {
        return Ok(());
    }
    let status = shape::status(flow.status());
    Err(Refusal::conflict(format!(
        "Flow is not inactive. Current status: {status}"
    )))
}

/// The flow with the id in a path.
pub(super) async fn find(open: &Open, id: &str, not_found: &'static str) -> Result<Flow, Refusal> {
    match ids::in_path(id, FlowId)? {
        None => Err(Refusal::not_found(not_found)),
        Some(id) => get_flow(open, &id, not_found).await,
    }
}

async fn get_flow(open: &Open, id: &str, not_found: &'static str) -> Result<Flow, Refusal> {
    let request = GetFlowRequest { flow: id.into() };
    let answer = flows::get(open, Origin::Client, request).await;
    let answer = answer.map_err(|error: Status| match error.code() {
        Code::NotFound => Refusal::not_found(not_found),
        _ => error.into(),
    })?;
    Ok(answer.flow.unwrap_or_default())
}
