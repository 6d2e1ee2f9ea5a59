//! Results as named figures: one flat object for each scenario. docs/loadtest.md says what each key
//! means; a key's name ends in its unit.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::{
    harness::{Measured, Stage},
    meter::{Sample, ms},
    options::Options,
    usage::Usage,
};

/// One result.
pub type Figures = Map<String, Value>;

/// Quantiles of the latency curve that a result carries for plots.
const CURVE: &[f64] = &[
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995,
    0.9975, 0.999, 0.9995, 0.9999, 0.99999, 1.0,
];

/// Rounds to three digits behind the point: figures are not more exact than that.
pub fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

/// Rounds to a whole number.
#[allow(clippy::cast_possible_truncation)] // saturates, and no figure comes near
pub fn whole(number: f64) -> Value {
    json!(number.round() as i64)
}

/// Which measurement this is: scenario, nodes, clients, and the shape of its load.
pub fn identity(scenario: &str, stage: &Stage, options: &Options) -> Figures {
    let mut figures = Figures::new();
    figures.insert("scenario".to_owned(), json!(scenario));
    figures.insert("nodes".to_owned(), json!(stage.servers.nodes().len()));
    figures.insert("clients".to_owned(), json!(options.clients));
    if options.clients_per_connection > 1 {
        let shared = json!(options.clients_per_connection);
        figures.insert("clients_per_connection".to_owned(), shared);
    }
    figures.insert("connect".to_owned(), json!(options.connect.name()));
    figures
}

/// The figures that every load has. `steps` is how many steps an execution has.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub fn of_load(
    scenario: &str,
    stage: &Stage,
    options: &Options,
    measured: &Measured,
    steps: u32,
) -> Figures {
    let mut figures = identity(scenario, stage, options);
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    set("shape", json!(measured.shape.name()));
    if let crate::shape::Shape::Open { rate, .. } = measured.shape {
        set("offered_rate_per_s", rounded(rate));
        set("overflow", json!(measured.overflow));
    }
    set("executions", json!(measured.executions()));
    set("errors", json!(measured.errors));
    if let Some(error) = &measured.first_error {
        set("first_error", json!(error));
    }
    set("seconds", rounded(measured.seconds));
    set("rate_per_s", rounded(measured.rate()));
    add_latencies(&mut figures, &measured.latencies_us);
    let (before, after) = &measured.used;
    let worker_us = measured.worker_cpu_seconds * 1e6 / measured.executions() as f64;
    add_usage(
        &mut figures,
        before,
        after,
        measured.seconds,
        measured.executions() as f64,
        steps,
    );
    figures.insert("worker_cpu_us_per_execution".to_owned(), rounded(worker_us));
    figures.insert("course".to_owned(), course(&measured.samples));
    figures
}

/// Quantiles of latencies, and their curve.
pub fn add_latencies(figures: &mut Figures, latencies_us: &Histogram<u64>) {
    let at = |quantile| rounded(ms(latencies_us.value_at_quantile(quantile)));
    for (key, quantile) in [
        ("p50_ms", 0.5),
        ("p90_ms", 0.9),
        ("p99_ms", 0.99),
        ("p999_ms", 0.999),
    ] {
        figures.insert(key.to_owned(), at(quantile));
    }
    figures.insert("max_ms".to_owned(), rounded(ms(latencies_us.max())));
    let curve: Vec<Value> = CURVE
        .iter()
        .map(|quantile| json!([quantile, at(*quantile)]))
        .collect();
    figures.insert("latency_curve_ms".to_owned(), json!(curve));
}

/// What the servers used between two looks.
pub fn add_usage(
    figures: &mut Figures,
    before: &Usage,
    after: &Usage,
    seconds: f64,
    executions: f64,
    steps: u32,
) {
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    let cpu_us = (after.cpu_seconds - before.cpu_seconds) * 1e6 / executions;
    set("server_cpu_us_per_execution", rounded(cpu_us));
    set(
        "server_cpu_us_per_step",
        rounded(cpu_us / f64::from(steps.max(1))),
    );
    set(
        "server_cpu_cores",
        rounded((after.cpu_seconds - before.cpu_seconds) / seconds),
    );
    set(
        "commits_per_s",
        rounded((after.commits - before.commits) / seconds),
    );
    set(
        "fsyncs_per_s",
        rounded((after.fsyncs - before.fsyncs) / seconds),
    );
    set(
        "bytes_written_per_execution",
        whole((after.written_bytes - before.written_bytes) / executions),
    );
    set("rss_bytes", whole(after.rss_bytes));
}

/// A load over time, second by second: for plots, and for stalls that a percentile hides.
fn course(samples: &[Sample]) -> Value {
    samples
        .iter()
        .map(|sample| {
            json!({
                "at_s": rounded(sample.at_s),
                "rate_per_s": rounded(sample.rate_per_s),
                "p50_ms": rounded(sample.p50_ms),
                "p99_ms": rounded(sample.p99_ms),
                "max_ms": rounded(sample.max_ms),
                "errors": sample.errors,
            })
        })
        .collect()
}
