//! Starting and stopping flows: one, or several.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
};
use serde_json::{Value, json};
use tidemill_proto::v1::{Flow, FlowStatus, PublishFlowRequest, StartFlowRequest, StopFlowRequest};
use tidemill_types::limits::REST_FLOWS_SWITCHED_MAX;

use super::{Answer, Refusal, Rest, body, flows::find, query::Query, request_id, shape};
use crate::gateway::{Open, Origin, flow as flows};

const NOT_FOUND: &str = "No flow with this ID found";

/// What is asked of a flow.
#[derive(Clone, Copy, Debug)]
enum Switch {
    On { without_workers: bool },
    Off,
}

impl Switch {
    fn on(query: Option<String>) -> Result<Self, Refusal> {
        let query = Query::parse(&query.unwrap_or_default())?;
        Ok(Self::On {
            without_workers: query.get("requireWorkers") == Some("false"),
        })
    }
}

/// `POST /flows/{id}/start`: publishes the draft and starts it. On a flow that starts or runs already it
/// changes nothing.
pub(super) async fn start(
    State(rest): State<Arc<Rest>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer {
    let switched = switch(rest.open()?, &id, Switch::on(query)?, request_id(&headers)).await?;
    Ok(Json(switched).into_response())
}

/// `POST /flows/{id}/stop`.
pub(super) async fn stop(
    State(rest): State<Arc<Rest>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let switched = switch(rest.open()?, &id, Switch::Off, request_id(&headers)).await?;
    Ok(Json(switched).into_response())
}

/// `POST /flows/multiple/start`: a list of ids, each with a result of its own.
pub(super) async fn start_multiple(
    State(rest): State<Arc<Rest>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    content: Body,
) -> Answer {
    let what = Switch::on(query)?;
    multiple(rest.open()?, &headers, content, what).await
}

/// `POST /flows/multiple/stop`.
pub(super) async fn stop_multiple(
    State(rest): State<Arc<Rest>>,
    headers: HeaderMap,
    content: Body,
) -> Answer {
    multiple(rest.open()?, &headers, content, Switch::Off).await
}

async fn multiple(open: &Open, headers: &HeaderMap, content: Body, what: Switch) -> Answer {
    // OIH answers 500 where it is no list.
    let Value::Array(ids) = body(headers, content).await? else {
        return Err(Refusal::bad("a list of ids is expected"));
    };
    if ids.len() > REST_FLOWS_SWITCHED_MAX {
        return Err(Refusal::bad(format!(
            "{} flows; at most {REST_FLOWS_SWITCHED_MAX} are allowed",
            ids.len()
        )));
    }
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        let text = id.as_str().unwrap_or_default();
        let result = switch(open, text, what, String::new()).await;
        results.push(result.unwrap_or_else(|refusal| {
            let mut item = refusal.item();
            if let Some(errors) = item["errors"].as_array_mut() {
                for error in errors {
                    error["flowId"] = id.clone();
                }
            }
            item
        }));
    }
    Ok((StatusCode::OK, Json(Value::Array(results))).into_response())
}

async fn switch(open: &Open, id: &str, what: Switch, request_id: String) -> Result<Value, Refusal> {
    let flow = find(open, id, NOT_FOUND).await?;
    let switched = match what {
        Switch::On { .. } if matches!(flow.status(), FlowStatus::Active | FlowStatus::Starting) => {
            Some(flow)
        }
        Switch::On { without_workers } => {
            let publish = PublishFlowRequest {
                flow: flow.id.clone(),
                request_id: String::new(),
            };
            flows::publish(open, Origin::Client, publish).await?;
            let request = StartFlowRequest {
                flow: flow.id,
                version: 0,
                request_id,
                without_workers,
                no_wait: true,
            };
            flows::start(open, Origin::Client, request).await?.flow
        }
        Switch::Off => {
            let request = StopFlowRequest {
                flow: flow.id,
                request_id,
                cancel_running: false,
                no_wait: true,
            };
            flows::stop(open, Origin::Client, request).await?.flow
        }
    };
    Ok(shown(&switched.unwrap_or_default()))
}

/// What a flow that was started or stopped is now.
fn shown(flow: &Flow) -> Value {
    json!({
        "data": { "id": shape::flow_id(&flow.id), "status": shape::status(flow.status()) },
        "meta": shape::flow_meta(flow),
    })
}
