//! `make overload`: what one node does at five times the rate that it can take. A report, not a test: it has times
//! in it, and is worth something only on a machine with nothing else to do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tidemill_sdk::{Client, Outcome, TaskContext, Worker, api::GetFlowRequest};
use tidemill_tests::{
    Cluster, http,
    overload::{Callers, Outcomes, cpu_seconds, memory_mib, quantile_ms},
};
use tokio::time::{Instant, sleep};

/// Callers of the closed loops that find the best rate.
const CALLERS: [usize; 3] = [64, 256, 1_024];
const VICTIM_PER_SECOND: f64 = 50.0;
/// Recovered: so many starts in a row are acknowledged as fast as before the load.
const GOOD_IN_A_ROW: usize = 20;
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const WORKER_CONCURRENCY: u32 = 256;

/// One node at several times the rate that it can take.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the overload goes on, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many times the best rate.
    #[arg(long, default_value_t = 5.0)]
    times: f64,
    /// Nodes.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The server gets the first core and the callers the others, so that callers take nothing from it.
    let cores = std::thread::available_parallelism()?.get();
    let servers = (cores > 1).then(|| "0".to_owned());
    if cores > 1 {
        let mut set = rustix::thread::CpuSet::new();
        (1..cores).for_each(|core| set.set(core));
        rustix::thread::sched_setaffinity(None, &set)?;
        println!("the servers have core 0 of {cores}, the callers the others");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()?;
    runtime.block_on(run(&arguments, servers.as_deref()))
}

async fn flow(client: &Client, name: &str, component: &str) -> Result<String> {
    let document = format!(
        "name: {name}\ngraph: {{nodes: [{{id: a, componentId: {component}, function: write}}], edges: []}}"
    );
    client.apply(&document).await?;
    client.publish(name).await?;
    client.start_flow_by_name(name).await?;
    let request = GetFlowRequest { flow: name.into() };
    let flow = client.get_flow(request).await?.flow;
    Ok(flow.context("the flow")?.id)
}

async fn run(arguments: &Arguments, cores: Option<&str>) -> Result<()> {
    let mut builder = Cluster::builder(arguments.nodes).partitions(1);
    if let Some(cores) = cores {
        builder = builder.on_cores(cores);
    }
    let cluster = builder.start().await?;
    let client = cluster.client().await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = Worker::builder(cluster.endpoints())
        .component("overload", async |task: TaskContext| {
            Ok(Outcome::message(task.message()))
        })
        .concurrency(WORKER_CONCURRENCY);
    let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
    let plain = flow(&client, "plain", "log").await?;
    let other = flow(&client, "other", "log").await?;
    let worked = flow(&client, "worked", "overload").await?;
    let node = cluster.node(cluster.leader_of(1).await?);
    let (endpoint, pid) = (node.endpoint(), node.pid().context("it runs")?);
    let length = Duration::from_secs(arguments.seconds);

    println!("\n== starts of a flow with one built-in step");
    let callers = Callers::new(&endpoint, &plain, "p")?;
    let idle = callers.closed_loop(1, Duration::from_secs(2)).await;
    let best = best(&callers).await;
    let used = Used::now(pid)?;
    let flood = callers.open_loop(best * arguments.times, length).await;
    used.show(pid)?;
    let recovery = recovery(&callers, quantile_ms(&idle.ok_us, 990)).await;
    show("overload", &flood, best);
    let (now, most) = memory_mib(pid)?;
    println!("memory: {now} MiB now, {most} MiB at most");
    println!("recovered after {recovery:.1?}");

    println!("\n== executions with one worker step");
    let waiting = Callers::new(&endpoint, &worked, "w")?.waiting(Duration::from_secs(20));
    let best_worked = self::best(&waiting).await;
    let callers = Callers::new(&endpoint, &worked, "o")?;
    let completed = || async {
        let metrics = http::metrics(&node.http).await?;
        Ok::<f64, anyhow::Error>(
            metrics
                .get("tidemill_task_completed_total")
                .copied()
                .unwrap_or_default(),
        )
    };
    let before = completed().await?;
    let used = Used::now(pid)?;
    let flood = callers
        .open_loop(best_worked * arguments.times, length)
        .await;
    used.show(pid)?;
    let done = completed().await? - before;
    let ended = done / length.as_secs_f64();
    show("overload", &flood, best_worked);
    println!(
        "completed meanwhile: {ended:.0}/s, {:.0} % of the best",
        100.0 * ended / best_worked
    );
    let begun = Instant::now();
    while begun.elapsed() < RECOVERY_MAX && completed().await? - before < flood.ok_us.len() as f64 {
        sleep(Duration::from_millis(100)).await;
    }
    println!(
        "what was acknowledged was done {:.1?} after the load",
        begun.elapsed()
    );
    let (now, most) = memory_mib(pid)?;
    println!("memory: {now} MiB now, {most} MiB at most");

    println!("\n== a flow beside one that floods");
    let victim = Callers::new(&endpoint, &other, "v")?;
    let alone = victim.open_loop(VICTIM_PER_SECOND, length).await;
    let flooding = Callers::new(&endpoint, &plain, "f")?;
    let rate = best * arguments.times;
    let flooding = tokio::spawn(async move { flooding.open_loop(rate, length).await });
    let beside = victim.open_loop(VICTIM_PER_SECOND, length).await;
    flooding.await?;
    let (a, b) = (
        quantile_ms(&alone.ok_us, 990),
        quantile_ms(&beside.ok_us, 990),
    );
    println!(
        "alone:  p99 {a:.1} ms, {} of {} acknowledged",
        alone.ok_us.len(),
        alone.sent
    );
    println!(
        "beside: p99 {b:.1} ms ({:.1} times), {} of {} acknowledged",
        b / a,
        beside.ok_us.len(),
        beside.sent
    );
    let _ = stop.send(());
    worker.await??;
    Ok(())
}

