//! `/executions`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    response::IntoResponse as _,
};
use serde_json::{Value, json};
use tidemill_proto::v1::{
    Execution, ExecutionState, GetExecutionRequest, ListExecutionsRequest, ListStepsRequest,
    PageRequest, StepState,
};
use tidemill_types::{ExecutionId, limits::PAGE_SIZE_MAX, limits::REST_EXECUTIONS_LISTED_MAX};

use super::{
    Answer, Refusal, Rest, ids,
    query::Query,
    shape::{self, StepCounter},
};
use crate::gateway::{Open, Origin, execution as executions};

/// `GET /executions?filter[flowId]=`: newest first.
pub(super) async fn list(State(rest): State<Arc<Rest>>, RawQuery(query): RawQuery) -> Answer {
    let open = rest.open()?;
    let query = Query::parse(&query.unwrap_or_default())?;
    let page = query.page()?;
    let Some(flow) = query.get("filter[flowId]") else {
        return Err(Refusal::bad("filter[flowId] is missing"));
    };
    let Some(flow) = ids::in_path(flow, tidemill_types::FlowId)? else {
        return Ok(empty(page));
    };
    let state = match query.get("filter[status]") {
        None => ExecutionState::Unspecified,
        Some(name) => state_of(name)?,
    };
    let end = page.offset().saturating_add(page.size);
    if end > REST_EXECUTIONS_LISTED_MAX {
        return Err(Refusal::bad(format!(
            "page[number]: only the newest {REST_EXECUTIONS_LISTED_MAX} executions are listed here; list them by gRPC"
        )));
    }
    let (shown, total, has_more) = match part(open, &flow, state, page.offset(), page.size).await {
        Ok(part) => part,
        // OIH answers an empty list.
        Err(refusal) if refusal.status() == 404 => return Ok(empty(page)),
        Err(refusal) => return Err(refusal),
    };
    let data: Vec<Value> = shown
        .iter()
        .map(|execution| shape::execution(execution, None))
        .collect();
    let mut meta = page.meta(total);
    if has_more {
        // The total is then how many are listed at the most.
        meta["hasMore"] = true.into();
    }
    Ok(Json(json!({ "data": data, "meta": meta })).into_response())
}

fn empty(page: super::query::Page) -> axum::response::Response {
    Json(json!({ "data": [], "meta": page.meta(0) })).into_response()
}

fn state_of(name: &str) -> Result<ExecutionState, Refusal> {
    Ok(match name {
        "running" => ExecutionState::Running,
        "succeeded" => ExecutionState::Succeeded,
        "failed" => ExecutionState::Failed,
        "cancelled" => ExecutionState::Cancelled,
        "timed_out" => ExecutionState::TimedOut,
        _ => {
            return Err(Refusal::bad(
                "Invalid filter[status] parameter: running, succeeded, failed, cancelled and timed_out are allowed",
            ));
        }
    })
}

/// The executions from `offset` on, how many there are, and whether there are more than are listed.
async fn part(
    open: &Open,
    flow: &str,
    state: ExecutionState,
    offset: usize,
    size: usize,
) -> Result<(Vec<Execution>, usize, bool), Refusal> {
    let (mut shown, mut total, mut token) = (Vec::new(), 0, String::new());
    loop {
        let request = ListExecutionsRequest {
            flow: flow.to_owned(),
            state: state.into(),
            page: Some(PageRequest {
                size: PAGE_SIZE_MAX,
                token,
            }),
        };
        let answer = executions::list(open, Origin::Client, request).await?;
        for execution in answer.executions {
            if total >= offset && shown.len() < size {
                shown.push(execution);
            }
            total += 1;
        }
        token = answer.next_token;
        if token.is_empty() || total >= REST_EXECUTIONS_LISTED_MAX {
            return Ok((shown, total, !token.is_empty()));
        }
    }
}

/// `GET /executions/{id}`.
pub(super) async fn get(State(rest): State<Arc<Rest>>, Path(id): Path<String>) -> Answer {
    let open = rest.open()?;
    let not_found = || Refusal::not_found("No execution found");
    let execution_id = ids::in_path(&id, ExecutionId)?.ok_or_else(not_found)?;
    let request = GetExecutionRequest { execution_id };
    let answer = executions::get(open, Origin::Client, request).await;
    let answer = answer.map_err(|error| match error.code() {
        tonic::Code::NotFound => not_found(),
        _ => error.into(),
    })?;
    let execution = answer.execution.unwrap_or_default();
    let counters = counters(open, &execution.id).await?;
    let data = shape::execution(&execution, Some(&counters));
    Ok(Json(json!({ "data": data, "meta": {} })).into_response())
}

/// What each node did. Of a very large execution: its first steps.
async fn counters(
    open: &Open,
    execution_id: &str,
) -> Result<BTreeMap<String, StepCounter>, Refusal> {
    let mut counters: BTreeMap<String, StepCounter> = BTreeMap::new();
    let (mut seen, mut token) = (0, String::new());
    loop {
        let request = ListStepsRequest {
            execution_id: execution_id.to_owned(),
            page: Some(PageRequest {
                size: PAGE_SIZE_MAX,
                token,
            }),
            ..ListStepsRequest::default()
        };
        let answer = executions::list_steps(open, Origin::Client, request).await?;
        for step in answer.steps {
            let is_error = matches!(step.state(), StepState::Failed | StepState::Dead);
            let counter = counters.entry(step.node).or_default();
            counter.taken += 1;
            counter.given += step.outputs;
            counter.errors += u32::from(is_error);
            seen += 1;
        }
        token = answer.next_token;
        if token.is_empty() || seen >= REST_EXECUTIONS_LISTED_MAX {
            return Ok(counters);
        }
    }
}
