//! Our side: `tidemill-loadtest run ... --output json`, called as anybody would.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

/// What is said beside the figures.
pub const DURABILITY: &str =
    "defaults: every batch is fsynced on a majority before an answer, its journal records with it";

/// Runs one scenario.
///
/// # Errors
/// When it fails, which it does by itself when an execution is not accounted for.
pub fn run(loadtest: &Path, binary: &Path, arguments: &[String]) -> Result<Map<String, Value>> {
    let output = Command::new(loadtest)
        .arg("run")
        .args(arguments)
        .args(["--output", "json"])
        .env("TIDEMILL_BIN", binary)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", loadtest.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let called = arguments.join(" ");
    ensure!(
        output.status.success(),
        "tidemill-loadtest run {called}: {}\n{errors}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let line = text
        .lines()
        .rfind(|line| line.starts_with('{'))
        .with_context(|| format!("tidemill-loadtest run {called} printed no JSON object"))?;
    let Value::Object(result) = serde_json::from_str(line)? else {
        anyhow::bail!("not an object: {line}");
    };
    Ok(result)
}
