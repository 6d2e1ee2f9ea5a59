//! Three nodes under load, killed with SIGKILL again and again: the one that holds the worker's stream,
//! or one that leads while the worker's node lives. Tasks that were on their way to the worker are given
//! out again as soon as it has found another node, or its node another leader: no step waits for a lease
//! to run out, and no lease is lost that the worker held.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    Client, Outcome, TaskContext, Worker,
    api::{
        ExecutionState, GetFlowRequest, Message, StartExecutionRequest, TransferLeadershipRequest,
    },
};
use tidemill_tests::{Cluster, http, load::may_be_repeated, until};

const FLOW: &str = "name: chain\ngraph:\n  nodes:\n    - {id: a, componentId: test, function: echo}\n    - {id: b, componentId: test, function: echo}\n    - {id: c, componentId: test, function: echo}\n  edges: [{source: a, target: b}, {source: b, target: c}]\n";
const STARTERS: usize = 24;
const KILLS: usize = 3;
/// So long that a lease that had to run out would end the test by its patience.
const LEASE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_runs_out_when_a_workers_node_is_killed() -> Result<()> {
    no_lease_runs_out(Victim::Gateway).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_runs_out_when_a_leader_is_killed_and_the_workers_node_lives() -> Result<()> {
    no_lease_runs_out(Victim::Leader).await
}

/// Which node is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The worker's.
    Gateway,
    /// The leader of the flow's partition, which is not the worker's node.
    Leader,
}

async fn no_lease_runs_out(victim: Victim) -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let (stop_worker, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = Worker::builder(cluster.endpoints())
        .name("tester")
        .function("test", "echo", async |task: TaskContext| {
            // Long enough that some are always under way.
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(Outcome::message(task.message()))
        })
        .concurrency(64)
        .lease(LEASE);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    client.apply(FLOW).await?;
    client.publish("chain").await?;
    client.start_flow_by_name("chain").await?;

    let request = GetFlowRequest {
        flow: "chain".into(),
    };
    let flow = client.get_flow(request).await?.flow.unwrap_or_default();
    let partition = flow.partition;
    let (started, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let starters: Vec<_> = (0..STARTERS)
        .map(|starter| {
            let (started, stop) = (started.clone(), stop.clone());
            tokio::spawn(start_on(client.clone(), starter, started, stop))
        })
        .collect();
    for _ in 0..KILLS {
        let before = started.load(Relaxed);
        until("executions start", async || {
            (started.load(Relaxed) > before + 300).then_some(())
        })
        .await?;
        let gateway = node_of_the_worker(&cluster).await?;
        let dies = match victim {
            Victim::Gateway => gateway,
            Victim::Leader => leader_apart_from(&cluster, partition, gateway).await?,
        };
        cluster.node_mut(dies).kill()?;
        let killed = started.load(Relaxed);
        until("executions start again", async || {
            (started.load(Relaxed) > killed + 50).then_some(())
        })
        .await?;
        cluster.restart(dies).await?;
    }
    stop.store(true, Relaxed);
    let mut executions = Vec::new();
    for starter in starters {
        executions.extend(starter.await??);
    }
    // The lease is far longer than this patience: whatever waited for one would fail here.
    for execution in &executions {
        let ended = client.wait(execution, Duration::from_secs(30)).await?;
        let state = ended.execution.unwrap_or_default().state();
        ensure!(
            state == ExecutionState::Succeeded,
            "{execution} is {state:?}"
        );
    }
    let chains = cluster.verified_journal().await?;
    let stories = tidemill_tests::journal::executions(&chains)?;
    let expired: u32 = stories.values().map(|story| story.expired).sum();
    let freed: u32 = stories.values().map(|story| story.freed).sum();
    let _ = stop_worker.send(());
    let report = worker.await??;
    println!(
        "{}",
        serde_json::json!({
            "executions": executions.len(),
            "leases_expired": expired,
            "leases_freed": freed,
            "connections": report.connections,
            "completions_too_late": report.lost,
        })
    );
    ensure!(
        expired == 0,
        "{expired} steps waited for a lease to run out"
    );
    ensure!(report.lost == 0, "{} steps ran in vain", report.lost);
    if victim == Victim::Gateway {
        ensure!(freed > 0, "nothing was on its way when the nodes died");
        ensure!(report.connections > KILLS as u64, "{report:?}");
    }
    Ok(())
}

/// The partition's leader, after it was moved away from this node if need be.
async fn leader_apart_from(cluster: &Cluster, partition: u32, gateway: u64) -> Result<u64> {
    let leader = cluster.leader_of(partition).await?;
    if leader != gateway {
        return Ok(leader);
    }
    let to = cluster.running().into_iter().find(|id| *id != gateway);
    let to = to.context("three nodes run")?;
    let request = TransferLeadershipRequest {
        partition: Some(partition),
        to,
    };
    cluster.client().await?.transfer_leadership(request).await?;
    until("the new leader", async || {
        let leader = cluster.leader_of(partition).await.ok()?;
        (leader != gateway).then_some(leader)
    })
    .await
}

/// The node that says that it has a worker.
async fn node_of_the_worker(cluster: &Cluster) -> Result<u64> {
    until("the worker's node", async || {
        for id in cluster.running() {
            let values = http::metrics(&cluster.node(id).http).await.ok()?;
            if values.get("tidemill_worker_sessions") == Some(&1.0) {
                return Some(id);
            }
        }
        None
    })
    .await
    .context("no node has the worker")
}

async fn start_on(
    client: Client,
    starter: usize,
    started: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<Vec<String>> {
    let mut executions = Vec::new();
    for number in 0_u64.. {
        if stop.load(Relaxed) {
            break;
        }
        let request = StartExecutionRequest {
            flow: "chain".into(),
            message: Some(Message {
                data: "{}".into(),
                ..Message::default()
            }),
            request_id: format!("s{starter}-{number}"),
            ..StartExecutionRequest::default()
        };
        // Repeated with the same id, so that each is one execution whatever dies.
        let execution = loop {
            match client.start_execution(request.clone()).await {
                Ok(answer) => break answer.execution_id,
                Err(error) if may_be_repeated(&error) => {}
                Err(error) => return Err(error.into()),
            }
        };
        started.fetch_add(1, Relaxed);
        executions.push(execution);
    }
    Ok(executions)
}
