//! Three nodes: the leader is killed with SIGKILL again and again while executions run. Every
//! acknowledged start ends exactly once, no step completes twice, all journals are one.
//!
//! `TIDEMILL_FAILOVERS=10` kills ten times instead of twice; the gaps are printed as JSON.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tidemill_sdk::{
    Client, ClientError, ErrorKind, Outcome, TaskContext, Worker,
    api::{ExecutionState, Message, StartExecutionRequest},
};
use tidemill_tests::{Cluster, until};

const FLOW: &str = "name: chain\ngraph:\n  nodes:\n    - {id: a, componentId: test, function: echo}\n    - {id: b, componentId: test, function: echo}\n    - {id: c, componentId: test, function: echo}\n  edges: [{source: a, target: b}, {source: b, target: c}]\n";
const STARTERS: usize = 8;

/// What starters have seen: execution by request id, and when each start was acknowledged.
#[derive(Default)]
struct Seen {
    started: BTreeMap<String, String>,
    acknowledged: Vec<Instant>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_lose_nothing() -> Result<()> {
    let kills: usize = std::env::var("TIDEMILL_FAILOVERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2);
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let (stop_worker, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = Worker::builder(cluster.endpoints())
        .name("tester")
        .function("test", "echo", async |task: TaskContext| {
            Ok(Outcome::message(task.message()))
        })
        .concurrency(64)
        .lease(Duration::from_secs(5));
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    client.apply(FLOW).await?;
    client.publish("chain").await?;
    client.start_flow_by_name("chain").await?;

    let (seen, stop) = (
        Arc::new(Mutex::new(Seen::default())),
        Arc::new(AtomicBool::new(false)),
    );
    let starters: Vec<_> = (0..STARTERS)
        .map(|starter| {
            tokio::spawn(start_on(
                client.clone(),
                starter,
                seen.clone(),
                stop.clone(),
            ))
        })
        .collect();
    let partition = u32::from(home_of(&client).await?);
    let count =
        |seen: &Arc<Mutex<Seen>>| seen.lock().expect("no starter panicked").acknowledged.len();
    let mut gaps_ms = Vec::new();
    for _ in 0..kills {
        let before = count(&seen);
        until("starts go on", async || {
            (count(&seen) > before + 50).then_some(())
        })
        .await?;
        let leader = cluster.leader_of(partition).await?;
        let killed = Instant::now();
        cluster.node_mut(leader).kill()?;
        until("a start after the kill", async || {
            let seen = seen.lock().expect("no starter panicked");
            seen.acknowledged
                .iter()
                .rev()
                .find(|at| **at > killed + Duration::from_millis(50))
                .map(|_| ())
        })
        .await?;
        gaps_ms.push(longest_gap(&seen, killed).as_millis() as u64);
        cluster.restart(leader).await?;
    }
    stop.store(true, Relaxed);
    for starter in starters {
        starter.await??;
    }
    let started = std::mem::take(&mut seen.lock().expect("no starter panicked").started);
    println!(
        "{}",
        serde_json::json!({ "kills": kills, "executions": started.len(), "gaps_ms": gaps_ms })
    );

    for execution in started.values() {
        let ended = client.wait(execution, Duration::from_secs(60)).await?;
        let state = ended.execution.unwrap_or_default().state();
        ensure!(
            state == ExecutionState::Succeeded,
            "{execution} is {state:?}"
        );
    }
    let chains = cluster.verified_journal().await?;
    let stories = tidemill_tests::journal::executions(&chains)?;
    let by_request: BTreeMap<&str, usize> =
        stories.values().fold(BTreeMap::new(), |mut all, story| {
            *all.entry(story.request_id.as_str()).or_default() += 1;
            all
        });
    for request in started.keys() {
        ensure!(
            by_request.get(request.as_str()) == Some(&1),
            "{request} has not exactly one execution"
        );
    }
    for story in stories.values() {
        ensure!(
            story.starts == 1 && story.ends == ["execution.succeeded"],
            "{story:?}"
        );
        ensure!(story.completions.len() == 3, "{story:?}");
        ensure!(
            story.completions.values().all(|count| *count == 1),
            "two effective completions: {story:?}"
        );
    }
    let _ = stop_worker.send(());
    worker.await??;
    Ok(())
}

async fn start_on(
    client: Client,
    starter: usize,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    for number in 0_u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let request_id = format!("s{starter}-{number}");
        let request = StartExecutionRequest {
            flow: "chain".into(),
            message: Some(Message {
                data: "{}".into(),
                ..Message::default()
            }),
            request_id: request_id.clone(),
            ..StartExecutionRequest::default()
        };
        // The SDK repeats with the same id; what it gives up on, this repeats with the same id too.
        let execution = loop {
            match client.start_execution(request.clone()).await {
                Ok(started) => break started.execution_id,
                Err(error) if may_be_repeated(&error) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let mut seen = seen.lock().expect("no starter panicked");
        seen.acknowledged.push(Instant::now());
        if let Some(first) = seen.started.insert(request_id.clone(), execution.clone()) {
            ensure!(first == execution, "{request_id} started two executions");
        }
    }
    Ok(())
}

fn may_be_repeated(error: &ClientError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Unavailable
            | ErrorKind::Unknown
            | ErrorKind::Unreachable
            | ErrorKind::Overloaded { .. }
    )
}

/// The longest time without an acknowledged start from the kill on.
fn longest_gap(seen: &Arc<Mutex<Seen>>, killed: Instant) -> Duration {
    let seen = seen.lock().expect("no starter panicked");
    let mut times: Vec<Instant> = seen
        .acknowledged
        .iter()
        .copied()
        .filter(|at| *at >= killed)
        .collect();
    times.push(killed);
    times.sort_unstable();
    times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

async fn home_of(client: &Client) -> Result<u8> {
    let request = tidemill_sdk::api::GetFlowRequest {
        flow: "chain".into(),
    };
    let flow = client.get_flow(request).await?.flow.unwrap_or_default();
    Ok(u8::try_from(flow.partition)?)
}
