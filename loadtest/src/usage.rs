//! What the server processes used, as the kernel and their own metrics say.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use tidemill_tests::http;

use crate::servers::{ServerNode, Servers};

/// Clock ticks per second in /proc: 100 on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Totals of all server processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Bytes that reached the disk layer; of servers that are not our own, what their stores wrote.
    pub written_bytes: f64,
    /// Resident memory now.
    pub rss_bytes: f64,
    /// Batches committed by leaders.
    pub commits: f64,
    /// Syncs of the logs.
    pub fsyncs: f64,
    /// Executions that leaders started.
    pub started: f64,
    /// Executions that ended, in whatever state.
    pub ended: f64,
    /// Table files of the state and what of it is not in files yet.
    pub state_bytes: f64,
    /// Files of the Raft log and what of it is not in files yet.
    pub log_bytes: f64,
}

impl Usage {
    /// Reads it for every node that runs.
    ///
    /// # Errors
    /// When a node or the kernel does not answer.
    pub async fn of(servers: &Servers) -> Result<Self> {
        let mut usage = Self::default();
        for node in servers.nodes() {
            if !servers.runs(&node) {
                continue;
            }
            usage.add(&node).await?;
        }
        Ok(usage)
    }

    async fn add(&mut self, node: &ServerNode) -> Result<()> {
        let metrics = http::metrics(&node.http).await?;
        let metric = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
        self.commits += metric("tidemill_raft_batches_committed_total");
        self.fsyncs += metric("tidemill_store_fsyncs");
        self.started += metric("tidemill_execution_started_total");
        self.ended += metric("tidemill_execution_ended_total");
        self.state_bytes +=
            metric("tidemill_store_state_file_bytes") + metric("tidemill_store_state_memory_bytes");
        self.log_bytes +=
            metric("tidemill_store_log_file_bytes") + metric("tidemill_store_log_memory_bytes");
        match node.pid {
            Some(pid) => self.add_process(pid),
            None => {
                self.add_metrics(&metrics);
                Ok(())
            }
        }
    }

    fn add_process(&mut self, pid: u32) -> Result<()> {
        self.cpu_seconds += cpu_seconds(pid)?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
        self.written_bytes += line(&io, "write_bytes:");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        self.rss_bytes += line(&status, "VmRSS:") * 1024.0;
        Ok(())
    }

    /// Of a process elsewhere: what it says of itself.
    fn add_metrics(&mut self, metrics: &HashMap<String, f64>) {
        let metric = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
        self.cpu_seconds += metric("process_cpu_seconds");
        self.rss_bytes += metric("process_resident_memory_bytes");
        self.written_bytes +=
            metric("tidemill_store_appended_bytes") + metric("tidemill_store_state_written_bytes");
    }
}

/// User and system time of a process of this machine, in seconds.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The command name may hold spaces: fields are counted from its closing parenthesis.
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<f64>().ok())
            .context("a stat line has its times")
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
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
