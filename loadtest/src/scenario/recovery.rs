//! SIGKILL of the leader under load: how long nothing is accepted, how long until all is as before, and
//! that nothing is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_sdk::api::ExecutionState;
use tidemill_types::ExecutionId;
use tokio::time::{Instant, sleep};

use super::{SMALL, message, starts};
use crate::{
    account::Expected,
    figures::{self, Figures, rounded},
    harness::{FlowSpec, Measured, Progress, Stage},
    operation::{Failure, Operation, Start, failure},
    options::{Mode, Options},
    usage::Usage,
};

/// The rate before the kill is that of this time.
const BEFORE: Duration = Duration::from_secs(5);
/// The rate at a time is that of the second after it.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// What counts as the former rate.
const FULL_SHARE: f64 = 0.9;
/// How finely the way back is looked at.
const STEP: Duration = Duration::from_millis(50);
/// How long an execution may take until it has ended.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// A point of the course.
const COURSE_STEP: Duration = Duration::from_millis(200);

/// Runs it. On one node the killed process is started again at once; on more the others go on, and it
/// comes back at the end.
///
/// # Errors
/// When anything fails, or an acknowledged start is lost.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    options.needs_own_servers(name)?;
    ensure!(
        options.search_p99.is_none() && options.mode == Mode::Finish,
        "recovery takes --clients or --rate"
    );
    ensure!(
        options.duration >= 2 * RATE_WINDOW,
        "--duration: at least 2s, to see the rate after the kill"
    );
    let mut stage = Stage::set(options, &FlowSpec::chain(1, true), progress).await?;
    let seen = Arc::new(Seen::default());
    let operation = Watched {
        start: starts(&stage, options, Mode::Accept, message(SMALL)).await?,
        seen: Arc::clone(&seen),
    };
    let running = stage.begin(operation, options.shape());
    sleep(options.warm_up).await;
    let before = Usage::of(&stage.servers).await?;
    running.meter.open();
    let begun = Instant::now();
    sleep(BEFORE).await;
    let until_kill = Usage::of(&stage.servers).await?;
    let home = stage.home();
    let cluster = stage.servers.own()?;
    let leader = cluster.leader_of(home).await?;
    cluster.node_mut(leader).kill()?;
    let killed = Instant::now();
    stage.progress.say(&format!(
        "killed node {leader}, {:.1} s after the window began",
        (killed - begun).as_secs_f64()
    ));
    let mut restart_ms = None;
    if options.nodes == 1 {
        stage.servers.own()?.restart(leader).await?;
        restart_ms = Some(elapsed_ms(killed, Instant::now()));
    }
    sleep((killed + options.duration).saturating_duration_since(Instant::now())).await;
    running.meter.close();
    let ended = Instant::now();
    // Before the requests under way are waited for: those of the killed node's clients may take long.
    let way = seen.way_back(begun, killed, ended);
    let counts = running.end(&stage).await?;
    let mut rejoin_ms = None;
    if options.nodes > 1 {
        let begun = Instant::now();
        stage.servers.own()?.restart(leader).await?;
        rejoin_ms = Some(elapsed_ms(begun, Instant::now()));
    }
    let account = stage.settle(Expected::Succeeded { steps: 1 }).await?;
    let measured = Measured {
        shape: options.shape(),
        seconds: (ended - begun).as_secs_f64(),
        latencies_us: counts.latencies_us,
        errors: counts.errors,
        overflow: counts.overflow,
        first_error: counts.first_error,
        used: (before, until_kill),
        worker_cpu_seconds: 0.0,
        samples: Vec::new(),
    }
    .answered()?;
    let mut figures = figures::of_load(name, &stage, options, &measured, 1);
    figures::add_usage(
        &mut figures,
        &before,
        &until_kill,
        (killed - begun).as_secs_f64(),
        way.ends_before,
        1,
    );
    figures.remove("worker_cpu_us_per_execution");
    let mut set = |key: &str, value: Value| {
        figures.insert(key.to_owned(), value);
    };
    set("rate_before_per_s", rounded(way.rate_before));
    set("rate_after_per_s", rounded(way.rate_after));
    set("gap_ms", rounded(way.gap_ms));
    set("first_ack_ms", json!(way.first_ack_ms));
    set("back_to_90_percent_ms", json!(way.full_ms));
    set("restart_ms", json!(restart_ms));
    set("rejoin_ms", json!(rejoin_ms));
    // A run that has lost any has failed above.
    set("lost", json!(0));
    set("accounted", json!(account.executions));
    set("course", way.course);
    Ok(vec![figures])
}

#[allow(clippy::cast_precision_loss)] // far below 2^53
fn elapsed_ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_millis() as f64
}

/// Starts, then waits: so that the time of the acknowledgement is known.
#[derive(Clone, Debug)]
struct Watched {
    start: Start,
    seen: Arc<Seen>,
}

impl Operation for Watched {
    async fn repeat(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        self.start.repeat(slot, request_id).await
    }

