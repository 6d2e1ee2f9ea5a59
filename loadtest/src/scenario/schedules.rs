//! Many armed schedules on one node, of which most are not due: what they cost in memory, on disk and in
//! idle CPU, how fast they are armed by the public API, and how late a burst of them fires.
//!
//! Every flow is a flow of its own: applied, published and started by calls that anybody can make.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tidemill_sdk::{
    Client,
    api::{
        ApplyFlowRequest, ListOccurrencesRequest, Occurrence, OccurrenceOutcome,
        PublishFlowRequest, StartFlowRequest,
    },
};
use tidemill_types::Timestamp;

use crate::{figures::Figures, options::Options, servers::Servers, usage::Usage};

/// How many are armed when the options do not say.
const COUNT_DEFAULT: u64 = 100_000;
/// The burst's occurrences are spread evenly over this time.
const BURST: Duration = Duration::from_secs(5);
/// How long the node is left alone to see what it uses.
const IDLE: Duration = Duration::from_secs(20);
/// After what happened before (compactions, say) has settled.
const SETTLE: Duration = Duration::from_secs(10);
/// Between the last arming and the burst.
const LEAD: Duration = Duration::from_secs(10);
/// How long after its end every occurrence of the burst must have its row.
const BURST_PATIENCE: Duration = Duration::from_secs(120);

/// Schedules go by the wall clock, and so does what measures them.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// A flow that is due once, at `at`: its execution is one built-in step.
fn document(number: u64, at: SystemTime) -> String {
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let at = Timestamp::from_millis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
    format!(
        "name: s{number}\n\
         trigger: {{schedule: {{every: 3650d, anchor: \"{at}\"}}}}\n\
         graph: {{nodes: [{{id: t, componentId: transform, function: jsonata, fields: {{expression: \"$\"}}}}], edges: []}}\n"
    )
}

/// Arms them, looks, kills the node, starts it again, looks again, and has the burst fire.
///
/// # Errors
/// When anything fails, or an occurrence of the burst has not exactly one row and one execution.
pub async fn run(name: &str, options: &Options) -> Result<Vec<Figures>> {
    options.needs_own_servers(name)?;
    let count = options.count.unwrap_or(COUNT_DEFAULT);
    ensure!(count > 0, "--count: at least 1");
    let mut servers = Servers::begin(options).await?;
    let clients = clients(&servers, options.clients).await?;
    let empty = Usage::of(&servers).await?;
    let burst = options.burst.min(count);
    let idle = count - burst;
    let far = wall_clock() + Duration::from_secs(1_000 * 24 * 3_600);
    let begun = Instant::now();
    arm(&clients, 0, idle, move |_| far).await?;
    let took = begun.elapsed();
    let armed = Usage::of(&servers).await?;
    // What is due late enough that it is armed before: at half the rate that was seen.
    let per_flow = took
        .checked_div(u32::try_from(idle.max(1))?)
        .unwrap_or_default();
    let per_flow = per_flow.clamp(Duration::from_micros(500), Duration::from_millis(20));
    let arming = per_flow * 2 * u32::try_from(burst)?;
    let due = wall_clock() + arming + SETTLE + IDLE + LEAD * 2;
    let spread = move |number: u64| {
        let nanos = BURST.as_nanos() as u64 * (number - idle) / burst.max(1);
        due + Duration::from_nanos(nanos)
    };
    arm(&clients, idle, burst, spread).await?;
    let took = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let before = Usage::of(&servers).await?;
    let looked = Instant::now();
    tokio::time::sleep(IDLE).await;
    let after = Usage::of(&servers).await?;
    let idle_cpu = (after.cpu_seconds - before.cpu_seconds) / looked.elapsed().as_secs_f64();
    let disk = servers.disk_bytes()?;
    let mut restart_ms = 0;
    let mut restarted = after;
    if options.nodes == 1 {
        let cluster = servers.own()?;
        cluster.node_mut(1).kill()?;
        let begun = Instant::now();
        cluster.restart(1).await?;
        restart_ms = begun.elapsed().as_millis() as u64;
        restarted = Usage::of(&servers).await?;
    }
    let left = due.duration_since(wall_clock());
    let left = left.context("arming took too long: the burst is over already")?;
    tokio::time::sleep(left).await;
    let before = Usage::of(&servers).await?;
    let clients = self::clients(&servers, options.clients).await?;
    // Those that fall due last have fired: the rest is looked at without a hurry.
    await_fired(&clients[0], count - 1).await?;
    let rows = ledger(&clients, idle, burst).await?;
    let fired = Usage::of(&servers).await?;
    let figures = lateness(&rows)?;
    let cpu_us = (fired.cpu_seconds - before.cpu_seconds) * 1e6;
    let mut result = json!({
        "scenario": name,
        "nodes": options.nodes,
        "clients": options.clients,
        "count": count,
        "executions": burst,
        "armed": count,
        "armed_per_s": (count as f64 / took.as_secs_f64()).round(),
        "server_cpu_us_per_arming": ((armed.cpu_seconds - empty.cpu_seconds) * 1e6 / idle.max(1) as f64).round(),
        "rss_bytes_empty": empty.rss_bytes,
        "rss_bytes": after.rss_bytes,
        "rss_bytes_after_restart": restarted.rss_bytes,
        "rss_bytes_after_burst": fired.rss_bytes,
        "disk_bytes_per_schedule": (disk as f64 / count as f64).round(),
        "restart_after_kill_ms": restart_ms,
        "idle_cpu_percent": (idle_cpu * 1_000.0).round() / 10.0,
        "burst": burst,
        "server_cpu_us_per_firing_and_look": (cpu_us / burst.max(1) as f64).round(),
        "errors": 0,
    });
    for (key, value) in figures {
        result[key] = value;
    }
    Ok(vec![result.as_object().cloned().unwrap_or_default()])
}

