//! `--search-p99`: short open-loop runs at rates that a search chooses.

use std::time::Duration;

use anyhow::Result;

use crate::{
    harness::{Measured, Stage},
    meter::ms,
    operation::Operation,
    options::Options,
    shape::{Shape, Trial, highest},
};

/// How long the closed loop runs that says where to begin.
const ESTIMATE: Duration = Duration::from_secs(2);
/// A run whose answers come slower than this share of what was due does not hold the rate.
const RATE_SHARE_MIN: f64 = 0.98;

/// The run at the highest rate whose p99 stays below `limit_ms` without an error; nothing when none does.
///
/// # Errors
/// When a run fails.
pub async fn search<O: Operation + Clone>(
    stage: &Stage,
    options: &Options,
    limit_ms: f64,
    operation: &O,
) -> Result<Option<Measured>> {
    let estimate = Options {
        duration: ESTIMATE.min(options.duration),
        rate: None,
        ..options.clone()
    };
    let closed = stage
        .measure(operation.clone(), estimate.shape(), &estimate)
        .await?
        .answered()?;
    let found = highest(closed.rate() / 2.0, async |rate| {
        let shape = Shape::Open {
            rate,
            max_in_flight: options.max_in_flight,
        };
        let measured = stage.measure(operation.clone(), shape, options).await?;
        let p99_ms = ms(measured.latencies_us.value_at_quantile(0.99));
        let holds =
            p99_ms <= limit_ms && measured.errors == 0 && measured.rate() >= rate * RATE_SHARE_MIN;
        stage.progress.say(&format!(
            "{rate:.0}/s: p99 {p99_ms:.1} ms, {} errors: {}",
            measured.errors,
            if holds { "holds" } else { "too much" }
        ));
        Ok(if holds {
            Trial::Holds(measured)
        } else {
            Trial::Broken
        })
    })
    .await?;
    Ok(found.map(|(_, measured)| measured))
}
