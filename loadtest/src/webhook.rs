//! Webhooks in a closed loop: N callers, each with a connection of its own and one request at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tidemill_tests::{Cluster, http};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Run, measure::Usage, scenario::WARM_UP};

const BODY: &str = r#"{"event":"order.created","order":{"id":7,"customer":"c-1","total":12.5}}"#;

/// Runs it on a fresh cluster; callers are spread over its nodes.
///
/// # Errors
/// When anything fails, or is not answered 200.
pub async fn run(run: &Run) -> Result<Value> {
    let mut builder = Cluster::builder(run.nodes);
    if let Some(binary) = &run.binary {
        builder = builder.binary(binary);
    }
    let cluster = builder.start().await?;
    let client = cluster.client().await?;
    client
        .apply("name: load\ngraph: {nodes: [{id: s0, componentId: load, function: echo}]}")
        .await?;
    client.publish("load").await?;
    client
        .start_flow(tidemill_sdk::api::StartFlowRequest {
            flow: "load".into(),
            without_workers: true,
            ..Default::default()
        })
        .await?;
    eprintln!(
        "webhook on {} node(s) with {} client(s)",
        run.nodes, run.clients
    );
    let stop = Arc::new(AtomicBool::new(false));
    let measuring = Arc::new(AtomicBool::new(false));
    let mut loops = Vec::new();
    for caller in 0..run.clients {
        let node = cluster.nodes[caller % cluster.nodes.len()].http.clone();
        loops.push(tokio::spawn(closed_loop(
            node,
            stop.clone(),
            measuring.clone(),
        )));
    }
    tokio::time::sleep(WARM_UP).await;
    let before = Usage::of(&cluster).await?;
    measuring.store(true, Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(run.duration).await;
    measuring.store(false, Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    let after = Usage::of(&cluster).await?;
    stop.store(true, Relaxed);
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut answered = 0;
    for one in loops {
        let (of_one, all) = one.await??;
        latencies.add(of_one)?;
        answered += all;
    }
    let started = started(&cluster).await?;
    ensure!(
        started >= answered,
        "{answered} requests were answered 200, and {started} executions started"
    );
    cluster.verified_journal().await?;
    let requests = latencies.len();
    ensure!(requests > 0, "nothing was answered within the measurement");
    let per = |total: f64| (total / requests as f64 * 10.0).round() / 10.0;
    let ms = |micros: u64| micros as f64 / 1_000.0;
    Ok(json!({
        "scenario": "webhook",
        "nodes": run.nodes,
        "clients": run.clients,
        "executions": requests,
        "errors": 0,
        "rate_per_s": (requests as f64 / seconds).round(),
        "p50_ms": ms(latencies.value_at_quantile(0.5)),
        "p90_ms": ms(latencies.value_at_quantile(0.9)),
        "p99_ms": ms(latencies.value_at_quantile(0.99)),
        "p999_ms": ms(latencies.value_at_quantile(0.999)),
        "max_ms": ms(latencies.max()),
        "server_cpu_us_per_execution": per((after.cpu_seconds - before.cpu_seconds) * 1e6),
        "commits_per_s": ((after.commits - before.commits) / seconds).round(),
        "syncs_per_s": ((after.syncs - before.syncs) / seconds).round(),
        "bytes_written_per_execution": per(after.written_bytes - before.written_bytes).round(),
        "rss_bytes": after.rss_bytes,
    }))
}

/// Executions that the leaders have started.
async fn started(cluster: &Cluster) -> Result<u64> {
    let mut sum = 0.0;
    for node in &cluster.nodes {
        let metrics = http::metrics(&node.http).await?;
        sum += metrics
            .get("tidemill_execution_started_total")
            .copied()
            .unwrap_or(0.0);
    }
    Ok(sum as u64)
}

/// One caller. Gives the latencies, in microseconds, of what was answered while it was measured, and how
/// many were answered in all.
async fn closed_loop(
    node: String,
    stop: Arc<AtomicBool>,
    measuring: Arc<AtomicBool>,
) -> Result<(Histogram<u64>, u64)> {
    let mut latencies = Histogram::new(3)?;
    let mut answered = 0;
    let mut stream = TcpStream::connect(&node).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "POST /hook/load HTTP/1.1\r\nHost: {node}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut answer = Vec::new();
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut answer).await?;
        ensure!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        answered += 1;
        if measuring.load(Relaxed) {
            latencies.record(begun.elapsed().as_micros() as u64)?;
        }
    }
    Ok((latencies, answered))
}

/// Reads one answer: its head, and as much body as the head says.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    answer.clear();
    loop {
        let read = stream.read_buf(answer).await?;
        ensure!(read > 0, "the connection was closed");
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .context("an answer without its length")?;
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
