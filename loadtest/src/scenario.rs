//! The scenarios in a closed loop: N clients, each with one execution at a time.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tidemill_sdk::{
    Client, Outcome, TaskContext, Worker,
    api::{ExecutionState, Message, StartExecutionRequest},
};
use tidemill_tests::Cluster;

use crate::{Run, measure::Usage, schedules, waiting, webhook};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One worker step, from request to final answer.
    Steps1,
    /// Three worker steps in a chain, from request to final answer.
    Steps3,
    /// A start that nobody serves: the durable accept alone.
    Start,
    /// Executions that wait for an hour: memory, disk and restart time.
    Waiting,
    /// Webhook requests, from request to 200, over all nodes.
    Webhook,
    /// Schedules that are armed, and a burst of them that fires: rate, memory, idle CPU, lateness.
    Schedules,
}

/// How long an execution may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before measuring.
pub const WARM_UP: Duration = Duration::from_secs(1);
/// Most tasks that the worker process holds at once.
const WORKER_CONCURRENCY: usize = 1_024;

impl Scenario {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps1 => "steps1",
            Self::Steps3 => "steps3",
            Self::Start => "start",
            Self::Waiting => "waiting",
            Self::Webhook => "webhook",
            Self::Schedules => "schedules",
        }
    }

    /// For `list`.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Steps1 => "one worker step, from request to final answer",
            Self::Steps3 => "three worker steps in a chain, from request to final answer",
            Self::Start => "the durable accept alone: nobody serves the step",
            Self::Webhook => "webhook requests until they are stored, over all nodes",
            Self::Schedules => {
                "armed schedules, and a burst of them: rate, memory, idle CPU, lateness"
            }
            Self::Waiting => "executions that wait for an hour: memory, disk, restart time",
        }
    }

    const fn steps(self) -> u32 {
        match self {
            Self::Steps3 => 3,
            _ => 1,
        }
    }

    fn document(self) -> String {
        let nodes: Vec<String> = (0..self.steps())
            .map(|n| format!("{{id: s{n}, componentId: load, function: echo}}"))
            .collect();
        let edges: Vec<String> = (1..self.steps())
            .map(|n| format!("{{source: s{}, target: s{n}}}", n - 1))
            .collect();
        format!(
            "name: load\ngraph: {{nodes: [{}], edges: [{}]}}",
            nodes.join(", "),
            edges.join(", ")
        )
    }

    /// Runs it on a fresh cluster.
    ///
    /// # Errors
    /// When anything fails, or an execution is not accounted for.
    pub async fn run(self, run: &Run) -> Result<Value> {
        if self == Self::Waiting {
            return waiting::run(run).await;
        }
        if self == Self::Webhook {
            return webhook::run(run).await;
        }
        if self == Self::Schedules {
            return schedules::run(run).await;
        }
        let mut builder = Cluster::builder(run.nodes);
        if let Some(binary) = &run.binary {
            builder = builder.binary(binary);
        }
        let cluster = builder.start().await?;
        let client = cluster.client().await?;
        let mut worker = None;
        if self != Self::Start {
            worker = Some(
                tokio::process::Command::new(std::env::current_exe()?)
                    .args(["worker", "--concurrency", &WORKER_CONCURRENCY.to_string()])
                    .args(["--endpoints", &cluster.endpoints().join(",")])
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
                    .context("cannot start the worker process")?,
            );
        }
        client.apply(&self.document()).await?;
        client.publish("load").await?;
        client
            .start_flow(tidemill_sdk::api::StartFlowRequest {
                flow: "load".into(),
                without_workers: self == Self::Start,
                ..Default::default()
            })
            .await?;
        eprintln!(
            "{} on {} node(s) with {} client(s)",
            self.name(),
            run.nodes,
            run.clients
        );
        let (stop, measuring) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut loops = Vec::new();
        for _ in 0..run.clients {
            let client = cluster.client().await?;
            loops.push(tokio::spawn(self.closed_loop(
                client,
                stop.clone(),
                measuring.clone(),
            )));
        }
        tokio::time::sleep(WARM_UP).await;
        let before = Usage::of(&cluster).await?;
        measuring.store(true, Relaxed);
        let begun = Instant::now();
        tokio::time::sleep(run.duration).await;
        measuring.store(false, Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let after = Usage::of(&cluster).await?;
        stop.store(true, Relaxed);
        let mut latencies = Histogram::<u64>::new(3)?;
        for one in loops {
            latencies.add(one.await??)?;
        }
        if let Some(mut worker) = worker {
            worker.kill().await?;
        }
        cluster.verified_journal().await?;
        let executions = latencies.len();
        ensure!(executions > 0, "no execution ended within the measurement");
        let per = |total: f64| (total / executions as f64 * 10.0).round() / 10.0;
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let cpu_us = (after.cpu_seconds - before.cpu_seconds) * 1e6;
        Ok(json!({
            "scenario": self.name(),
            "nodes": run.nodes,
            "clients": run.clients,
            "executions": executions,
            "errors": 0,
            "rate_per_s": (executions as f64 / seconds).round(),
            "p50_ms": ms(latencies.value_at_quantile(0.5)),
            "p90_ms": ms(latencies.value_at_quantile(0.9)),
            "p99_ms": ms(latencies.value_at_quantile(0.99)),
            "p999_ms": ms(latencies.value_at_quantile(0.999)),
            "max_ms": ms(latencies.max()),
            "server_cpu_us_per_execution": per(cpu_us),
            "server_cpu_us_per_step": per(cpu_us / f64::from(self.steps())),
            "commits_per_s": ((after.commits - before.commits) / seconds).round(),
            "syncs_per_s": ((after.syncs - before.syncs) / seconds).round(),
            "bytes_written_per_execution": per(after.written_bytes - before.written_bytes).round(),
            "rss_bytes": after.rss_bytes,
        }))
    }

    /// One client. Gives the latencies, in microseconds, of what ended while it was measured.
    async fn closed_loop(
        self,
        client: Client,
        stop: Arc<AtomicBool>,
        measuring: Arc<AtomicBool>,
    ) -> Result<Histogram<u64>> {
        let mut latencies = Histogram::new(3)?;
        while !stop.load(Relaxed) {
            let begun = Instant::now();
            let message = Message {
                data: r#"{"n":1}"#.into(),
                ..Message::default()
            };
            let request = StartExecutionRequest {
                flow: "load".into(),
                message: Some(message),
                ..StartExecutionRequest::default()
            };
            if self == Self::Start {
                client.start_execution(request).await?;
            } else {
                let ran = client.run(request, PATIENCE).await?;
                let state = ran.execution.unwrap_or_default().state();
                ensure!(
                    state == ExecutionState::Succeeded,
                    "{} is {state:?}",
                    ran.execution_id
                );
            }
            if measuring.load(Relaxed) {
                latencies.record(begun.elapsed().as_micros() as u64)?;
            }
        }
        Ok(latencies)
    }
}

/// The worker process: gives back what it gets, until it is killed.
///
/// # Errors
/// When the endpoints are wrong.
pub async fn worker(endpoints: Vec<String>, concurrency: u32) -> Result<()> {
    let worker = Worker::builder(&endpoints)
        .name("load")
        .function("load", "echo", async |task: TaskContext| {
            Ok(Outcome::message(task.message()))
        })
        .concurrency(concurrency);
    worker.run_until(std::future::pending::<()>()).await?;
    Ok(())
}
