//! New figures against old ones.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{aligned, read, title};
use crate::figures::Figures;

/// What must be equal for two results to be of the same measurement.
const IDENTITY: &[&str] = &[
    "scenario",
    "nodes",
    "clients",
    "clients_per_connection",
    "mode",
    "shape",
    "offered_rate_per_s",
    "payload_bytes",
    "count",
    "fan",
    "search_p99_ms",
    "connect",
];
/// Not a figure of merit, or the same as another one.
const NOT_COMPARED: &[&str] = &["executions", "seconds", "runs", "errors", "overflow"];
/// Which way is better, by a key's ending; the first that fits. What fits none is shown, and never fails.
const DIRECTIONS: &[(&str, Better)] = &[
    ("commits_per_s", Better::Neither),
    ("fsyncs_per_s", Better::Neither),
    ("worker_cpu_us_per_execution", Better::Neither),
    ("server_cpu_cores", Better::Neither),
    ("max_ms", Better::Neither),
    ("p999_ms", Better::Neither),
    ("per_s", Better::Higher),
    ("rate_kept", Better::Higher),
    ("_ms", Better::Lower),
    ("cpu_us_per_execution", Better::Lower),
    ("cpu_us_per_step", Better::Lower),
    ("bytes_written_per_execution", Better::Lower),
    ("rss_bytes", Better::Lower),
    ("bytes_per_waiting", Better::Lower),
    ("bytes_per_finished", Better::Lower),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
    Neither,
}

/// One figure of one measurement, old and new.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Which measurement.
    pub title: String,
    /// Which figure.
    pub key: String,
    /// As it was.
    pub old: f64,
    /// As it is.
    pub new: f64,
    /// By how many percent it is worse; 0 or less when it is not, nothing when no way is better.
    pub worse_percent: Option<f64>,
}

impl Ratio {
    /// New by old.
    pub fn ratio(&self) -> f64 {
        self.new / self.old
    }
}

/// Every figure that both have, in the order of the new results.
pub fn ratios(old: &[Figures], new: &[Figures]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for result in new {
        let same = |other: &&Figures| {
            IDENTITY
                .iter()
                .all(|key| result.get(*key) == other.get(*key))
        };
        let Some(before) = old.iter().find(same) else {
            continue;
        };
        for (key, value) in result {
            let skipped = IDENTITY.contains(&key.as_str()) || NOT_COMPARED.contains(&key.as_str());
            let numbers = (before.get(key).and_then(Value::as_f64), value.as_f64());
            let (Some(old), Some(new)) = numbers else {
                continue;
            };
            if skipped || old == 0.0 {
                continue;
            }
            let change = (new / old - 1.0) * 100.0;
            let worse_percent = match direction(key) {
                Better::Higher => Some((old / new - 1.0) * 100.0),
                Better::Lower => Some(change),
                Better::Neither => None,
            };
            ratios.push(Ratio {
                title: title(result),
                key: key.clone(),
                old,
                new,
                worse_percent,
            });
        }
    }
    ratios
}

fn direction(key: &str) -> Better {
    DIRECTIONS
        .iter()
        .find(|(ending, _)| key.ends_with(ending))
        .map_or(Better::Neither, |(_, better)| *better)
}

/// The ratios of these results to those of a file, as a table.
///
/// # Errors
/// When the file cannot be read or holds no result of the same measurements; with `fail_over`, when a
/// figure is worse by more than so many percent.
pub fn against(path: &Path, new: &[Figures], fail_over: Option<f64>) -> Result<String> {
    let ratios = ratios(&read(path)?, new);
    if ratios.is_empty() {
        bail!("{}: no result of the same measurements", path.display());
    }
    let mut rows = vec![
        ["measurement", "figure", "old", "new", "new/old", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut worse = Vec::new();
    for ratio in &ratios {
        let is_worse = fail_over
            .zip(ratio.worse_percent)
            .is_some_and(|(limit, worse)| worse > limit);
        if is_worse {
            worse.push(format!("{}: {}", ratio.title, ratio.key));
        }
        rows.push(vec![
            ratio.title.clone(),
            ratio.key.clone(),
            ratio.old.to_string(),
            ratio.new.to_string(),
            format!("{:.3}", ratio.ratio()),
            if is_worse { "WORSE" } else { "" }.to_owned(),
        ]);
    }
    let text = aligned(&rows);
    if let Some(limit) = fail_over
        && !worse.is_empty()
    {
        eprint!("{text}");
        bail!(
            "{} figures are worse by more than {limit} %: {}",
            worse.len(),
            worse.join("; ")
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(clients: u32, rate: f64, p99: f64) -> Figures {
        let value = json!({
            "scenario": "steps1", "nodes": 1, "clients": clients, "errors": 0,
            "rate_per_s": rate, "p99_ms": p99, "commits_per_s": 5.0, "course": [],
        });
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn the_same_measurement_is_compared_and_no_other() {
        let old = [result(1, 100.0, 2.0), result(64, 1_000.0, 10.0)];
        let new = [result(64, 500.0, 11.0), result(256, 1.0, 1.0)];
        let ratios = ratios(&old, &new);
        let found: Vec<_> = ratios
            .iter()
            .map(|r| (r.key.as_str(), r.ratio(), r.worse_percent.map(f64::round)))
            .collect();
        assert_eq!(
            found,
            [
                ("rate_per_s", 0.5, Some(100.0)),
                ("p99_ms", 1.1, Some(10.0)),
                ("commits_per_s", 1.0, None)
            ]
        );
    }

    #[test]
    fn fails_only_when_asked_and_only_for_what_is_worse() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("old.json");
        let old = serde_json::to_string(&[result(64, 1_000.0, 10.0)]).expect("json");
        std::fs::write(&path, old).expect("written");
        let slower = [result(64, 800.0, 10.0)];
        assert!(
            against(&path, &slower, None)
                .expect("not asked")
                .contains("0.800")
        );
        assert!(against(&path, &slower, Some(30.0)).is_ok());
        let error = against(&path, &slower, Some(10.0)).expect_err("25 % worse");
        assert!(error.to_string().contains("rate_per_s"));
        let faster = [result(64, 2_000.0, 5.0)];
        assert!(against(&path, &faster, Some(0.0)).is_ok());
        assert!(against(&path, &[result(3, 1.0, 1.0)], None).is_err());
    }
}
