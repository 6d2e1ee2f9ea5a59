//! Results as a table for people, as JSON lines for programs; kept, compared, drawn.

pub mod compare;
pub mod median;
pub mod method;
pub mod plot;

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::figures::Figures;

/// What a table shows, under which heading.
const COLUMNS: &[(&str, &str)] = &[
    ("scenario", "scenario"),
    ("nodes", "nodes"),
    ("clients", "clients"),
    ("clients_per_connection", "a conn."),
    ("executions", "executions"),
    ("errors", "errors"),
    ("rate_per_s", "per s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("p999_ms", "p99.9 ms"),
    ("max_ms", "max ms"),
    ("server_cpu_us_per_execution", "CPU us/exec"),
    ("server_cpu_us_per_step", "CPU us/step"),
    ("commits_per_s", "commits/s"),
    ("fsyncs_per_s", "fsyncs/s"),
    ("bytes_written_per_execution", "bytes/exec"),
    ("rss_bytes", "rss bytes"),
];
/// What a table does not show a second time or at all.
const HIDDEN: &[&str] = &["p90_ms", "seconds", "method"];

/// A table of what all have in common, then what each has beside that.
pub fn table(results: &[Figures]) -> String {
    let mut rows = vec![
        COLUMNS
            .iter()
            .map(|(_, title)| (*title).to_owned())
            .collect(),
    ];
    for result in results {
        rows.push(COLUMNS.iter().map(|(key, _)| cell(result, key)).collect());
    }
    let mut text = aligned(&rows);
    for result in results {
        let own: Vec<(&String, &Value)> = result
            .iter()
            .filter(|(key, value)| {
                let shown = COLUMNS.iter().any(|(column, _)| column == key);
                !shown && !HIDDEN.contains(&key.as_str()) && !value.is_object() && !value.is_array()
            })
            .collect();
        if own.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{} beside that:", title(result));
        for (key, value) in own {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(text, "\n  {key} {value}");
        }
        text.push('\n');
    }
    text
}

/// What names a result for people.
pub fn title(result: &Figures) -> String {
    let mut title = format!(
        "{}, {} nodes, {} clients",
        cell(result, "scenario"),
        cell(result, "nodes"),
        cell(result, "clients")
    );
    for (key, unit) in [
        ("clients_per_connection", " a connection"),
        ("mode", ""),
        ("offered_rate_per_s", "/s"),
        ("payload_bytes", " bytes"),
    ] {
        if result.contains_key(key) {
            let _ = write!(title, ", {}{unit}", cell(result, key));
        }
    }
    title
}

fn cell(result: &Figures, key: &str) -> String {
    match result.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// Rows with their columns below each other: texts on the left, numbers on the right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One object per line.
///
/// # Errors
/// When a result cannot be written.
pub fn json_lines(results: &[Figures]) -> Result<String> {
    let mut text = String::new();
    for result in results {
        text.push_str(&serde_json::to_string(result)?);
        text.push('\n');
    }
    Ok(text)
}

/// Reads results that were kept: JSON lines, or one array.
///
/// # Errors
/// When the file holds neither.
pub fn read(path: &Path) -> Result<Vec<Figures>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let parsed = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(&text),
        false => text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(serde_json::from_str)
            .collect(),
    };
    parsed.with_context(|| {
        format!(
            "{}: neither JSON lines nor an array of results",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result() -> Figures {
        json!({"scenario": "steps1", "nodes": 1, "clients": 64, "rate_per_s": 10.5, "extra_ms": 7, "course": []})
            .as_object()
            .expect("an object")
            .clone()
    }

    #[test]
    fn a_table_shows_common_figures_and_each_ones_own() {
        let text = table(&[result()]);
        let mut lines = text.lines();
        let head = lines.next().expect("a heading");
        assert!(head.starts_with("scenario") && head.ends_with("rss bytes"));
        let row = lines.next().expect("a row");
        assert!(row.starts_with("steps1") && row.contains("10.5") && row.contains(" - "));
        assert!(text.contains("extra_ms 7") && !text.contains("course"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r.json");
        let results = [result(), result()];
        std::fs::write(&path, json_lines(&results).expect("json")).expect("written");
        assert_eq!(read(&path).expect("read"), results);
        std::fs::write(&path, serde_json::to_string(&results).expect("json")).expect("written");
        assert_eq!(read(&path).expect("read"), results);
        std::fs::write(&path, "no json").expect("written");
        assert!(read(&path).is_err());
    }
}
