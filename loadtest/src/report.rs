//! Results as a table or as JSON.

use anyhow::Result;
use serde_json::Value;

use crate::Output;

/// What a table shows, and under which heading.
const COLUMNS: &[(&str, &str)] = &[
    ("scenario", "scenario"),
    ("nodes", "nodes"),
    ("clients", "clients"),
    ("executions", "executions"),
    ("rate_per_s", "per s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("max_ms", "max ms"),
    ("server_cpu_us_per_execution", "CPU us/exec"),
    ("server_cpu_us_per_step", "CPU us/step"),
    ("commits_per_s", "commits/s"),
    ("bytes_written_per_execution", "bytes/exec"),
    ("rss_bytes", "rss bytes"),
];

/// Prints results.
///
/// # Errors
/// When a result cannot be written as JSON.
pub fn print(output: Output, results: &[Value]) -> Result<()> {
    if output == Output::Json {
        for result in results {
            println!("{}", serde_json::to_string(result)?);
        }
        return Ok(());
    }
    if results.iter().any(|result| result.get("p50_ms").is_none()) {
        for result in results {
            println!("{}", serde_json::to_string_pretty(result)?);
        }
        return Ok(());
    }
    println!(
        "{}",
        COLUMNS
            .iter()
            .map(|(_, title)| format!("{title:>12}"))
            .collect::<String>()
    );
    for result in results {
        let cell = |key: &str| match &result[key] {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        println!(
            "{}",
            COLUMNS
                .iter()
                .map(|(key, _)| format!("{:>12}", cell(key)))
                .collect::<String>()
        );
    }
    Ok(())
}
