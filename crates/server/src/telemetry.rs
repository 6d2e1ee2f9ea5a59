//! Logs and traces: where they go, and the trace context of requests.

mod lines;

use std::{collections::HashMap, io::IsTerminal as _};

use anyhow::Context as _;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub(crate) use self::lines::{dropped as lines_dropped, finish as finish_lines};
use crate::config::{Config, LogFormat};

/// Sends what is left when the node stops.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Most bytes of a W3C `tracestate` that are kept; a longer one is dropped, as the standard allows.
const TRACE_STATE_BYTES_MAX: usize = 512;

/// Sets up logging and, if it is configured, tracing. Does nothing when that was done before. Must be
/// called within a tokio runtime.
///
/// # Errors
/// When the configuration cannot be used.
pub fn init(config: &Config) -> anyhow::Result<Telemetry> {
    let filter = EnvFilter::try_new(with_quiet_raft(&config.log_level)).context("log.level")?;
    // Standard output is for what a caller reads; logs go beside it.
    let text = tracing_subscriber::fmt::layer()
        .with_writer(lines::writer())
        .with_ansi(std::io::stderr().is_terminal());
    let logs = match config.log_format {
        LogFormat::Text => text.boxed(),
        LogFormat::Json => text.json().boxed(),
    };
    let traces = config
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| provider(endpoint, config))
        .transpose()?;
    let otlp = traces.as_ref().map(|provider| {
        let tracer = provider.tracer("tidemill");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            // Spans of requests only: what dependencies trace is not about a flow.
            .with_filter(tracing_subscriber::filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target().starts_with("tidemill")
            }))
    });
    let set = tracing_subscriber::registry()
        .with(otlp)
        .with(logs.with_filter(filter))
        .try_init();
    if set.is_err() {
        tracing::debug!("logging was set up before");
    }
    Ok(Telemetry { traces })
}

/// openraft says at `info` and `warn` what is of interest to those who work on it, hundreds of times a
/// second while a peer is away. Whoever wants it names it.
fn with_quiet_raft(level: &str) -> String {
    if level.contains("openraft") {
        level.to_owned()
    } else {
        format!("openraft=error,{level}")
    }
}

fn provider(endpoint: &str, config: &Config) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("telemetry.otlp_endpoint")?;
    let resource = Resource::builder()
        .with_service_name("tidemill")
        .with_attribute(opentelemetry::KeyValue::new(
            "tidemill.cluster",
            config.cluster_name.clone(),
        ))
        .with_attribute(opentelemetry::KeyValue::new(
            "service.instance.id",
            config.node_id.to_string(),
        ))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

impl Telemetry {
    /// Sends what is left. Waits for the collector, for a few seconds at the most.
    pub async fn stop(mut self) {
        if let Some(traces) = self.traces.take() {
            let stopped = tokio::task::spawn_blocking(move || traces.shutdown()).await;
            if let Ok(Err(error)) = stopped {
                tracing::warn!(%error, "traces were not all sent");
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        lines::finish();
    }
}

/// The headers of a request, for the propagator.
struct Headers<'a>(&'a axum::http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// The span of a request on the gRPC port, as a child of what the caller sent. Disabled, and so free
/// of cost, unless spans are exported or logged.
pub(crate) fn request_span(rpc: &str, headers: &axum::http::HeaderMap) -> Span {
    let span = tracing::debug_span!("request", otel.name = rpc, rpc, otel.kind = "server");
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        if parent.span().span_context().is_valid() {
            // Fails where spans are logged but not exported; then there is no parent to set.
            let _ = span.set_parent(parent);
        }
    }
    span
}

/// The span of a task that is with a worker, from its delivery to the answer to its completion: a child of
/// the request that started the execution. The task gets the span's own context, so that what the
/// worker traces hangs below it. Disabled, and so free of cost, unless spans are exported or logged.
pub(crate) fn task_span(task: &mut tidemill_proto::v1::Task) -> Span {
    let Some(trace) = &mut task.trace else {
        return Span::none();
    };
    let span = tracing::debug_span!(
        "task",
        otel.name = tracing::field::Empty,
        otel.kind = "producer",
        task_id = task.id,
        flow_id = task.flow_id,
        node = task.node,
        status = tracing::field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    let name = format!("{}/{}", task.component, task.function);
    span.record("otel.name", name.as_str());
    let propagator = TraceContextPropagator::new();
    let mut carrier = HashMap::from([
        ("traceparent".to_owned(), trace.traceparent.clone()),
        ("tracestate".to_owned(), trace.tracestate.clone()),
    ]);
    let parent = propagator.extract(&carrier);
    // Fails where spans are logged but not exported; then the worker gets what the caller sent.
    if parent.span().span_context().is_valid() && span.set_parent(parent).is_ok() {
        carrier.clear();
        propagator.inject_context(&span.context(), &mut carrier);
        if let Some(own) = carrier.remove("traceparent") {
            trace.traceparent = own;
            trace.tracestate = carrier.remove("tracestate").unwrap_or_default();
        }
    }
    span
}

/// The W3C `traceparent` and `tracestate` to keep with what a request starts: of the request's own
/// span where spans are exported, else as the caller sent them. Empty when there are none.
pub(crate) fn trace_of(metadata: &tonic::metadata::MetadataMap) -> (String, String) {
    let mut own = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut own);
    if let Some(parent) = own.remove("traceparent") {
        return (parent, own.remove("tracestate").unwrap_or_default());
    }
    let header = |key: &str| metadata.get(key)?.to_str().ok();
    match header("traceparent") {
        Some(parent) if is_traceparent(parent) => {
            let state = header("tracestate")
                .filter(|state| state.len() <= TRACE_STATE_BYTES_MAX)
                .unwrap_or_default();
            (parent.to_owned(), state.to_owned())
        }
        // Not an error: the standard says that a context that cannot be read is started anew.
        _ => (String::new(), String::new()),
    }
}

/// `00-<32 hex digits, not all 0>-<16 hex digits, not all 0>-<2 hex digits>`, in lower case.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |part: &str| part.bytes().any(|b| b != b'0');
    matches!(parts.as_slice(), [version, trace, span, flags]
        if hex(version, 2) && *version != "ff" && hex(trace, 32) && not_zero(trace)
            && hex(span, 16) && not_zero(span) && hex(flags, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn request(parent: &'static str, state: &'static str) -> tonic::Request<()> {
        let mut request = tonic::Request::new(());
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", parent.parse().expect("ASCII"));
        metadata.insert("tracestate", state.parse().expect("ASCII"));
        request
    }

    #[test]
    fn takes_what_the_caller_sent() {
        let taken = trace_of(request(PARENT, "a=b").metadata());
        assert_eq!(taken, (PARENT.to_owned(), "a=b".to_owned()));
    }

    #[test]
    fn drops_what_is_no_context() {
        for wrong in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(
                trace_of(request(wrong, "a=b").metadata()),
                Default::default(),
                "{wrong}"
            );
        }
        assert_eq!(
            trace_of(tonic::Request::new(()).metadata()),
            Default::default()
        );
    }
}
