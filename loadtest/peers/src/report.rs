//! Medians, ratios, and how they are printed.

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One object per line.
    Json,
}

/// What a table shows, and under which heading.
const COLUMNS: &[(&str, &str)] = &[
    ("rate_per_s", "per s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("late_p50_ms", "late p50"),
    ("late_p99_ms", "late p99"),
    ("server_cpu_us_per_execution", "CPU us"),
    ("bytes_written_per_execution", "bytes"),
    ("rss_bytes", "rss bytes"),
];

/// The keys of which ratios are made. Of the first, more is better; of the others, less.
const RATIOS: &[&str] = &[
    "rate_per_s",
    "p50_ms",
    "p99_ms",
    "late_p50_ms",
    "late_p99_ms",
    "server_cpu_us_per_execution",
];

/// For each number that all runs have, the median; other values as in the first run.
pub fn medians(runs: &[Map<String, Value>]) -> Map<String, Value> {
    let Some(first) = runs.first() else {
        return Map::new();
    };
    let mut result = Map::new();
    for (key, value) in first {
        let mut numbers: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.get(key)?.as_f64())
            .collect();
        numbers.sort_by(f64::total_cmp);
        let half = numbers.len() / 2;
        let median = if numbers.len() != runs.len() {
            value.clone()
        } else if numbers.len() % 2 == 1 {
            json!(numbers[half])
        } else {
            json!((numbers[half - 1] + numbers[half]) / 2.0)
        };
        result.insert(key.clone(), median);
    }
    result
}

/// Ours divided by theirs, for each figure that both have.
pub fn ratios(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Map<String, Value> {
    let mut result = Map::new();
    for key in RATIOS {
        let (Some(ours), Some(theirs)) = (
            ours.get(*key).and_then(Value::as_f64),
            theirs.get(*key).and_then(Value::as_f64),
        ) else {
            continue;
        };
        if theirs > 0.0 {
            let ratio = (ours / theirs * 1_000.0).round() / 1_000.0;
            result.insert((*key).to_owned(), json!(ratio));
        }
    }
    result
}

/// What was measured of one case.
#[derive(Debug)]
pub struct Compared {
    /// For example `steps1, 3 nodes, 256 clients`.
    pub title: String,
    /// `scenario`, `nodes`, `clients`.
    pub case: Map<String, Value>,
    /// The system, what is said of its durability, and the medians.
    pub systems: Vec<(&'static str, &'static str, Map<String, Value>)>,
    /// The runs of which the medians are.
    pub runs: usize,
}

impl Compared {
    /// Prints the systems, and the ratios of ours (the first) to each other one.
    ///
    /// # Errors
    /// When a result cannot be written as JSON.
    pub fn print(&self, output: Output) -> Result<()> {
        match output {
            Output::Json => self.print_json(),
            Output::Table => {
                self.print_table();
                Ok(())
            }
        }
    }

    fn ours(&self) -> Option<&Map<String, Value>> {
        let (_, _, ours) = self
            .systems
            .iter()
            .find(|(name, _, _)| *name == "tidemill")?;
        Some(ours)
    }

    fn print_json(&self) -> Result<()> {
        for (system, durability, figures) in &self.systems {
            let mut object = Map::new();
            object.insert("system".into(), json!(system));
            object.extend(self.case.clone());
            object.insert("runs".into(), json!(self.runs));
            object.insert("durability".into(), json!(durability));
            for (key, value) in figures {
                object.entry(key.clone()).or_insert_with(|| value.clone());
            }
            println!("{}", serde_json::to_string(&object)?);
        }
        for (system, _, figures) in &self.systems {
            let Some(ours) = self.ours().filter(|_| *system != "tidemill") else {
                continue;
            };
            let mut object = Map::new();
            object.insert("ratio_of".into(), json!("tidemill"));
            object.insert("to".into(), json!(system));
            object.extend(self.case.clone());
            object.extend(ratios(ours, figures));
            println!("{}", serde_json::to_string(&object)?);
        }
        Ok(())
    }

    fn print_table(&self) {
        let shown: Vec<_> = COLUMNS
            .iter()
            .filter(|(key, _)| {
                self.systems
                    .iter()
                    .any(|(_, _, one)| one.contains_key(*key))
            })
            .collect();
        println!("\n{} (medians of {} runs)", self.title, self.runs);
        let headings: String = shown
            .iter()
            .map(|(_, title)| format!("{title:>13}"))
            .collect();
        println!("{:<22}{headings}", "");
        for (system, _, figures) in &self.systems {
            let cells: String = shown
                .iter()
                .map(|(key, _)| format!("{:>13}", cell(figures.get(*key))))
                .collect();
            println!("{system:<22}{cells}");
        }
        for (system, _, figures) in &self.systems {
            let Some(ours) = self.ours().filter(|_| *system != "tidemill") else {
                continue;
            };
            let ratios = ratios(ours, figures);
            let cells: String = shown
                .iter()
                .map(|(key, _)| match ratios.get(*key).and_then(Value::as_f64) {
                    Some(ratio) => format!("{:>13}", format!("{ratio:.3} x")),
                    None => format!("{:>13}", ""),
                })
                .collect();
            println!("{:<22}{cells}", format!("ours / {system}"));
        }
        for (system, durability, _) in &self.systems {
            println!("  {system}: {durability}");
        }
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => match value.as_f64() {
            Some(number) if number.abs() >= 1_000.0 => format!("{number:.0}"),
            Some(number) => format!("{:.2}", number),
            None => value.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn a_median_is_the_middle_of_each_figure() {
        let runs: Vec<_> = [(1.0, 9.0), (5.0, 7.0), (3.0, 8.0)]
            .into_iter()
            .map(|(a, b)| object(json!({"rate_per_s": a, "p50_ms": b, "scenario": "steps1"})))
            .collect();
        let expected = json!({"rate_per_s": 3.0, "p50_ms": 8.0, "scenario": "steps1"});
        assert_eq!(Value::Object(medians(&runs)), expected);
        let two = medians(&runs[..2]);
        assert_eq!(two["rate_per_s"], json!(3.0));
        assert!(medians(&[]).is_empty());
    }

    #[test]
    fn a_ratio_is_ours_by_theirs_where_both_have_the_figure() {
        let ours = object(json!({"rate_per_s": 300.0, "p50_ms": 2.0, "p99_ms": 1.0}));
        let theirs = object(json!({"rate_per_s": 100.0, "p50_ms": 8.0, "late_p99_ms": 5.0}));
        let expected = json!({"rate_per_s": 3.0, "p50_ms": 0.25});
        assert_eq!(Value::Object(ratios(&ours, &theirs)), expected);
    }
}
