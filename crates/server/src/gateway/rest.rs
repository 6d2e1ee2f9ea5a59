//! Flows and executions over HTTP, in the shapes that clients of the Open Integration Hub know.
//!
//! Owns the translation between that REST and the functions that answer gRPC: paths, queries, bodies,
//! statuses. Must never decide anything itself, or store anything that gRPC would not.

mod answer;
mod executions;
mod flows;
mod ids;
mod listed;
mod query;
mod shape;
mod switch;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::Value;
use tidemill_types::limits::{REST_BODY_BYTES_MAX, REST_REQUESTS_MAX};
use tokio::{sync::Semaphore, time::timeout};

use self::answer::Refusal;
pub(super) use self::ids::{SHORT_BYTES, of_short};
use super::Open;
use crate::node::Node;

/// For a whole body: a caller that sends one byte now and then must end too.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The REST gateway of a node.
pub(crate) struct Rest {
    /// Set when the node is part of its cluster; the port is open before.
    node: Arc<OnceLock<Arc<Node>>>,
    open: OnceLock<Arc<Open>>,
    places: Semaphore,
}

type Answer = Result<Response, Refusal>;

/// The routes, to be merged into those of the HTTP port.
pub(crate) fn router(node: Arc<OnceLock<Arc<Node>>>) -> Router {
    guarded(Rest::new(node), routes())
}

fn routes() -> Router<Arc<Rest>> {
    Router::new()
        .route("/flows", get(flows::list).post(flows::create))
        .route(
            "/flows/{id}",
            get(flows::get).patch(flows::change).delete(flows::delete),
        )
        .route("/flows/{id}/start", post(switch::start))
        .route("/flows/{id}/stop", post(switch::stop))
        .route("/flows/multiple/start", post(switch::start_multiple))
        .route("/flows/multiple/stop", post(switch::stop_multiple))
        .route("/executions", get(executions::list))
        .route("/executions/{id}", get(executions::get))
        .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
}

fn guarded(rest: Arc<Rest>, routes: Router<Arc<Rest>>) -> Router {
    routes
        .layer(middleware::from_fn_with_state(Arc::clone(&rest), guard))
        .with_state(rest)
}

/// Keeps out what must not come in: web pages of other sites, and more than a node can do at once.
async fn guard(State(rest): State<Arc<Rest>>, request: Request, next: Next) -> Response {
    if is_of_another_site(request.headers()) {
        return Refusal::another_site().into_response();
    }
    let Ok(_place) = rest.places.try_acquire() else {
        return Refusal::overloaded().into_response();
    };
    next.run(request).await
}

/// Whether a browser sent it for a page of another site: until there is access control, such a page could
/// do everything that its visitor can.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match (origin, host) {
        (Some((_, origin)), Some(host)) => !origin.eq_ignore_ascii_case(host) || !is_address(host),
        _ => true,
    }
}

/// Whether a host is an address, or this machine: a name may be made to mean this machine by whoever owns
/// it (DNS rebinding), and then its pages are of the same site.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

impl Rest {
    fn new(node: Arc<OnceLock<Arc<Node>>>) -> Arc<Self> {
        Arc::new(Self {
            node,
            open: OnceLock::new(),
            places: Semaphore::new(REST_REQUESTS_MAX),
        })
    }

    fn open(&self) -> Result<&Arc<Open>, Refusal> {
        let node = self.node.get().ok_or_else(Refusal::starting)?;
        Ok(self.open.get_or_init(|| Open::new(Arc::clone(node))))
    }
}

/// The JSON of a request's body.
async fn body(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Nothing else: a page of another site can send other types without being asked.
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::not_json_type());
    }
    let bytes = timeout(
        BODY_TIMEOUT,
        axum::body::to_bytes(body, REST_BODY_BYTES_MAX),
    )
    .await
    .map_err(|_| Refusal::too_slow())?
    .map_err(|_| Refusal::too_large())?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad(format!("the body is not JSON: {error}")))
}

/// What makes a write safe to repeat, if the caller says it.
fn request_id(headers: &HeaderMap) -> String {
    ["idempotency-key", "x-request-id"]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| !id.is_empty())
        .unwrap_or_default()
        .to_owned()
}
