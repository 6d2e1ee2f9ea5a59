//! Three nodes and schedules of every second: leaders are killed with SIGKILL, flows are started and
//! stopped, and every occurrence has exactly one row and, where it fired, one execution.
//!
//! `TIDEMILL_SCHEDULE_FAILOVERS=10` kills ten times in about two minutes instead of twice, and
//! `TIDEMILL_LIFECYCLE_CYCLES=20` starts and stops twenty times; what was measured is printed as JSON.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    Client,
    api::{
        BackfillScheduleRequest, BackfillState, FlowStatus, GetFlowRequest, GetScheduleRequest,
        Occurrence, OccurrenceKind, OccurrenceOutcome, PauseScheduleRequest, ResumeScheduleRequest,
        StartExecutionRequest, StartFlowRequest, StopFlowRequest,
    },
};
use tidemill_tests::{Cluster, ledger, until, within};
use tidemill_types::FlowId;

const SCHEDULES: usize = 200;
/// Flows that are started or stopped at the same time.
const AT_ONCE: usize = 20;
/// How long a kill may keep schedules from firing: the rest is a hang.
const RECOVERY: Duration = Duration::from_secs(60);
/// In the long form there is a kill every twelve seconds.
const BETWEEN_KILLS_LONG: Duration = Duration::from_secs(12);
/// What fell due within this time after a kill may be late because of it.
const FAILOVER: Duration = Duration::from_secs(6);

fn number_of(variable: &str, default: usize) -> usize {
    let text = std::env::var(variable).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Lateness is by the wall clock, as schedules are.
#[allow(clippy::disallowed_methods)]
fn wall_clock_us() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Applies, publishes and starts a flow that is due every second; gives its id.
async fn arm(client: Client, number: usize) -> Result<FlowId> {
    let catch_up = if number.is_multiple_of(2) {
        "one"
    } else {
        "all"
    };
    let name = format!("every-{number}");
    client
        .apply(&format!(
            "name: {name}\ntrigger: {{schedule: {{every: 1s, catchUp: {catch_up}}}}}\ngraph: {{nodes: [{{id: a, componentId: log, function: write}}], edges: []}}\n"
        ))
        .await?;
    client.publish(&name).await?;
    client.start_flow_by_name(&name).await?;
    let flow = client.get_flow(GetFlowRequest { flow: name }).await?.flow;
    Ok(flow.context("the flow")?.id.parse()?)
}

async fn stop(client: Client, flow: FlowId) -> Result<()> {
    let request = StopFlowRequest {
        flow: flow.to_string(),
        ..StopFlowRequest::default()
    };
    client.stop_flow(request).await?;
    Ok(())
}

/// Does something for all flows, some at a time.
async fn each<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    all: impl Iterator<Item = F>,
) -> Result<Vec<T>> {
    let mut results = Vec::new();
    let all: Vec<F> = all.collect();
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        let part: Vec<_> = all.by_ref().take(AT_ONCE).map(tokio::spawn).collect();
        for one in part {
            results.push(one.await??);
        }
    }
    Ok(results)
}

