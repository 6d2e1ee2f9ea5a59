//! Executions that wait for an hour, then finished ones: what each costs in memory and on disk, and how
//! long a restart takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{SMALL, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded, whole},
    harness::{FlowSpec, Progress, Stage},
    operation::Operation,
    options::{Mode, Options},
    usage::Usage,
};

/// How many wait, and how many finish, when the options do not say.
const COUNT_DEFAULT: u64 = 100_000;
/// How long an execution waits when the options do not say: longer than any run.
const SLEEP_DEFAULT: Duration = Duration::from_secs(3_600);
/// The disk is quiet when it has not changed for so long: flushes, compactions and the purge of the log
/// are done then.
const QUIET: Duration = Duration::from_secs(4);
/// It is waited for at most so long.
const QUIET_PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Starts those that wait, looks, kills a node and starts it again, looks; then those that finish.
///
/// # Errors
/// When anything fails, or an execution is not accounted for after the restart.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    let waiting = sleeping(name, options, progress.clone(), options.sleep).await?;
    let finished = finished(options, progress).await?;
    let mut result = waiting;
    result.extend(finished);
    Ok(vec![result])
}

/// The part about executions that sleep.
///
/// # Errors
/// As [`run`].
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub async fn sleeping(
    name: &str,
    options: &Options,
    progress: Progress,
    sleep: Option<Duration>,
) -> Result<Figures> {
    options.needs_own_servers(name)?;
    let count = options.count.unwrap_or(COUNT_DEFAULT);
    ensure!(count > 0, "--count: at least 1");
    let sleep = sleep.unwrap_or(SLEEP_DEFAULT);
    let spec = FlowSpec {
        graph: format!(
            "{{nodes: [{{id: w, componentId: wait, function: delay, fields: {{duration: {}ms}}}}], edges: []}}",
            sleep.as_millis()
        ),
        served: false,
    };
    let mut stage = Stage::set(options, &spec, progress).await?;
    let start = starts(&stage, options, Mode::Accept, message(SMALL)).await?;
    let empty = Usage::of(&stage.servers).await?;
    let disk_empty = stage.servers.disk_bytes()?;
    let begun = Instant::now();
    start_all(&stage, Arc::new(start), options.clients, count).await?;
    let took = begun.elapsed().as_secs_f64();
    let full = Usage::of(&stage.servers).await?;
    let disk = quiet_disk(&stage).await?;
    let settled = Usage::of(&stage.servers).await?;
    let restart_ms = restart(&mut stage).await?;
    let again = Usage::of(&stage.servers).await?;
    stage.settle(Expected::Running).await?;
    let per = |bytes: f64| rounded(bytes / count as f64);
    let mut figures = figures::identity(name, &stage, options);
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    set("count", json!(count));
    set("executions", json!(count));
    set("errors", json!(0));
    set("rate_per_s", rounded(count as f64 / took));
    figures::add_usage(&mut figures, &empty, &full, took, count as f64, 1);
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    set("rss_bytes_empty", whole(empty.rss_bytes));
    set("rss_bytes_after_restart", whole(again.rss_bytes));
    set(
        "memory_bytes_per_waiting",
        per(full.rss_bytes - empty.rss_bytes),
    );
    set(
        "memory_bytes_per_waiting_after_restart",
        per(again.rss_bytes - empty.rss_bytes),
    );
    set(
        "disk_bytes_per_waiting",
        per(disk as f64 - disk_empty as f64),
    );
    set(
        "state_bytes_per_waiting",
        per(settled.state_bytes - empty.state_bytes),
    );
    set("restart_after_kill_ms", json!(restart_ms));
    Ok(figures)
}

/// The part about executions of one worker step that have ended.
#[allow(clippy::cast_precision_loss)] // far below 2^53
async fn finished(options: &Options, progress: Progress) -> Result<Figures> {
    let count = options.count.unwrap_or(COUNT_DEFAULT);
    let mut stage = Stage::set(options, &FlowSpec::chain(1, true), progress).await?;
    let start = starts(&stage, options, Mode::Finish, message(SMALL)).await?;
    let empty = Usage::of(&stage.servers).await?;
    let disk_empty = stage.servers.disk_bytes()?;
    start_all(&stage, Arc::new(start), options.clients, count).await?;
    let disk = quiet_disk(&stage).await?;
    let settled = Usage::of(&stage.servers).await?;
    restart(&mut stage).await?;
    let disk_again = quiet_disk(&stage).await?;
    stage.settle(Expected::Succeeded { steps: 1 }).await?;
    let per = |bytes: f64| rounded(bytes / count as f64);
    let mut figures = Figures::new();
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    set("finished", json!(count));
    set(
        "disk_bytes_per_finished",
        per(disk as f64 - disk_empty as f64),
    );
    set(
        "disk_bytes_per_finished_after_restart",
        per(disk_again as f64 - disk_empty as f64),
    );
    set(
        "state_bytes_per_finished",
        per(settled.state_bytes - empty.state_bytes),
    );
    set("log_bytes_left", whole(settled.log_bytes));
    Ok(figures)
}

/// Starts exactly so many, each client one at a time.
///
/// # Errors
/// When one is refused.
pub async fn start_all<O: Operation>(
    stage: &Stage,
    start: Arc<O>,
    clients: u64,
    count: u64,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for slot in 0..usize::try_from(clients)? {
        let (start, next, ledger) = (
            Arc::clone(&start),
            Arc::clone(&next),
            Arc::clone(&stage.ledger),
        );
        tasks.spawn(async move {
            while next.fetch_add(1, Relaxed) < count {
                let id = ledger.request_id();
                let execution = start.call(slot, &id).await;
                ledger.acknowledge(execution.map_err(|failure| anyhow::anyhow!("{failure}"))?);
            }
            anyhow::Ok(())
        });
    }
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for tick in 0.. {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => ended.context("a client panicked")??,
                None => break,
            },
            _ = ticks.tick() => stage.progress.tick(tick, &format!(
                "{} of {count} started, {:.0} s",
                next.load(Relaxed).min(count),
                begun.elapsed().as_secs_f64()
            )),
        }
    }
    stage.progress.end();
    Ok(())
}

/// Waits until the data folders have not changed for a while. Gives their size.
async fn quiet_disk(stage: &Stage) -> Result<u64> {
    let deadline = Instant::now() + QUIET_PATIENCE;
    let mut last = stage.servers.disk_bytes()?;
    let mut since = Instant::now();
    while since.elapsed() < QUIET && Instant::now() < deadline {
        sleep(LOOK).await;
        let now = stage.servers.disk_bytes()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

/// Kills all nodes and starts them again. Gives how long it took until all were ready, in milliseconds.
async fn restart(stage: &mut Stage) -> Result<u64> {
    let cluster = stage.servers.own()?;
    for node in &mut cluster.nodes {
        node.kill()?;
    }
    let begun = Instant::now();
    for node in &mut cluster.nodes {
        node.launch()?;
    }
    for node in &mut cluster.nodes {
        node.await_ready().await?;
    }
    Ok(u64::try_from(begun.elapsed().as_millis())?)
}
