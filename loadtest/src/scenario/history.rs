//! Whether finished executions make new ones slower: a closed loop until so many have finished, in slices.

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SMALL, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded, whole},
    harness::{FlowSpec, Measured, Progress, Stage},
    meter::{Meter, histogram, ms},
    options::{Mode, Options},
    servers::Servers,
};

/// How many finish when the options do not say.
const COUNT_DEFAULT: u64 = 100_000;
/// A row for each.
const SLICES: u64 = 10;
/// Between two looks at how many have finished.
const LOOK: Duration = Duration::from_millis(10);

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    let count = options.count.unwrap_or(COUNT_DEFAULT);
    ensure!(count >= SLICES, "--count: at least {SLICES}");
    ensure!(
        options.rate.is_none() && options.search_p99.is_none() && options.mode == Mode::Finish,
        "history is a closed loop to the end of each execution: how its rate changes is the figure"
    );
    let stage = Stage::set(options, &FlowSpec::chain(1, true), progress).await?;
    let start = starts(&stage, options, Mode::Finish, message(SMALL)).await?;
    let mut rows: Vec<Value> = Vec::new();
    let mut points = Vec::new();
    let mut all: Option<Measured> = None;
    for slice in 0..SLICES {
        let warm_up = match slice {
            0 => options.warm_up,
            _ => Duration::ZERO,
        };
        let enough = count / SLICES;
        let measured = stage
            .measure_until(
                start.clone(),
                options.shape(),
                warm_up,
                async move |meter: &Meter| {
                    while meter.answers() < enough {
                        sleep(LOOK).await;
                    }
                    Ok(())
                },
            )
            .await?
            .answered()?;
        let finished = stage.ledger.acknowledged();
        points.push((finished as f64, measured.rate()));
        rows.push(row(&stage, finished, &measured)?);
        stage.progress.say(&format!(
            "{finished} finished: {:.0}/s, p99 {:.1} ms",
            measured.rate(),
            ms(measured.latencies_us.value_at_quantile(0.99))
        ));
        all = Some(match all {
            None => measured,
            Some(before) => together(before, measured)?,
        });
    }
    let Some(measured) = all else {
        unreachable!("there is at least one slice");
    };
    let mut figures = figures::of_load(name, &stage, options, &measured, 1);
    figures.remove("course");
    figures.insert("count".to_owned(), json!(count));
    figures.insert("rate_first_per_s".to_owned(), rounded(points[0].1));
    figures.insert(
        "rate_last_per_s".to_owned(),
        rounded(points[points.len() - 1].1),
    );
    figures.insert("rate_kept".to_owned(), rounded(kept(&points)));
    figures.insert("slices".to_owned(), Value::Array(rows));
    stage.settle(Expected::Succeeded { steps: 1 }).await?;
    stage.leave().await?;
    Ok(vec![figures])
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn row(stage: &Stage, finished: u64, measured: &Measured) -> Result<Value> {
    let (before, after) = &measured.used;
    let cpu_us = (after.cpu_seconds - before.cpu_seconds) * 1e6 / measured.executions() as f64;
    let disk_bytes = match stage.servers {
        Servers::Own(_) => json!(stage.servers.disk_bytes()?),
        Servers::Others { .. } => Value::Null,
    };
    let at = |quantile| rounded(ms(measured.latencies_us.value_at_quantile(quantile)));
    Ok(json!({
        "finished": finished,
        "rate_per_s": rounded(measured.rate()),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "server_cpu_us_per_execution": rounded(cpu_us),
        "rss_bytes": whole(after.rss_bytes),
        "disk_bytes": disk_bytes,
    }))
}

/// Two slices as one load: the pause between them is in neither.
fn together(mut first: Measured, second: Measured) -> Result<Measured> {
    let mut latencies: Histogram<u64> = histogram();
    latencies.add(&first.latencies_us)?;
    latencies.add(&second.latencies_us)?;
    first.latencies_us = latencies;
    first.seconds += second.seconds;
    first.errors += second.errors;
    first.overflow += second.overflow;
    first.first_error = first.first_error.or(second.first_error);
    first.worker_cpu_seconds += second.worker_cpu_seconds;
    first.used.1 = second.used.1;
    Ok(first)
}

/// The rate at the end by the rate at the beginning, of the straight line that fits best: one slow slice
/// does not decide it.
#[allow(clippy::cast_precision_loss)] // far below 2^53
fn kept(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let slope = if spread > 0.0 { together / spread } else { 0.0 };
    let at = |finished: f64| y + slope * (finished - x);
    let last = points.last().map_or(0.0, |point| point.0);
    at(last) / at(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_from_the_line() {
        let line = |slope: f64| -> Vec<(f64, f64)> {
            (1..=10)
                .map(|n| (f64::from(n), 1_000.0 + slope * f64::from(n)))
                .collect()
        };
        assert!((kept(&line(0.0)) - 1.0).abs() < 1e-9);
        assert!((kept(&line(-50.0)) - 0.5).abs() < 1e-9);
        let mut dented = line(0.0);
        dented[4].1 = 500.0;
        assert!((0.9..1.1).contains(&kept(&dented)));
    }
}