/// Waits until a flow has fired for a second that begins now or later.
async fn fires_again(client: &Client, flow: FlowId) -> Result<()> {
    let from_us = wall_clock_us();
    within(RECOVERY, &format!("{flow} fires again"), async || {
        let rows = ledger::occurrences(client, &flow.to_string()).await.ok()?;
        let last = rows.last()?;
        let at_us = last.at.as_ref()?.seconds * 1_000_000;
        (at_us >= from_us && last.outcome() == OccurrenceOutcome::Fired).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_neither_lose_nor_double_an_occurrence() -> Result<()> {
    let kills = number_of("TIDEMILL_SCHEDULE_FAILOVERS", 2);
    let is_long = kills > 2;
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let flows = each((0..SCHEDULES).map(|number| arm(client.clone(), number))).await?;
    let homes = [1, 2].map(|partition| {
        let is_home = |flow: &&FlowId| u32::from(flow.partition().0) == partition;
        flows.iter().find(is_home).copied()
    });
    for home in homes.into_iter().flatten() {
        fires_again(&client, home).await?;
    }
    let begun_us = wall_clock_us();
    let mut killed_us = Vec::new();
    for kill in 0..kills {
        let begun = Instant::now();
        let leader = cluster.leader_of(1 + (kill % 2) as u32).await?;
        killed_us.push(wall_clock_us());
        cluster.node_mut(leader).kill()?;
        for home in homes.into_iter().flatten() {
            fires_again(&client, home).await?;
        }
        cluster.restart(leader).await?;
        if is_long {
            tokio::time::sleep(BETWEEN_KILLS_LONG.saturating_sub(begun.elapsed())).await;
        }
    }
    let ended_us = wall_clock_us();
    each(flows.iter().map(|flow| stop(client.clone(), *flow))).await?;
    let chains = cluster.verified_journal().await?;
    let ledgers = ledger::verified_seconds(&client, &flows, &chains).await?;
    let failover_us = FAILOVER.as_micros() as i64;
    let is_calm = |at: i64| {
        let near_kill = |killed: &i64| (*killed - 1_000_000..killed + failover_us).contains(&at);
        (begun_us..ended_us).contains(&at) && !killed_us.iter().any(near_kill)
    };
    let mut late_us: Vec<i64> = ledgers
        .fired
        .values()
        .flatten()
        .filter(|firing| is_calm(firing.at_us))
        .map(|firing| firing.decided_us - firing.at_us)
        .collect();
    late_us.sort_unstable();
    let late_ms = |per_mille: usize| {
        let at = (late_us.len().saturating_sub(1)) * per_mille / 1_000;
        late_us.get(at).map(|us| *us as f64 / 1_000.0)
    };
    let gap_us = ledgers.fired.values().flat_map(|firings| {
        let pairs = firings.windows(2);
        pairs.map(|pair| pair[1].decided_us - pair[0].decided_us)
    });
    println!(
        "{}",
        serde_json::json!({
            "schedules": SCHEDULES,
            "kills": kills,
            "seconds": (ended_us - begun_us) / 1_000_000,
            "fired": ledgers.fired.values().map(Vec::len).sum::<usize>(),
            "skipped": ledgers.skipped,
            "calm": late_us.len(),
            "late_p50_ms": late_ms(500),
            "late_p99_ms": late_ms(990),
            "longest_gap_ms": gap_us.max().map(|us| us / 1_000),
        })
    );
    Ok(())
}

async fn status_of(client: &Client, flow: &str) -> Option<FlowStatus> {
    let request = GetFlowRequest { flow: flow.into() };
    Some(client.get_flow(request).await.ok()?.flow?.status())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_and_stops_survive_the_death_of_either_leader() -> Result<()> {
    let cycles = number_of("TIDEMILL_LIFECYCLE_CYCLES", 3);
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let flow = arm(client.clone(), 0).await?;
    let name = flow.to_string();
    stop(client.clone(), flow).await?;
    let mut longest_ms = 0;
    for cycle in 0..cycles {
        for is_start in [true, false] {
            // Now the catalog's leader, now the home partition's, at one moment or another.
            let group = if (cycle + usize::from(is_start)).is_multiple_of(2) {
                0
            } else {
                u32::from(flow.partition().0)
            };
            let leader = cluster.leader_of(group).await?;
            let (caller, text) = (client.clone(), name.clone());
            let call = tokio::spawn(async move {
                if is_start {
                    let request = StartFlowRequest {
                        flow: text,
                        ..StartFlowRequest::default()
                    };
                    caller.start_flow(request).await.map(|_| ())
                } else {
                    let request = StopFlowRequest {
                        flow: text,
                        ..StopFlowRequest::default()
                    };
                    caller.stop_flow(request).await.map(|_| ())
                }
            });
            tokio::time::sleep(Duration::from_millis(cycle as u64 * 3 % 40)).await;
            let killed = Instant::now();
            cluster.node_mut(leader).kill()?;
            call.await?
                .with_context(|| format!("cycle {cycle}, start: {is_start}"))?;
            let wanted = if is_start {
                FlowStatus::Active
            } else {
                FlowStatus::Inactive
            };
            within(RECOVERY, &format!("the flow is {wanted:?}"), async || {
                (status_of(&client, &name).await? == wanted).then_some(())
            })
            .await?;
            longest_ms = longest_ms.max(killed.elapsed().as_millis() as u64);
            cluster.restart(leader).await?;
        }
    }
    let chains = cluster.verified_journal().await?;
    ledger::verified_seconds(&client, &[flow], &chains).await?;
    println!(
        "{}",
        serde_json::json!({ "cycles": cycles, "longest_ms": longest_ms })
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_paused_fired_by_hand_and_backfilled_through_any_node() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let client = cluster.client_of(1).await?;
    let flow = arm(client.clone(), 0).await?;
    let name = flow.to_string();
    fires_again(&client, flow).await?;
    let pause = PauseScheduleRequest {
        flow: name.clone(),
        reason: "a test".into(),
        request_id: "p1".into(),
    };
    for (node, changed) in [(1, true), (2, true), (3, true)] {
        // One request, repeated: the first answer, and no second change.
        let client = cluster.client_of(node).await?;
        let answer = client.pause_schedule(pause.clone()).await?;
        ensure!(answer.changed == changed, "node {node}");
    }
    until("a skipped occurrence", async || {
        let rows = ledger::occurrences(&client, &name).await.ok()?;
        let last = rows.last()?;
        (last.reason == "the schedule is paused").then_some(())
    })
    .await?;
    let get = GetScheduleRequest { flow: name.clone() };
    let schedule = client.get_schedule(get.clone()).await?;
    ensure!(schedule.paused_at.is_some() && schedule.paused_reason == "a test");
    let by_hand = StartExecutionRequest {
        flow: name.clone(),
        by_hand: true,
        request_id: "m1".into(),
        ..StartExecutionRequest::default()
    };
    let mut executions = Vec::new();
    for node in 1..=3 {
        let client = cluster.client_of(node).await?;
        executions.push(client.start_execution(by_hand.clone()).await?.execution_id);
    }
    executions.dedup();
    ensure!(executions.len() == 1, "{executions:?}");
    // What was due until the pause began, again; and of it only what was missed, which is nothing.
    let rows = ledger::occurrences(&client, &name).await?;
    let first = rows.first().and_then(|row| row.at).context("a row")?;
    let before_pause = schedule.paused_at.context("paused")?;
    for (request_id, only_missed) in [("b1", false), ("b1", false), ("b2", false), ("b3", true)] {
        let request = BackfillScheduleRequest {
            flow: name.clone(),
            from: Some(first),
            to: Some(before_pause),
            only_missed,
            request_id: request_id.into(),
            ..BackfillScheduleRequest::default()
        };
        client.backfill_schedule(request).await?;
    }
    let done = until("the backfills are done", async || {
        let backfills = client.get_schedule(get.clone()).await.ok()?.backfills;
        let is_done = backfills.iter().all(|b| b.state() == BackfillState::Done);
        is_done.then_some(backfills)
    })
    .await?;
    let is_before = |row: &&Occurrence| {
        let at = row.at.unwrap_or_default();
        row.kind() == OccurrenceKind::Regular
            && (at.seconds, at.nanos) < (before_pause.seconds, before_pause.nanos)
    };
    let due = rows.iter().filter(is_before).count() as u64;
    let started: Vec<u64> = done.iter().map(|backfill| backfill.started).collect();
    ensure!(started == [due, 0, 0], "{started:?} of {due}");
    let resume = ResumeScheduleRequest {
        flow: name.clone(),
        ..ResumeScheduleRequest::default()
    };
    ensure!(client.resume_schedule(resume).await?.changed);
    fires_again(&client, flow).await?;
    stop(client.clone(), flow).await?;
    let rows = ledger::occurrences(&client, &name).await?;
    let of_kind = |kind| rows.iter().filter(|row| row.kind() == kind).count() as u64;
    ensure!(of_kind(OccurrenceKind::Manual) == 1);
    ensure!(of_kind(OccurrenceKind::Backfill) == due);
    let chains = cluster.verified_journal().await?;
    ledger::verified_seconds(&client, &[flow], &chains).await?;
    let kinds: Vec<&str> = chains
        .iter()
        .flat_map(|chain| &chain.records)
        .map(|record| record.kind.as_str())
        .collect();
    for kind in [
        "flow.starting",
        "flow.started",
        "flow.executed",
        "flow.stopping",
        "flow.stopped",
        "schedule.paused",
        "schedule.resumed",
        "backfill.done",
    ] {
        ensure!(kinds.contains(&kind), "{kind} is not in the journal");
    }
    Ok(())
}
