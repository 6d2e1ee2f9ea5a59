//! Three nodes: the leader is killed with SIGKILL again and again while executions run. Every
//! acknowledged start ends exactly once, no step completes twice, all journals are one.
//!
//! `TIDEMILL_FAILOVERS=10` kills ten times instead of twice; the gaps are printed as JSON.

use std::time::{Duration, Instant};

use anyhow::Result;
use tidemill_tests::{Cluster, Load};

const STARTERS: usize = 8;
/// A start that was on its way when the leader was killed may still be acknowledged.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_lose_nothing() -> Result<()> {
    let kills: usize = std::env::var("TIDEMILL_FAILOVERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2);
    let mut cluster = Cluster::start(3).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    let mut gaps_ms = Vec::new();
    for _ in 0..kills {
        load.goes_on().await?;
        let leader = cluster.leader_of(load.home()).await?;
        let killed = Instant::now();
        cluster.node_mut(leader).kill()?;
        load.acknowledged_since(killed + ON_ITS_WAY).await?;
        gaps_ms.push(load.longest_gap(killed).as_millis() as u64);
        cluster.restart(leader).await?;
    }
    let executions = load.finish(&cluster).await?;
    println!(
        "{}",
        serde_json::json!({ "kills": kills, "executions": executions, "gaps_ms": gaps_ms })
    );
    Ok(())
}
