//! Executions that are started all the time, while a test does its worst to the nodes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    Client, ClientError, ErrorKind, Outcome, TaskContext, Worker, WorkerError, WorkerReport,
    api::{ExecutionState, GetFlowRequest, Message, StartExecutionRequest},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Cluster, journal, until, within};

/// Three worker steps, one after the other.
const FLOW: &str = "name: chain\ngraph:\n  nodes:\n    - {id: a, componentId: test, function: echo}\n    - {id: b, componentId: test, function: echo}\n    - {id: c, componentId: test, function: echo}\n  edges: [{source: a, target: b}, {source: b, target: c}]\n";
const STEPS: usize = 3;
const WORKER_CONCURRENCY: u32 = 64;
const WORKER_LEASE: Duration = Duration::from_secs(5);
/// How long an execution may take to end once all is well again.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts that show that the cluster works.
const STARTS_OF_A_WORKING_CLUSTER: usize = 30;

/// What starters have seen.
#[derive(Debug, Default)]
struct Seen {
    /// Execution by request id.
    started: BTreeMap<String, String>,
    /// When each start was acknowledged.
    acknowledged: Vec<Instant>,
    /// What calls ended in when the SDK had done all its retries.
    given_up: Vec<ClientError>,
}

/// Starters and a worker, running until [`Self::finish`].
#[derive(Debug)]
pub struct Load {
    client: Client,
    home: u32,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    starters: Vec<JoinHandle<Result<()>>>,
    worker: JoinHandle<Result<WorkerReport, WorkerError>>,
    stop_worker: oneshot::Sender<()>,
}

impl Load {
    /// Publishes a flow of three worker steps, serves it, and starts it without a pause, so many starts
    /// at a time.
    ///
    /// # Errors
    /// When the cluster does not take the flow.
    pub async fn start(cluster: &Cluster, starters: usize) -> Result<Self> {
        let client = cluster.client().await?;
        let (stop_worker, stopped) = oneshot::channel::<()>();
        let worker = Worker::builder(cluster.endpoints())
            .name("tester")
            .function("test", "echo", async |task: TaskContext| {
                Ok(Outcome::message(task.message()))
            })
            .concurrency(WORKER_CONCURRENCY)
            .lease(WORKER_LEASE);
        let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
        client.apply(FLOW).await?;
        client.publish("chain").await?;
        client.start_flow_by_name("chain").await?;
        let request = GetFlowRequest {
            flow: "chain".into(),
        };
        let flow = client.get_flow(request).await?.flow.context("the flow")?;
        let (seen, stop) = (Arc::default(), Arc::default());
        let starters = (0..starters)
            .map(|starter| {
                let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
                tokio::spawn(start_on(client.clone(), starter, seen, stop))
            })
            .collect();
        Ok(Self {
            client,
            home: flow.partition,
            seen,
            stop,
            starters,
            worker,
            stop_worker,
        })
    }

    /// The partition that the executions live in.
    #[must_use]
    pub fn home(&self) -> u32 {
        self.home
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// How many starts were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.seen().acknowledged.len()
    }

    /// An execution that was acknowledged.
    #[must_use]
    pub fn any(&self) -> Option<String> {
        self.seen().started.values().next().cloned()
    }

    /// What calls ended in although the SDK had repeated them until their deadline.
    #[must_use]
    pub fn given_up(&self) -> Vec<ClientError> {
        self.seen().given_up.clone()
    }

    /// Waits until enough starts were acknowledged from now on to say that the cluster works.
    ///
    /// # Errors
    /// When it does not.
    pub async fn goes_on(&self) -> Result<()> {
        let enough = self.acknowledged() + STARTS_OF_A_WORKING_CLUSTER;
        until("starts are acknowledged", async || {
            (self.acknowledged() >= enough).then_some(())
        })
        .await
    }

    /// Waits until a start was acknowledged later than `since`.
    ///
    /// # Errors
    /// When none is.
    pub async fn acknowledged_since(&self, since: Instant) -> Result<()> {
        until("a start is acknowledged", async || {
            let seen = self.seen();
            seen.acknowledged
                .last()
                .filter(|at| **at > since)
                .map(|_| ())
        })
        .await
    }

    /// The longest time without an acknowledged start from `since` on.
    #[must_use]
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let seen = self.seen();
        let mut times = vec![since];
        times.extend(seen.acknowledged.iter().copied().filter(|at| *at >= since));
        times.sort_unstable();
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// Ends the load and checks all of it: each acknowledged start is one execution, which succeeded
    /// with one effective completion for each step; the journal has no gap and is the same on all nodes
    /// that run. Gives the number of executions.
    ///
    /// # Errors
    /// When anything is lost or happened twice.
    pub async fn finish(self, cluster: &Cluster) -> Result<usize> {
        self.stop.store(true, Relaxed);
        for starter in self.starters {
            starter.await??;
        }
        let started = std::mem::take(&mut lock(&self.seen).started);
        for execution in started.values() {
            // A node may be on its way down while this asks: repeated until it is known.
            let state = within(
                END_TIMEOUT,
                &format!("the end of {execution}"),
                async || {
                    let ended = self.client.wait(execution, END_TIMEOUT).await.ok()?;
                    Some(ended.execution?.state())
                },
            )
            .await?;
            ensure!(
                state == ExecutionState::Succeeded,
                "{execution} is {state:?}"
            );
        }
        let chains = cluster.verified_journal().await?;
        let stories = journal::executions(&chains)?;
        let mut by_request: BTreeMap<&str, usize> = BTreeMap::new();
        for story in stories.values() {
            *by_request.entry(story.request_id.as_str()).or_default() += 1;
            ensure!(
                story.starts == 1 && story.ends == ["execution.succeeded"],
                "{story:?}"
            );
            ensure!(
                story.completions.len() == STEPS
                    && story.completions.values().all(|count| *count == 1),
                "a step has not exactly one effective completion: {story:?}"
            );
        }
        for request in started.keys() {
            ensure!(
                by_request.get(request.as_str()) == Some(&1),
                "{request} has not exactly one execution"
            );
        }
        let _ = self.stop_worker.send(());
        self.worker.await??;
        Ok(started.len())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
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
                Err(error) if may_be_repeated(&error) => lock(&seen).given_up.push(error),
                Err(error) => return Err(error.into()),
            }
        };
        let mut seen = lock(&seen);
        seen.acknowledged.push(Instant::now());
        if let Some(first) = seen.started.insert(request_id.clone(), execution.clone()) {
            ensure!(first == execution, "{request_id} started two executions");
        }
    }
    Ok(())
}

/// Whether the same call may succeed later.
#[must_use]
pub fn may_be_repeated(error: &ClientError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Unavailable
            | ErrorKind::Unknown
            | ErrorKind::Unreachable
            | ErrorKind::Overloaded { .. }
    )
}
