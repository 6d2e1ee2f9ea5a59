//! One trace, from the client's call through the engine to a Rust worker and back, as a collector of
//! OTLP traces sees it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::{Router, body::Bytes, http::Uri};
use tidemill_sdk::{
    Outcome, TaskContext, Worker,
    api::{ExecutionState, Message, StartExecutionRequest, TraceContext},
};
use tidemill_tests::{Cluster, until};
use tokio::net::TcpListener;

const FLOW: &str = "name: traced\ngraph:\n  nodes: [{id: a, componentId: test, function: echo}]\n";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Takes whatever comes by gRPC; gives its address and the messages that came to its trace service.
async fn collector() -> Result<(SocketAddr, Arc<Mutex<Vec<Bytes>>>)> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let into = Arc::clone(&received);
    let router = Router::new().fallback(move |uri: Uri, body: Bytes| async move {
        if uri.path().ends_with("TraceService/Export") {
            into.lock().expect("no handler panicked").push(body);
        }
        (
            [("content-type", "application/grpc"), ("grpc-status", "0")],
            "",
        )
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((address, received))
}

/// A protobuf message's length-delimited fields with this number; none when it is no such message.
fn fields(message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut rest = message;
    let varint = |rest: &mut &[u8]| {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, tail) = rest.split_first()?;
            *rest = tail;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let len = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, tail) = rest.split_at_checked(len)?;
        rest = tail;
        if tag == wanted << 3 | 2 {
            found.push(field);
        }
    }
    Some(found)
}

/// A span, by the fields of OTLP's `Span`.
#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    text: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `ExportTraceServiceRequest` → resource spans → scope spans → spans, behind gRPC's 5 bytes.
fn spans(body: &[u8]) -> Option<Vec<Span>> {
    let mut spans = Vec::new();
    for resource in fields(body.get(5..)?, 1)? {
        for scope in fields(resource, 2)? {
            for span in fields(scope, 2)? {
                let one = |number| Some(fields(span, number)?.first().copied().unwrap_or_default());
                spans.push(Span {
                    trace: hex(one(1)?),
                    id: hex(one(2)?),
                    parent: hex(one(4)?),
                    name: String::from_utf8_lossy(one(5)?).into_owned(),
                    text: String::from_utf8_lossy(span).into_owned(),
                });
            }
        }
    }
    Some(spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_from_the_call_to_the_worker_and_back() -> Result<()> {
    let (address, received) = collector().await?;
    let mut cluster = Cluster::builder(1)
        .settings(&format!(
            "[telemetry]\notlp_endpoint = \"http://{address}\"\n"
        ))
        .start()
        .await?;
    let client = cluster.client().await?;
    let (stop_worker, stopped) = tokio::sync::oneshot::channel::<()>();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let worker = Worker::builder(cluster.endpoints())
        .name("tester")
        .function("test", "echo", move |task: TaskContext| {
            let context = task.trace().traceparent;
            sees.lock().expect("no handler panicked").push(context);
            async move { Ok(Outcome::message(task.message())) }
        });
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    client.apply(FLOW).await?;
    client.publish("traced").await?;
    client.start_flow_by_name("traced").await?;

    let caller = TraceContext {
        traceparent: format!("00-{TRACE}-{CALLER}-01"),
        ..TraceContext::default()
    };
    let request = StartExecutionRequest {
        flow: "traced".into(),
        message: Some(Message {
            data: "{}".into(),
            ..Message::default()
        }),
        ..StartExecutionRequest::default()
    };
    let started = client.start_execution_in(&caller, request).await?;
    let ended = client
        .wait(&started.execution_id, Duration::from_secs(30))
        .await?;
    let state = ended.execution.unwrap_or_default().state();
    ensure!(state == ExecutionState::Succeeded, "{state:?}");
    let _ = stop_worker.send(());
    worker.await??;
    // It sends what it holds before it ends.
    cluster.node_mut(1).terminate().await?;
    until("the spans", async || {
        let received = received.lock().expect("no handler panicked");
        let all = received.iter().filter_map(|body| spans(body)).flatten();
        let of_trace: Vec<Span> = all.filter(|span| span.trace == TRACE).collect();
        (of_trace.len() >= 2).then_some(())
    })
    .await?;

    let received = received.lock().expect("no handler panicked");
    let all: Vec<Span> = received
        .iter()
        .filter_map(|body| spans(body))
        .flatten()
        .filter(|span| span.trace == TRACE)
        .collect();
    let start = all
        .iter()
        .find(|span| span.name.contains("StartExecution"))
        .with_context(|| format!("no span of the call: {all:?}"))?;
    ensure!(
        start.parent == CALLER,
        "the call hangs below the caller's span: {start:?}"
    );
    let task = all
        .iter()
        .find(|span| span.name == "test/echo")
        .with_context(|| format!("no span of the task: {all:?}"))?;
    ensure!(
        task.parent == start.id,
        "the task hangs below the call: {task:?}"
    );
    ensure!(
        task.text.contains("COMPLETION_STATUS_ACCEPTED"),
        "the way back: {task:?}"
    );
    let seen = seen.lock().expect("no handler panicked").clone();
    ensure!(
        seen == [format!("00-{TRACE}-{}-01", task.id)],
        "the worker got {seen:?}, the task's span is {task:?}"
    );
    Ok(())
}
