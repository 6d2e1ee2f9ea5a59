//! The HTTP port: webhooks, flows and executions as REST, and for monitoring `/live`, `/ready`,
//! `/metrics` and `/healthcheck`.

mod serve;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tidemill_replica::Replica;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use self::serve::serve;
use crate::{
    gateway::{rest, webhook},
    metrics::Metrics,
    node::Node,
};

/// What the port shows; the node comes later.
pub(crate) struct Monitor {
    pub(crate) replica: Arc<Replica>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) node: Arc<OnceLock<Arc<Node>>>,
    pub(crate) shutdown: CancellationToken,
}

/// How long `/ready` waits for what was in the log when it was asked.
const APPLIED_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    /// Why not; empty when it is.
    reasons: Vec<String>,
}

pub(crate) fn router(monitor: Arc<Monitor>) -> Router {
    let rest = rest::router(Arc::clone(&monitor.node));
    let webhooks = webhook::router(Arc::clone(&monitor.node), Arc::clone(&monitor.metrics));
    Router::new()
        .route(
            "/live",
            get(|| async { Json(serde_json::json!({ "live": true })) }),
        )
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/healthcheck", get(healthcheck))
        .with_state(monitor)
        .merge(webhooks)
        .merge(rest)
}

impl Monitor {
    /// Why the node is not ready; empty when it is.
    pub(crate) async fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.shutdown.is_cancelled() {
            reasons.push("the node is shutting down".into());
        }
        let Some(node) = self.node.get() else {
            reasons.push("the node is not part of its cluster yet".into());
            return reasons;
        };
        let faults = std::iter::once((node.catalog.partition(), node.catalog.fault())).chain(
            node.partitions
                .iter()
                .map(|partition| (partition.partition(), partition.fault())),
        );
        for (id, fault) in faults {
            reasons
                .extend(fault.map(|fault| format!("group {id} has stopped on this node: {fault}")));
        }
        let groups = self.replica.groups();
        let looks = groups.iter().map(|group| async {
            let id = group.id();
            if group.leadership().borrow().leader.is_none() {
                return Some(format!("group {id} has no leader"));
            }
            let last = group.stats().last_log;
            let mut applied = group.applied_changes();
            let caught_up = timeout(APPLIED_WAIT, applied.wait_for(|index| *index >= last));
            match caught_up.await {
                Ok(Ok(_)) => None,
                _ => Some(format!("group {id} has not applied entry {last} yet")),
            }
        });
        let looks = futures::future::join_all(looks).await;
        reasons.extend(looks.into_iter().flatten());
        reasons
    }
}

async fn ready(State(monitor): State<Arc<Monitor>>) -> Response {
    let reasons = monitor.not_ready().await;
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Ready { ready, reasons })).into_response()
}

/// `/ready` in OIH's shape.
async fn healthcheck(State(monitor): State<Arc<Monitor>>) -> Response {
    let reasons = monitor.not_ready().await;
    let (code, status) = if reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "error")
    };
    let body = serde_json::json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "details": { "reasons": reasons },
    });
    (code, Json(body)).into_response()
}

async fn metrics(State(monitor): State<Arc<Monitor>>) -> Response {
    // Sizes of files are asked of RocksDB, which may wait for the disk.
    let text = tokio::task::spawn_blocking(move || {
        let store = monitor.replica.store_stats().unwrap_or_default();
        let space = monitor.replica.space();
        let stats = monitor.replica.stats();
        monitor.metrics.sources.read(&store, space, &stats);
        monitor.metrics.render()
    });
    match text.await {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
