//! Webhooks: `/hook/{flow}[/suffix]` on the HTTP port of every node.
//!
//! Owns the way of a request to the start of an execution: which flow, whether it is signed, how much
//! of it is read and for how long, and when it is answered. Any node answers for any flow. Must never: answer
//! 200 before the execution is committed, or read a body without end.

mod answer;
mod body;
mod places;
mod rates;
mod reply;
#[cfg(test)]
mod tests;
mod triggers;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, Method},
    response::Response,
    routing::any,
};
use sha2::{Digest as _, Sha256};
use tidemill_core::webhook::{self, Headers, Secret};
use tidemill_proto::{
    convert,
    v1::{StartExecutionRequest, TraceContext},
};
use tidemill_rows::table::MessageRow;
use tidemill_types::{
    FlowId,
    flow::{Reply, WebhookSignature, WebhookTrigger},
    limits::REQUEST_ID_CHARS_MAX,
};
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;

use self::{
    answer::{Refusal, accepted, method_not_allowed, nothing},
    body::Body,
    places::Places,
    rates::{Allowed, Rates, rate_of},
    triggers::Triggers,
};
use super::{Open, Origin, execution};
use crate::{
    clock,
    config::{Config, SecretText},
    metrics::Metrics,
    node::Node,
};

/// How long a start may take. It waits for a leader only about as long as an election takes, so longer
/// than this is a partition that cannot commit.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook gateway of a node.
pub(crate) struct Webhooks {
    /// Set when the node is part of its cluster; the port is open before.
    node: Arc<OnceLock<Arc<Node>>>,
    open: OnceLock<Arc<Open>>,
    metrics: Arc<Metrics>,
    triggers: Triggers,
    places: Places,
    rates: Rates,
}

/// The routes, to be merged into those of the HTTP port.
pub(crate) fn router(node: Arc<OnceLock<Arc<Node>>>, metrics: Arc<Metrics>) -> Router {
    let webhooks = Arc::new(Webhooks {
        node,
        open: OnceLock::new(),
        triggers: Triggers::default(),
        places: Places::new(&metrics),
        rates: Rates::default(),
        metrics,
    });
    Router::new()
        .route("/hook/{flow}", any(handle))
        .route("/hook/{flow}/{suffix}", any(handle))
        .with_state(webhooks)
}

type Parts = Result<Path<Vec<(String, String)>>, PathRejection>;

async fn handle(State(webhooks): State<Arc<Webhooks>>, parts: Parts, request: Request) -> Response {
    let begun = Instant::now();
    let method = known_method(request.method());
    let answer = match parts {
        Ok(Path(parts)) => {
            let mut parts = parts.into_iter().map(|(_, part)| part);
            let flow = parts.next().unwrap_or_default();
            webhooks
                .answer(flow, parts.next().unwrap_or_default(), request)
                .await
        }
        Err(error) => Err(Refusal::bad(error.body_text())),
    };
    let metrics = &webhooks.metrics;
    let (response, kind) = match answer {
        Ok((response, kind)) => (response, kind),
        Err(refusal) => {
            if let Some(reason) = refusal.shed_reason() {
                metrics.webhooks_shed.with(&[reason]).add(1);
            }
            (refusal.into_response(), "refused")
        }
    };
    let status = response.status();
    metrics.webhooks.with(&[method, status.as_str()]).add(1);
    let seconds = begun.elapsed().as_secs_f64();
    metrics.webhook_seconds.with(&[kind]).observe(seconds);
    response
}

/// A label: callers may invent methods without end.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// A request that may start an execution, checked as far as this node can.
struct Checked {
    request: webhook::Request,
    message: MessageRow,
    request_id: String,
    /// Held until the execution is started.
    _body: Body,
}

impl Webhooks {
    fn open(&self) -> Result<&Arc<Open>, Refusal> {
        let node = self.node.get().ok_or_else(|| {
            Refusal::unavailable("the node is starting: it is not part of its cluster yet")
        })?;
        Ok(self.open.get_or_init(|| Open::new(Arc::clone(node))))
    }

    /// The answer, and its kind for the metric.
    async fn answer(
        &self,
        flow: String,
        suffix: String,
        request: Request,
    ) -> Result<(Response, &'static str), Refusal> {
        let method = match *request.method() {
            Method::GET => Some(webhook::Method::Get),
            Method::POST => Some(webhook::Method::Post),
            Method::HEAD => None,
            _ => return Ok((method_not_allowed(), "refused")),
        };
        let open = self.open()?;
        let trigger = {
            let _place = self.places.lookup()?;
            self.triggers.find(open, &flow).await?
        };
        let id = trigger.flow;
        let trigger = trigger.webhook.as_ref().ok_or_else(Refusal::has_schedule)?;
        let Some(method) = method else {
            // Whether the flow takes requests, and nothing else.
            return Ok((nothing(), "async"));
        };
        let deadline = Instant::now() + reply::timeout_of(trigger);
        let checked = self
            .check(open, id, trigger, method, suffix, request)
            .await?;
        let held = match trigger.reply {
            Reply::Async => None,
            // Before anything is started, so that who finds no place has started nothing; but after the
            // body has come, so that who is slow takes no place.
            Reply::Wait => Some(self.places.hold(id)?),
        };
        let request_id = checked.request_id.clone();
        let execution_id = self.start(open, id, &flow, checked).await?;
        if held.is_none() {
            return Ok((accepted(&request_id, &execution_id), "async"));
        }
        let answered = reply::wait(open, &flow, &execution_id, deadline).await;
        answered
            .map(|response| (response, "wait"))
            .map_err(|refusal| refusal.started(&request_id, &execution_id))
    }

