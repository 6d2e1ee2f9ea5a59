//! N clients, each with one request at a time: the same loop as `tidemill-loadtest`'s.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::process::{Server, Usage};

/// Before measuring, as `tidemill-loadtest` does.
const WARM_UP: Duration = Duration::from_secs(1);

/// What a client does again and again.
pub trait Client: Send + 'static {
    /// Does it once; `number` is another one for each call of the run.
    fn call(&mut self, number: u64) -> impl Future<Output = Result<()>> + Send;
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// With the keys of `tidemill-loadtest`.
    pub result: Map<String, Value>,
    /// Calls that were answered, those of the warm-up included.
    pub answered: u64,
}

/// Runs the clients against the servers.
///
/// # Errors
/// When a call fails: a run with errors is no measurement.
pub async fn run<C: Client>(
    clients: Vec<C>,
    duration: Duration,
    servers: &[Server],
    steps: u32,
) -> Result<Measured> {
    let (stop, measuring, number) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut loops = Vec::new();
    for mut client in clients {
        let (stop, measuring, number) = (stop.clone(), measuring.clone(), number.clone());
        loops.push(tokio::spawn(async move {
            let mut latencies = Histogram::<u64>::new(3)?;
            let mut answered = 0;
            while !stop.load(Relaxed) {
                let begun = Instant::now();
                client.call(number.fetch_add(1, Relaxed)).await?;
                answered += 1;
                if measuring.load(Relaxed) {
                    latencies.record(u64::try_from(begun.elapsed().as_micros())?)?;
                }
            }
            Ok::<_, anyhow::Error>((latencies, answered))
        }));
    }
    tokio::time::sleep(WARM_UP).await;
    let before = Usage::of(servers)?;
    let generator_before = Usage::of_self()?;
    measuring.store(true, Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(duration).await;
    measuring.store(false, Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    let after = Usage::of(servers)?;
    let generator_after = Usage::of_self()?;
    stop.store(true, Relaxed);
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut answered = 0;
    for one in loops {
        let (one, count) = one.await??;
        latencies.add(one)?;
        answered += count;
    }
    let executions = latencies.len();
    ensure!(
        executions > 0,
        "nothing was answered within the measurement"
    );
    let per = |total: f64| (total / executions as f64 * 10.0).round() / 10.0;
    let ms = |micros: u64| micros as f64 / 1_000.0;
    let cpu_us = (after.cpu_seconds - before.cpu_seconds) * 1e6;
    let generator_us = (generator_after.cpu_seconds - generator_before.cpu_seconds) * 1e6;
    let result = json!({
        "executions": executions,
        "errors": 0,
        "rate_per_s": (executions as f64 / seconds).round(),
        "p50_ms": ms(latencies.value_at_quantile(0.5)),
        "p90_ms": ms(latencies.value_at_quantile(0.9)),
        "p99_ms": ms(latencies.value_at_quantile(0.99)),
        "p999_ms": ms(latencies.value_at_quantile(0.999)),
        "max_ms": ms(latencies.max()),
        "server_cpu_us_per_execution": per(cpu_us),
        "server_cpu_us_per_step": per(cpu_us / f64::from(steps)),
        "generator_cpu_us_per_execution": per(generator_us),
        "bytes_written_per_execution": per(after.written_bytes - before.written_bytes).round(),
        "rss_bytes": after.rss_bytes,
    });
    let Value::Object(result) = result else {
        unreachable!("the macro made an object")
    };
    Ok(Measured { result, answered })
}