/// CPU that was used up to a moment: who is at his limit, the servers or the callers?
struct Used {
    at: Instant,
    server: f64,
    callers: f64,
}

impl Used {
    fn now(server: u32) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: cpu_seconds(server)?,
            callers: cpu_seconds(std::process::id())?,
        })
    }

    /// What was used since.
    fn show(&self, server: u32) -> Result<()> {
        let now = Self::now(server)?;
        let seconds = self.at.elapsed().as_secs_f64();
        println!(
            "cores used meanwhile: server {:.2}, callers and worker {:.2}; figures mean little where the \
             callers use all that they have",
            (now.server - self.server) / seconds,
            (now.callers - self.callers) / seconds
        );
        Ok(())
    }
}

/// The best rate of closed loops.
async fn best(callers: &Callers) -> f64 {
    let mut best: f64 = 0.0;
    for number in CALLERS {
        let run = callers.closed_loop(number, Duration::from_secs(3)).await;
        println!(
            "{number:>5} callers: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms",
            run.goodput(),
            quantile_ms(&run.ok_us, 500),
            quantile_ms(&run.ok_us, 990)
        );
        best = best.max(run.goodput());
    }
    best
}

fn show(what: &str, run: &Outcomes, best: f64) {
    println!(
        "{what}: {} sent, {} due and not sent (too many answers missing)",
        run.sent, run.not_sent
    );
    println!(
        "  acknowledged {:.0}/s, {:.0} % of the best; p50 {:.1} ms, p99 {:.1} ms",
        run.goodput(),
        100.0 * run.goodput() / best,
        quantile_ms(&run.ok_us, 500),
        quantile_ms(&run.ok_us, 990)
    );
    println!(
        "  shed with a hint {}; p50 {:.1} ms, p99 {:.1} ms; shed without a hint {}; other errors {:?}",
        run.shed_us.len(),
        quantile_ms(&run.shed_us, 500),
        quantile_ms(&run.shed_us, 990),
        run.without_hint,
        run.other
    );
}

/// How long after the load it is as fast as before.
async fn recovery(callers: &Callers, usual_ms: f64) -> Duration {
    let begun = Instant::now();
    let mut good = 0;
    while good < GOOD_IN_A_ROW && begun.elapsed() < RECOVERY_MAX {
        let one = callers.closed_loop(1, Duration::ZERO).await;
        let is_good = one.ok_us.len() == 1 && quantile_ms(&one.ok_us, 0) <= usual_ms * 2.0;
        good = if is_good { good + 1 } else { 0 };
    }
    begun.elapsed()
}
