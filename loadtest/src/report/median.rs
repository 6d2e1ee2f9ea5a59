//! The median of each figure over repeated runs: one run on a shared machine says little.

use std::cmp::Ordering;

use serde_json::{Value, json};

use crate::figures::Figures;

/// Figures of which the worst run counts: a median would hide an error.
const WORST: &[&str] = &["errors", "overflow", "lost"];

/// One result from several runs of the same. What is no number (curves, courses) is the middle run's, by
/// its rate.
pub fn median(mut runs: Vec<Figures>) -> Figures {
    runs.sort_by(|a, b| compared(rate(a), rate(b)));
    let Some(middle) = runs.get((runs.len().max(1) - 1) / 2) else {
        return Figures::new();
    };
    let mut result = middle.clone();
    if runs.len() == 1 {
        return result;
    }
    for (key, value) in &mut result {
        let mut numbers: Vec<&Value> = runs
            .iter()
            .filter_map(|run| run.get(key))
            .filter(|value| value.is_number())
            .collect();
        if !value.is_number() || numbers.len() < runs.len() {
            continue;
        }
        numbers.sort_by(|a, b| compared(a.as_f64(), b.as_f64()));
        let at = match WORST.contains(&key.as_str()) {
            true => numbers.len() - 1,
            // Of an even number of runs the lower middle one: a figure that was measured.
            false => (numbers.len() - 1) / 2,
        };
        *value = numbers[at].clone();
    }
    result.insert("runs".to_owned(), json!(runs.len()));
    let rates: Vec<Option<f64>> = runs.iter().map(rate).collect();
    if rates.iter().all(Option::is_some) {
        result.insert("rates_per_s".to_owned(), json!(rates));
    }
    result
}

fn rate(run: &Figures) -> Option<f64> {
    run.get("rate_per_s").and_then(Value::as_f64)
}

fn compared(a: Option<f64>, b: Option<f64>) -> Ordering {
    a.unwrap_or(0.0).total_cmp(&b.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_own_median_and_errors_their_worst() {
        let run = |rate: u32, p99: u32, errors: u32, name: &str| {
            let value =
                json!({"rate_per_s": rate, "p99_ms": p99, "errors": errors, "first_error": name});
            value.as_object().expect("an object").clone()
        };
        let result = median(vec![
            run(30, 1, 0, "c"),
            run(10, 2, 5, "a"),
            run(20, 9, 0, "b"),
        ]);
        assert_eq!(result["rate_per_s"], 20);
        assert_eq!(result["p99_ms"], 2);
        assert_eq!(result["errors"], 5);
        assert_eq!(result["first_error"], "b");
        assert_eq!(result["runs"], 3);
        assert_eq!(result["rates_per_s"], json!([10.0, 20.0, 30.0]));
        assert_eq!(median(vec![run(1, 2, 3, "x")]), run(1, 2, 3, "x"));
    }
}