    /// Reads a request and checks all of it that needs no leader.
    async fn check(
        &self,
        open: &Open,
        id: FlowId,
        trigger: &WebhookTrigger,
        method: webhook::Method,
        suffix: String,
        request: Request,
    ) -> Result<Checked, Refusal> {
        let config = &open.node.config;
        let allowed = Allowed {
            flow: trigger
                .rate_limit
                .as_ref()
                .map(rate_of)
                .or(config.webhook_flow_rate),
            tenant: config.webhook_tenant_rate,
        };
        self.rates.look(id, allowed, Instant::now())?;
        let (parts, body) = request.into_parts();
        let bytes_max = config.message_bytes_max;
        let body = Body::read(body, bytes_max, &self.places).await?;
        let request = webhook::Request {
            method,
            suffix,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers(&parts.headers),
            body: body.bytes.clone(),
        };
        if let Some(signature) = &trigger.signature {
            let secret = secret(config, id, signature)?;
            webhook::verify(signature, &secret, &request, clock::now())
                .map_err(|error| Refusal::forbidden(&error))?;
        }
        let message = webhook::message(&request, trigger, bytes_max)?;
        let request_id = request_id(&request, trigger)?;
        // Last, so that nobody but the sender can use up what the sender may do.
        self.rates.take(id, allowed, Instant::now())?;
        Ok(Checked {
            request,
            message,
            request_id,
            _body: body,
        })
    }

    /// Starts the execution, or finds the one that the request id has started; gives its id.
    async fn start(
        &self,
        open: &Open,
        id: FlowId,
        flow: &str,
        checked: Checked,
    ) -> Result<String, Refusal> {
        let _place = self.places.start(id)?;
        let request_id = checked.request_id;
        let header = |name| {
            let headers = &checked.request.headers;
            headers.get(name).unwrap_or_default().to_owned()
        };
        let start = StartExecutionRequest {
            flow: id.to_string(),
            message: Some(convert::message(checked.message)),
            request_id: namespaced(id, &request_id),
            trace: Some(TraceContext {
                traceparent: header("traceparent"),
                tracestate: header("tracestate"),
            }),
            // Who repeats a request sends other dates and signatures with it.
            request_id_only: true,
            ..StartExecutionRequest::default()
        };
        let metadata = MetadataMap::new();
        let started = execution::start(open, Origin::Client, start, &metadata);
        match timeout(START_TIMEOUT, started).await {
            Ok(Ok(started)) => Ok(started.execution_id),
            Ok(Err(status)) => Err(Refusal::of(&status, flow, &request_id)),
            Err(_) => Err(Refusal::unknown(&request_id)),
        }
    }
}

fn headers(headers: &HeaderMap) -> Headers {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

/// The secret that a flow's requests are signed with. It is read for each request, which costs little
/// beside the signature.
fn secret(config: &Config, flow: FlowId, signature: &WebhookSignature) -> Result<Secret, Refusal> {
    let (name, text) = if signature.secret.is_empty() {
        let name = &signature.secret_env;
        (name, std::env::var(name).map_err(|error| error.to_string()))
    } else {
        let name = &signature.secret;
        let text = config.webhook_secrets.get(name).map(SecretText::expose);
        let missing = || "webhook.secrets has none of this name".to_owned();
        (name, text.map(str::to_owned).ok_or_else(missing))
    };
    let secret = text
        .and_then(|text| Secret::new(signature.scheme, &text).map_err(|error| error.to_string()));
    secret.map_err(|reason| {
        tracing::error!(flow_id = %flow, secret = name, reason, "webhook secret not usable");
        Refusal::unavailable(
            "this server cannot check signatures of this flow: its operator must set the secret",
        )
    })
}

/// The caller's id, or a new one.
fn request_id(request: &webhook::Request, trigger: &WebhookTrigger) -> Result<String, Refusal> {
    let given = request.request_id(trigger).unwrap_or_default();
    if given.chars().count() > REQUEST_ID_CHARS_MAX || given.chars().any(char::is_control) {
        return Err(Refusal::bad(format!(
            "the request id must be printable, and at most {REQUEST_ID_CHARS_MAX} characters"
        )));
    }
    if given.is_empty() {
        return Ok(format!("{:032x}", rand::random::<u128>()));
    }
    Ok(given.to_owned())
}

/// The id under which the execution is started. Callers of different flows know nothing of each other,
/// and a partition has one space of ids.
fn namespaced(flow: FlowId, request_id: &str) -> String {
    let readable = format!("hook/{flow}/{request_id}");
    if readable.chars().count() <= REQUEST_ID_CHARS_MAX {
        return readable;
    }
    let digest = Sha256::digest(request_id.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hook/{flow}/sha256:{hex}")
}
