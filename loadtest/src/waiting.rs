//! Executions that wait for an hour: what they cost in memory and on disk, and how long a restart takes.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_sdk::api::{Message, StartExecutionRequest};
use tidemill_tests::Cluster;

use crate::{Run, measure::Usage};

const FLOW: &str = "name: sleeper\ngraph: {nodes: [{id: w, componentId: wait, function: delay, fields: {duration: 1h}}], edges: []}";

/// Starts them, looks, kills the node, starts it again, looks again.
///
/// # Errors
/// When a start fails, or one is missing after the restart.
pub async fn run(run: &Run) -> Result<Value> {
    let mut builder = Cluster::builder(1);
    if let Some(binary) = &run.binary {
        builder = builder.binary(binary);
    }
    let mut cluster = builder.start().await?;
    let client = cluster.client().await?;
    client.apply(FLOW).await?;
    client.publish("sleeper").await?;
    client.start_flow_by_name("sleeper").await?;
    let empty = Usage::of(&cluster).await?;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut starters = Vec::new();
    for _ in 0..run.clients {
        let (client, next, count) = (client.clone(), next.clone(), run.count);
        starters.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                if number % 10_000 == 0 {
                    eprintln!("{number} of {count} started");
                }
                let message = Message {
                    data: "{}".into(),
                    ..Message::default()
                };
                let request = StartExecutionRequest {
                    flow: "sleeper".into(),
                    message: Some(message),
                    request_id: format!("w{number}"),
                    ..StartExecutionRequest::default()
                };
                client.start_execution(request).await?;
            }
        }));
    }
    for starter in starters {
        starter.await??;
    }
    let took = begun.elapsed().as_secs_f64();
    let full = Usage::of(&cluster).await?;
    let disk = folder_bytes(&cluster.node(1).data_dir)?;
    cluster.node_mut(1).kill()?;
    let begun = Instant::now();
    cluster.restart(1).await?;
    let restart_ms = begun.elapsed().as_millis() as u64;
    let again = Usage::of(&cluster).await?;
    let chains = cluster.verified_journal().await?;
    let started = chains
        .iter()
        .flat_map(|chain| &chain.records)
        .filter(|r| r.kind == "execution.started")
        .count();
    ensure!(
        started as u64 == run.count,
        "{started} of {} are in the journal",
        run.count
    );
    Ok(json!({
        "scenario": "waiting",
        "nodes": 1,
        "clients": run.clients,
        "executions": run.count,
        "errors": 0,
        "rate_per_s": (run.count as f64 / took).round(),
        "rss_bytes_empty": empty.rss_bytes,
        "rss_bytes": full.rss_bytes,
        "rss_bytes_after_restart": again.rss_bytes,
        "memory_bytes_per_execution": ((full.rss_bytes - empty.rss_bytes) / run.count as f64).round(),
        "disk_bytes_per_execution": (disk as f64 / run.count as f64).round(),
        "restart_after_kill_ms": restart_ms,
    }))
}

/// What a folder takes on disk, without the reserve for a full one.
///
/// # Errors
/// When it cannot be read.
pub fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // The reserve for a full disk is there whatever is stored.
        if entry.file_name() == "BALLAST" {
            continue;
        }
        bytes += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}