    async fn call(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        let sent = Instant::now();
        let execution = self.start.repeat(slot, request_id).await?;
        self.seen.lines().acks.push((sent, Instant::now()));
        let client = &self.start.clients[slot % self.start.clients.len()];
        let ended = client.wait(&execution.to_string(), END_PATIENCE).await;
        let ended = ended.map_err(|error| match failure(error) {
            // It was started, so it is to be accounted for.
            Failure::Refused(why) | Failure::Unknown(why) => Failure::Unknown(why),
        })?;
        let state = ended.execution.unwrap_or_default().state();
        if state != ExecutionState::Succeeded {
            return Err(Failure::Unknown(format!("{execution} is {state:?}")));
        }
        self.seen.lines().ends.push(Instant::now());
        Ok(execution)
    }
}

/// When what was answered.
#[derive(Debug, Default)]
struct Seen(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    /// Sent, acknowledged.
    acks: Vec<(Instant, Instant)>,
    ends: Vec<Instant>,
}

/// How it went on after the kill.
#[derive(Debug)]
struct WayBack {
    ends_before: f64,
    rate_before: f64,
    rate_after: f64,
    gap_ms: f64,
    first_ack_ms: Option<f64>,
    full_ms: Option<f64>,
    course: Value,
}

impl Seen {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[allow(clippy::cast_precision_loss)] // far below 2^53
    fn way_back(&self, begun: Instant, killed: Instant, until: Instant) -> WayBack {
        let lines = self.lines();
        let ends_in = |from: Instant, to: Instant| {
            lines
                .ends
                .iter()
                .filter(|at| **at >= from && **at < to)
                .count() as f64
        };
        let rate_in = |from: Instant, to: Instant| ends_in(from, to) / (to - from).as_secs_f64();
        let rate_before = rate_in(begun, killed);
        let mut acks: Vec<Instant> = lines.acks.iter().map(|(_, at)| *at).collect();
        acks.retain(|at| *at >= killed && *at < until);
        acks.sort_unstable();
        acks.insert(0, killed);
        acks.push(until);
        let pauses = acks.windows(2).map(|pair| elapsed_ms(pair[0], pair[1]));
        let gap_ms = pauses.fold(0.0, f64::max);
        // Of what was sent after the kill: an answer that was on its way says nothing of a new leader.
        let of_new = lines.acks.iter().filter(|(sent, _)| *sent >= killed);
        let first_ack = of_new.map(|(_, at)| *at).min();
        let mut full_ms = None;
        // Not before something is accepted again: what piled up meanwhile ends in a burst, and a second
        // with half of a pause and half of a burst in it looks as if nothing had happened.
        let mut at = first_ack.unwrap_or(until);
        while at + RATE_WINDOW <= until {
            if rate_in(at, at + RATE_WINDOW) >= rate_before * FULL_SHARE {
                full_ms = Some(elapsed_ms(killed, at));
                break;
            }
            at += STEP;
        }
        let mut course = Vec::new();
        let mut at = begun;
        while at + COURSE_STEP <= until {
            course.push(json!({
                "at_s": rounded((at - begun).as_secs_f64()),
                "rate_per_s": rounded(rate_in(at, at + COURSE_STEP)),
            }));
            at += COURSE_STEP;
        }
        WayBack {
            ends_before: ends_in(begun, killed).max(1.0),
            rate_before,
            rate_after: rate_in(until - RATE_WINDOW, until),
            gap_ms,
            first_ack_ms: first_ack.map(|at| elapsed_ms(killed, at)),
            full_ms,
            course: Value::Array(course),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_back_is_no_way_back() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let seen = Seen::default();
        // 100 a second, and half of it from the kill at 5 s on, but for the last two seconds.
        for n in 0..1_500_u64 {
            let ms = n * 10;
            if (5_000..13_000).contains(&ms) && n % 2 == 0 {
                continue;
            }
            seen.lines().acks.push((at(ms), at(ms)));
            seen.lines().ends.push(at(ms));
        }
        let way = seen.way_back(begun, at(5_000), at(15_000));
        let full_ms = way.full_ms.expect("in the end");
        assert!((7_700.0..=8_000.0).contains(&full_ms), "{full_ms}");
        assert_eq!(seen.way_back(begun, at(5_000), at(12_000)).full_ms, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_back_is_read_from_the_answers() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let seen = Seen::default();
        // 100 a second, but for 1.5 s after the kill at 5 s.
        for n in 0..1_500_u64 {
            let ms = n * 10;
            if (5_000..6_500).contains(&ms) {
                continue;
            }
            seen.lines().acks.push((at(ms.saturating_sub(5)), at(ms)));
            seen.lines().ends.push(at(ms));
        }
        // Sent before the kill, answered after it.
        seen.lines().acks.push((at(4_999), at(5_010)));
        let way = seen.way_back(begun, at(5_000), at(15_000));
        assert!((way.rate_before - 100.0).abs() < 1.0);
        assert!((way.rate_after - 100.0).abs() < 1.0);
        assert_eq!(way.gap_ms, 1_490.0);
        assert_eq!(way.first_ack_ms, Some(1_500.0));
        assert_eq!(way.full_ms, Some(1_500.0));
    }
}
