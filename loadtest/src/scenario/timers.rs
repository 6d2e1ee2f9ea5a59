//! Executions that all fall due within a short time: how late they are. Or that sleep for long: what
//! they cost meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use prost::Message as _;
use serde_json::json;
use tidemill_sdk::{
    Client,
    api::{GetHeadsRequest, JournalRecord, ReadJournalRequest},
};
use tidemill_types::ExecutionId;
use tokio::time::{Instant, sleep, timeout};

use super::{
    message, starts,
    waiting::{sleeping, start_all},
};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded, whole},
    harness::{FlowSpec, Progress, Stage},
    meter::{histogram, ms},
    operation::{Failure, Operation, Start},
    options::{Mode, Options},
    shape::Shape,
    usage::Usage,
};

/// How many fall due when the options do not say.
const DUE_DEFAULT: u64 = 50_000;
/// How many sleep when the options do not say.
const SLEEPING_DEFAULT: u64 = 1_000_000;
/// How long the rate of starting is estimated.
const ESTIMATE: Duration = Duration::from_secs(1);
/// The first one falls due so long after the time by which all should be started.
const LEAD: Duration = Duration::from_secs(3);
/// What starting may take beyond the estimate, as a factor; the next one when it took longer than that.
const CAUTION: &[f64] = &[1.5, 3.0, 6.0];
/// How long none may fire while some are left.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    if options.sleep.is_some() {
        let many = Options {
            count: options.count.or(Some(SLEEPING_DEFAULT)),
            ..options.clone()
        };
        return Ok(vec![sleeping(name, &many, progress, options.sleep).await?]);
    }
    for caution in CAUTION {
        let figures = fire(name, options, progress.clone(), *caution).await?;
        if let Some(figures) = figures {
            return Ok(vec![figures]);
        }
        progress.say("starting all took so long that the first fell due meanwhile: once more");
    }
    bail!("starting all takes longer and longer than estimated: the machine is too busy")
}

/// Starts them and has them fire; nothing when starting took too long.
#[allow(clippy::cast_precision_loss)] // far below 2^53
async fn fire(
    name: &str,
    options: &Options,
    progress: Progress,
    caution: f64,
) -> Result<Option<Figures>> {
    let count = options.count.unwrap_or(DUE_DEFAULT);
    ensure!(count > 0, "--count: at least 1");
    let spec = FlowSpec {
        graph:
            "{nodes: [{id: w, componentId: wait, function: delay, fields: {until: at}}], edges: []}"
                .to_owned(),
        served: false,
    };
    let stage = Stage::set(options, &spec, progress).await?;
    let start = starts(&stage, options, Mode::Accept, message("")).await?;
    let rate = estimate(&stage, options, &start).await?;
    let arming = Duration::from_secs_f64(count as f64 / rate * caution);
    let first_due_us = now_us() + micros(arming + LEAD);
    let timers = Arc::new(Timers {
        start,
        first_number: stage.ledger.given(),
        first_due_us,
        within_us: micros(options.within),
        count,
        due_us: Mutex::default(),
    });
    let begun = Instant::now();
    let before_arming = Usage::of(&stage.servers).await?;
    start_all(&stage, Arc::clone(&timers), options.clients, count).await?;
    let armed_in = begun.elapsed();
    let armed = Usage::of(&stage.servers).await?;
    // Before it is seen that none is due yet: so all of them end after this record.
    let (leader, from_seq) = leader(&stage).await?;
    let left_us = first_due_us - now_us();
    if left_us <= 0 {
        // What was started is accounted for all the same.
        stage.settle(Expected::Succeeded { steps: 1 }).await?;
        stage.leave().await?;
        return Ok(None);
    }
    let due_us = std::mem::take(&mut *timers.due());
    sleep(Duration::from_micros(u64::try_from(left_us)?)).await;
    let before = Usage::of(&stage.servers).await?;
    let fired = watch(&stage, &leader, from_seq, &due_us).await?;
    let after = Usage::of(&stage.servers).await?;
    stage.settle(Expected::Succeeded { steps: 1 }).await?;
    stage.leave().await?;
    let seconds = (fired.last_us - first_due_us).max(1) as f64 / 1e6;
    let mut figures = figures::identity(name, &stage, options);
    let mut set = |key: &str, value| {
        figures.insert(key.to_owned(), value);
    };
    set("count", json!(count));
    set("executions", json!(count));
    set("errors", json!(0));
    set("within_s", rounded(options.within.as_secs_f64()));
    set("rate_per_s", rounded(count as f64 / seconds));
    figures::add_latencies(&mut figures, &fired.late_us);
    figures::add_usage(&mut figures, &before, &after, seconds, count as f64, 1);
    let mut set = |key: &str, value| {
        figures.insert(key.to_owned(), value);
    };
    let decided = |quantile| rounded(ms(fired.decided_late_us.value_at_quantile(quantile)));
    set(
        "late_p50_ms",
        rounded(ms(fired.late_us.value_at_quantile(0.5))),
    );
    set(
        "late_p99_ms",
        rounded(ms(fired.late_us.value_at_quantile(0.99))),
    );
    set("late_max_ms", rounded(ms(fired.late_us.max())));
    set("decided_late_p50_ms", decided(0.5));
    set("decided_late_p99_ms", decided(0.99));
    set("burst_seconds", rounded(seconds));
    set(
        "armed_per_s",
        rounded(count as f64 / armed_in.as_secs_f64()),
    );
    set(
        "server_cpu_us_per_arming",
        rounded((armed.cpu_seconds - before_arming.cpu_seconds) * 1e6 / count as f64),
    );
    set("rss_bytes_armed", whole(armed.rss_bytes));
    Ok(Some(figures))
}

