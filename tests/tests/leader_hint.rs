//! A client learns from an answer that came by way of another node which one leads, and asks it at once
//! from then on; when that node is gone it finds the next one.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidemill_sdk::{Client, api::StartFlowRequest};
use tidemill_tests::{Cluster, http};

const FLOW: &str = "
name: near
graph:
  nodes:
    - {id: shape, componentId: transform, function: jsonata, fields: {expression: '$'}}
";
const STARTS: usize = 50;

/// Calls that a node has sent on.
async fn forwards(cluster: &Cluster, node: u64) -> Result<f64> {
    let metrics = http::metrics(&cluster.node(node).http).await?;
    Ok(metrics
        .get("tidemill_forward_total")
        .copied()
        .unwrap_or(0.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_asks_the_leader_at_once_after_its_first_call() -> Result<()> {
    let mut cluster = Cluster::builder(3).partitions(1).start().await?;
    let leader = cluster.leader_of(1).await?;
    let other = cluster.running().into_iter().find(|id| *id != leader);
    let other = other.context("three nodes")?;
    let client = Client::builder([cluster.node(other).endpoint()])
        .connect()
        .await?;
    client.apply(FLOW).await?;
    client.publish("near").await?;
    client
        .start_flow(StartFlowRequest {
            flow: "near".into(),
            ..StartFlowRequest::default()
        })
        .await?;
    client.start("near", &json!({})).await?;
    let before = forwards(&cluster, other).await?;
    for _ in 0..STARTS {
        client.start("near", &json!({})).await?;
    }
    let sent_on = forwards(&cluster, other).await? - before;
    ensure!(before >= 1.0, "the first call had to be sent on");
    ensure!(sent_on == 0.0, "{sent_on} of {STARTS} calls were sent on");

    cluster.node_mut(leader).kill()?;
    for _ in 0..STARTS {
        client.start("near", &json!({})).await?;
    }
    Ok(())
}
