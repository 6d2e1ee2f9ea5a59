//! Chains of worker steps: from request to final answer, or as fast as they are accepted and then until
//! all are done.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tidemill_sdk::api::Message;
use tokio::time::{Instant, sleep};

use super::{SMALL, measure, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded, whole},
    harness::{FlowSpec, Progress, Stage},
    meter::Meter,
    options::{Mode, Options},
    usage::Usage,
};

/// How long no execution may end while some are left.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at how many have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(25);

/// Runs a chain of so many steps.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(
    name: &str,
    steps: u32,
    options: &Options,
    progress: Progress,
) -> Result<Vec<Figures>> {
    let stage = Stage::set(options, &FlowSpec::chain(steps, true), progress).await?;
    let mut figures = match options.mode {
        Mode::Finish => finish(name, &stage, options, message(SMALL), steps).await?,
        Mode::Accept => accept(name, &stage, options, message(SMALL), steps).await?,
    };
    figures.insert("mode".to_owned(), json!(options.mode.name()));
    stage.settle(Expected::Succeeded { steps }).await?;
    stage.leave().await?;
    Ok(vec![figures])
}

/// From request to final answer.
///
/// # Errors
/// When anything fails.
pub async fn finish(
    name: &str,
    stage: &Stage,
    options: &Options,
    message: Message,
    steps: u32,
) -> Result<Figures> {
    let Some(measured) = measure(stage, options, message).await? else {
        return Ok(no_rate_holds(name, stage, options));
    };
    let mut figures = figures::of_load(name, stage, options, &measured, steps);
    if let Some(limit_ms) = options.search_p99 {
        figures.insert("search_p99_ms".to_owned(), rounded(limit_ms));
    }
    Ok(figures)
}

/// What a search says that found no rate.
pub fn no_rate_holds(name: &str, stage: &Stage, options: &Options) -> Figures {
    let mut figures = figures::identity(name, stage, options);
    figures.insert("shape".to_owned(), json!("open"));
    figures.insert("search_p99_ms".to_owned(), json!(options.search_p99));
    figures.insert("executions".to_owned(), json!(0));
    figures.insert("errors".to_owned(), json!(0));
    figures.insert("rate_per_s".to_owned(), json!(0));
    figures
}

/// Fire and forget: as fast as starts are acknowledged, and then until the last one has ended. CPU and
/// bytes are of the whole, from the first start to the last end.
#[allow(clippy::cast_precision_loss)] // far below 2^53
async fn accept(
    name: &str,
    stage: &Stage,
    options: &Options,
    message: Message,
    steps: u32,
) -> Result<Figures> {
    ensure!(
        options.search_p99.is_none(),
        "--mode accept takes --rate or --clients, not --search-p99: its latency is not that of the work"
    );
    if !options.warm_up.is_zero() {
        let warm = starts(stage, options, Mode::Finish, message.clone()).await?;
        let short = Options {
            duration: options.warm_up,
            warm_up: Duration::ZERO,
            rate: None,
            ..options.clone()
        };
        stage.measure(warm, short.shape(), &short).await?;
    }
    let before = stage.ledger.acknowledged();
    let start = starts(stage, options, Mode::Accept, message).await?;
    let duration = options.duration;
    let begun = Instant::now();
    let mut measured = stage
        .measure_until(
            start,
            options.shape(),
            Duration::ZERO,
            async move |_: &Meter| {
                sleep(duration).await;
                Ok(())
            },
        )
        .await?
        .answered()?;
    let accepted = (stage.ledger.acknowledged() - before) as f64;
    let stopped = Instant::now();
    let drained = drained(stage, measured.used.0.ended + accepted).await?;
    let drain = stopped.elapsed();
    let whole_seconds = begun.elapsed().as_secs_f64();
    let ended_meanwhile = measured.used.1.ended - measured.used.0.ended;
    measured.used.1 = drained;
    let mut figures = figures::of_load(name, stage, options, &measured, steps);
    figures::add_usage(
        &mut figures,
        &measured.used.0,
        &measured.used.1,
        whole_seconds,
        accepted,
        steps,
    );
    // The worker was looked at within the window only, so it cannot be divided by all.
    figures.remove("worker_cpu_us_per_execution");
    figures.insert("accepted".to_owned(), whole(accepted));
    figures.insert("ended_meanwhile".to_owned(), whole(ended_meanwhile));
    figures.insert("drain_ms".to_owned(), whole(drain.as_secs_f64() * 1e3));
    figures.insert(
        "completed_per_s".to_owned(),
        rounded(accepted / whole_seconds),
    );
    Ok(figures)
}

/// Waits until so many executions have ended since the servers' start.
async fn drained(stage: &Stage, ended: f64) -> Result<Usage> {
    let mut quiet_since = Instant::now();
    let mut last = 0.0;
    for tick in 0.. {
        let usage = Usage::of(&stage.servers).await?;
        if usage.ended >= ended {
            break;
        }
        if usage.ended > last {
            (last, quiet_since) = (usage.ended, Instant::now());
        }
        ensure!(
            quiet_since.elapsed() < DRAIN_PATIENCE,
            "{} executions have not ended, and none has for {DRAIN_PATIENCE:?}",
            ended - usage.ended
        );
        stage
            .progress
            .tick(tick / 40, &format!("{} left", ended - usage.ended));
        sleep(DRAIN_LOOK).await;
    }
    stage.progress.end();
    Usage::of(&stage.servers).await
}