/// How many starts a second this machine takes, by some that are due at once.
async fn estimate(stage: &Stage, options: &Options, start: &Start) -> Result<f64> {
    let due = Start {
        message: message(r#"{"at":0}"#),
        ..start.clone()
    };
    let short = Options {
        duration: ESTIMATE,
        ..options.clone()
    };
    let shape = Shape::Closed {
        clients: usize::try_from(options.clients)?,
    };
    let measured = stage.measure(due, shape, &short).await?.answered()?;
    Ok(measured.rate())
}

/// Starts of which each has its own time; which, its request id says.
struct Timers {
    start: Start,
    first_number: u64,
    first_due_us: i64,
    within_us: i64,
    count: u64,
    due_us: Mutex<HashMap<[u8; 16], i64>>,
}

impl Timers {
    fn due(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 16], i64>> {
        self.due_us.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spread evenly, to the millisecond: the servers count in those.
    fn due_ms(&self, request_id: &str) -> Option<i64> {
        let number: u64 = request_id.rsplit('-').next()?.parse().ok()?;
        let at = i64::try_from(number.checked_sub(self.first_number)?).ok()?;
        let count = i64::try_from(self.count).ok()?;
        Some((self.first_due_us + at.checked_mul(self.within_us)? / count) / 1_000)
    }
}

impl Operation for Timers {
    async fn call(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        let Some(due_ms) = self.due_ms(request_id) else {
            return Err(Failure::Refused(format!("{request_id} has no number")));
        };
        let start = Start {
            message: message(format!(r#"{{"at":{due_ms}}}"#)),
            ..self.start.clone()
        };
        let execution = start.call(slot, request_id).await?;
        self.due().insert(execution.0, due_ms * 1_000);
        Ok(execution)
    }
}

/// When the timers fired.
struct Fired {
    /// From due until the end could be read from the leader's journal: replicated and on disk.
    late_us: Histogram<u64>,
    /// From due until the leader decided it.
    decided_late_us: Histogram<u64>,
    last_us: i64,
}

/// The leader of the flow's partition, and where its journal ends.
async fn leader(stage: &Stage) -> Result<(Client, u64)> {
    let node = &stage.servers.nodes()[stage.leader().await?];
    let client = stage.servers.client_of(node).await?;
    let heads = client.get_heads(GetHeadsRequest {}).await?.heads;
    let head = heads.iter().find(|head| head.partition == stage.home());
    Ok((client, head.map_or(0, |head| head.seq)))
}

/// Follows the journal until all have ended.
async fn watch(
    stage: &Stage,
    leader: &Client,
    from_seq: u64,
    due_us: &HashMap<[u8; 16], i64>,
) -> Result<Fired> {
    let mut fired = Fired {
        late_us: histogram(),
        decided_late_us: histogram(),
        last_us: 0,
    };
    let mut reader = leader.read_journal(ReadJournalRequest {
        partition: stage.home(),
        from_seq: from_seq + 1,
        follow: true,
        ..ReadJournalRequest::default()
    });
    let mut open = due_us.len();
    while open > 0 {
        let entries = timeout(PATIENCE, reader.next())
            .await
            .with_context(|| format!("{open} have not fired, and none has for {PATIENCE:?}"))??
            .context("the journal is followed without an end")?;
        let now_us = now_us();
        for entry in entries {
            let record = JournalRecord::decode(entry.record)?;
            if record.kind != "execution.succeeded" {
                continue;
            }
            let id = <[u8; 16]>::try_from(&record.execution_id[..]).unwrap_or_default();
            let Some(due) = due_us.get(&id) else {
                continue;
            };
            let late = |at_us: i64| u64::try_from(at_us - due).unwrap_or(0).max(1);
            ensure!(
                record.at_us >= *due,
                "{} fired {} us too early",
                ExecutionId(id),
                due - record.at_us
            );
            fired.late_us.saturating_record(late(now_us));
            fired.decided_late_us.saturating_record(late(record.at_us));
            fired.last_us = now_us;
            open -= 1;
        }
        stage.progress.tick(1, &format!("{open} left"));
    }
    stage.progress.end();
    Ok(fired)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Timers go by the wall clock, and so does what measures them.
#[allow(clippy::disallowed_methods)]
fn now_us() -> i64 {
    micros(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    )
}
