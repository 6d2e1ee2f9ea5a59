//! How figures came about: what stands beside them wherever they go.

use std::{
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tidemill_sdk::{Client, api::GetStatusRequest};
use tidemill_types::Timestamp;

use crate::{options::Options, servers};

/// What an acknowledged request has gone through. There is no weaker setting.
const DURABILITY: &str = "every acknowledged batch is in the Raft log of a majority of nodes, each written with fdatasync before it \
     counts (the default, and the only setting)";

/// What stands beside the figures.
///
/// # Errors
/// When the servers do not say which version they are.
pub async fn describe(options: &Options) -> Result<Value> {
    let version = version(options).await?;
    let binary = servers::binary(options).ok();
    let cpu = file_line("/proc/cpuinfo", "model name").unwrap_or_default();
    let memory_kb = file_line("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut method = json!({
        "version": version,
        "commit": binary.as_deref().and_then(commit),
        "build": binary.as_deref().and_then(profile),
        "date": date(),
        "machine": format!("{}, {} memory, Linux {}", cpu.trim(), memory_kb.trim(), kernel.trim()),
        "cores": std::thread::available_parallelism().map(std::num::NonZero::get).unwrap_or(1),
        "load_average": load_average(),
        "durability": DURABILITY,
        "placement": "servers, workers and load generator share the machine",
    });
    if !options.endpoint.is_empty() {
        method["build"] = Value::Null;
        method["commit"] = Value::Null;
        method["placement"] = json!(format!("servers at {}", options.endpoint.join(",")));
    }
    Ok(method)
}

/// The servers' own version, not that of this program.
async fn version(options: &Options) -> Result<String> {
    if !options.endpoint.is_empty() {
        let client = Client::connect(&options.endpoint).await?;
        return Ok(client.get_status(GetStatusRequest {}).await?.version);
    }
    let binary = servers::binary(options)?;
    let output = Command::new(&binary).arg("--version").output();
    let output = output.with_context(|| format!("{} --version", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned())
}

/// Now, RFC 3339.
#[allow(clippy::disallowed_methods)] // a report says when it was made
pub fn date() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).to_string()
}

/// `debug` or `release`, from where cargo put the binary.
fn profile(binary: &Path) -> Option<&'static str> {
    let folder = binary.parent()?;
    ["release", "debug"]
        .into_iter()
        .find(|profile| folder.ancestors().take(2).any(|at| at.ends_with(profile)))
}

/// The commit of the clone that the binary was built in, with `-dirty` when it was changed since.
fn commit(binary: &Path) -> Option<String> {
    let folder = binary.parent()?;
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

fn file_line(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.to_owned())
}

/// Of the last minute: whether the machine was quiet.
fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