async fn clients(servers: &Servers, count: u64) -> Result<Vec<Client>> {
    let count = usize::try_from(count)?;
    let mut clients = Vec::new();
    // Many calls share a connection, but not all of them one.
    for number in 0..count.div_ceil(16) {
        clients.push(servers.client_number(number).await?);
    }
    Ok((0..count).map(|at| clients[at / 16].clone()).collect())
}

/// Applies, publishes and starts flows, as many at a time as there are clients.
async fn arm(
    clients: &[Client],
    first: u64,
    count: u64,
    at: impl Fn(u64) -> SystemTime + Clone + Send + 'static,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(first));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for client in clients {
        let client = client.clone();
        let (next, at) = (Arc::clone(&next), at.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= first + count {
                    return Ok::<_, anyhow::Error>(());
                }
                if number % 10_000 == 0 {
                    eprintln!("{number} armed, {:.0} s", begun.elapsed().as_secs_f64());
                }
                let name = format!("s{number}");
                client
                    .apply_flow(ApplyFlowRequest {
                        document: document(number, at(number)),
                        request_id: format!("apply-{number}"),
                        ..ApplyFlowRequest::default()
                    })
                    .await?;
                client
                    .publish_flow(PublishFlowRequest {
                        flow: name.clone(),
                        request_id: format!("publish-{number}"),
                    })
                    .await?;
                client
                    .start_flow(StartFlowRequest {
                        flow: name,
                        request_id: format!("start-{number}"),
                        ..StartFlowRequest::default()
                    })
                    .await?;
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn occurrences(client: &Client, number: u64) -> Result<Vec<Occurrence>> {
    let request = ListOccurrencesRequest {
        flow: format!("s{number}"),
        ..ListOccurrencesRequest::default()
    };
    Ok(client.list_occurrences(request).await?.occurrences)
}

async fn await_fired(client: &Client, number: u64) -> Result<()> {
    let deadline = Instant::now() + BURST + BURST_PATIENCE;
    while occurrences(client, number).await?.is_empty() {
        ensure!(Instant::now() < deadline, "s{number} does not fire");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The one row of each flow of the burst.
async fn ledger(clients: &[Client], first: u64, count: u64) -> Result<Vec<Occurrence>> {
    let next = Arc::new(AtomicU64::new(first));
    let mut tasks = Vec::new();
    for client in clients {
        let client = client.clone();
        let next = Arc::clone(&next);
        tasks.push(tokio::spawn(async move {
            let mut rows = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= first + count {
                    return Ok::<_, anyhow::Error>(rows);
                }
                let mut found = occurrences(&client, number).await?;
                ensure!(found.len() == 1, "s{number} has {} rows", found.len());
                rows.append(&mut found);
            }
        }));
    }
    let mut rows = Vec::new();
    for task in tasks {
        rows.append(&mut task.await??);
    }
    Ok(rows)
}

/// How late each was decided, and how long all took.
fn lateness(rows: &[Occurrence]) -> Result<Vec<(&'static str, Value)>> {
    let mut late_us = Histogram::<u64>::new(3)?;
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let mut executions = std::collections::BTreeSet::new();
    let mut late_outcomes = 0;
    for row in rows {
        let at = row.at.as_ref().context("a row has its instant")?;
        let decided = row.decided_at.as_ref().context("a row has its decision")?;
        let micros = |seconds: i64, nanos: i32| seconds * 1_000_000 + i64::from(nanos) / 1_000;
        let (at, decided) = (
            micros(at.seconds, at.nanos),
            micros(decided.seconds, decided.nanos),
        );
        late_us.record(u64::try_from((decided - at).max(1))?)?;
        (first, last) = (first.min(at), last.max(decided));
        let is_late = row.outcome() == OccurrenceOutcome::Late;
        late_outcomes += u64::from(is_late);
        ensure!(
            is_late || row.outcome() == OccurrenceOutcome::Fired,
            "an occurrence did not fire: {row:?}"
        );
        ensure!(
            executions.insert(row.execution_id.clone()),
            "{} belongs to two occurrences",
            row.execution_id
        );
    }
    let ms = |quantile: f64| json!(late_us.value_at_quantile(quantile) as f64 / 1_000.0);
    let seconds = (last - first).max(1) as f64 / 1e6;
    Ok(vec![
        ("late_p50_ms", ms(0.5)),
        ("late_p99_ms", ms(0.99)),
        ("late_max_ms", json!(late_us.max() as f64 / 1_000.0)),
        ("late_outcomes", json!(late_outcomes)),
        ("burst_seconds", json!((seconds * 100.0).round() / 100.0)),
        ("fired_per_s", json!((rows.len() as f64 / seconds).round())),
    ])
}
