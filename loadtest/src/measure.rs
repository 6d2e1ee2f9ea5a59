//! What the server processes used, as the kernel and their own metrics say.

use anyhow::{Context as _, Result};
use tidemill_tests::{Cluster, http};

/// Clock ticks per second in /proc: 100 on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Totals of all server processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Bytes that reached the disk layer.
    pub written_bytes: f64,
    /// Resident memory now.
    pub rss_bytes: f64,
    /// Batches committed by leaders.
    pub commits: f64,
    /// Syncs of the logs.
    pub syncs: f64,
}

impl Usage {
    /// Reads it for every node that runs.
    ///
    /// # Errors
    /// When a node or the kernel does not answer.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let mut usage = Self::default();
        for node in &cluster.nodes {
            let Some(pid) = node.pid() else { continue };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The command name may hold spaces: fields are counted from its closing parenthesis.
            let fields: Vec<&str> = stat
                .rsplit_once(')')
                .context("a stat line")?
                .1
                .split_whitespace()
                .collect();
            let ticks = |at: usize| {
                fields
                    .get(at)
                    .and_then(|f| f.parse::<f64>().ok())
                    .unwrap_or(0.0)
            };
            usage.cpu_seconds += (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
            let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
            usage.written_bytes += line(&io, "write_bytes:");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            usage.rss_bytes += line(&status, "VmRSS:") * 1024.0;
            let metrics = http::metrics(&node.http).await?;
            let metric = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
            usage.commits += metric("tidemill_raft_batches_committed_total");
            usage.syncs += metric("tidemill_store_fsyncs");
        }
        Ok(usage)
    }
}

fn line(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0.0)
}
