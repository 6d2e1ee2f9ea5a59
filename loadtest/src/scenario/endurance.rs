//! A fixed rate for hours: whether anything grows or slows down that should not.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{SMALL, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded, whole},
    harness::{FlowSpec, Progress, Stage},
    meter::{Counts, Meter, ms},
    options::{Mode, Options},
    servers::Servers,
    shape::Shape,
    usage::Usage,
};

/// Starts per second when the options do not say: far below what a small machine can do.
const RATE_DEFAULT: f64 = 200.0;

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    ensure!(
        options.search_p99.is_none() && options.mode == Mode::Finish,
        "endurance holds one --rate to the end of each execution"
    );
    ensure!(
        !options.every.is_zero() && options.every <= options.duration,
        "--every: above 0, and at most --duration"
    );
    let stage = Stage::set(options, &FlowSpec::chain(1, true), progress).await?;
    let start = starts(&stage, options, Mode::Finish, message(SMALL)).await?;
    let shape = Shape::Open {
        rate: options.rate.unwrap_or(RATE_DEFAULT),
        max_in_flight: options.max_in_flight,
    };
    let mut rows: Vec<Value> = Vec::new();
    let measured = stage
        .measure_until(start, shape, options.warm_up, async |meter: &Meter| {
            watch(&stage, options, meter, &mut rows).await
        })
        .await?
        .answered()?;
    let mut figures = figures::of_load(name, &stage, options, &measured, 1);
    let grown = |key: &str| {
        let at = |row: Option<&Value>| row.and_then(|row| row[key].as_f64());
        // From the second row on: memory fills its caches in the first.
        at(rows.get(1))
            .zip(at(rows.last()))
            .map(|(first, last)| last - first)
    };
    figures.insert("rss_bytes_grown".to_owned(), json!(grown("rss_bytes")));
    figures.insert("course".to_owned(), Value::Array(rows));
    stage.settle(Expected::Succeeded { steps: 1 }).await?;
    stage.leave().await?;
    Ok(vec![figures])
}

/// A row each `--every`, until `--duration` is over.
async fn watch(
    stage: &Stage,
    options: &Options,
    meter: &Meter,
    rows: &mut Vec<Value>,
) -> Result<()> {
    let begun = Instant::now();
    let end = begun + options.duration;
    let mut last = (begun, Usage::of(&stage.servers).await?, meter.read());
    while last.0 < end {
        sleep_until((last.0 + options.every).min(end)).await;
        let now = (
            Instant::now(),
            Usage::of(&stage.servers).await?,
            meter.read(),
        );
        let row = row(stage, begun, &last, &now)?;
        stage.progress.end();
        stage.progress.say(&line(&row));
        rows.push(row);
        last = now;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn row(
    stage: &Stage,
    begun: Instant,
    last: &(Instant, Usage, Counts),
    now: &(Instant, Usage, Counts),
) -> Result<Value> {
    let seconds = (now.0 - last.0).as_secs_f64();
    let mut latencies = now.2.latencies_us.clone();
    latencies
        .subtract(&last.2.latencies_us)
        .ok()
        .context("counts only grow")?;
    let at = |quantile| rounded(ms(latencies.value_at_quantile(quantile)));
    let disk_bytes = match stage.servers {
        Servers::Own(_) => json!(stage.servers.disk_bytes()?),
        Servers::Others { .. } => Value::Null,
    };
    Ok(json!({
        "at_s": rounded((now.0 - begun).as_secs_f64()),
        "rate_per_s": rounded(latencies.len() as f64 / seconds),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": rounded(ms(latencies.max())),
        "errors": now.2.errors - last.2.errors,
        "server_cpu_cores": rounded((now.1.cpu_seconds - last.1.cpu_seconds) / seconds),
        "rss_bytes": whole(now.1.rss_bytes),
        "disk_bytes": disk_bytes,
    }))
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn line(row: &Value) -> String {
    let number = |key: &str| row[key].as_f64().unwrap_or(0.0);
    format!(
        "{:.0} s: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms, {} errors, {:.2} cores, {:.0} MB resident, {:.0} MB on disk",
        number("at_s"),
        number("rate_per_s"),
        number("p50_ms"),
        number("p99_ms"),
        number("max_ms"),
        row["errors"],
        number("server_cpu_cores"),
        number("rss_bytes") / 1e6,
        number("disk_bytes") / 1e6,
    )
}
