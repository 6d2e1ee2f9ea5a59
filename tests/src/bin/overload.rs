//! `make overload`: what one node does at five times the rate that it can take. A report, not a test: it has times
//! in it, and is worth something only on a machine with nothing else to do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use tidemill_sdk::{
    Client, Outcome, TaskContext, Worker,
    api::{GetFlowRequest, StartFlowRequest},
};
use tidemill_tests::{
    Cluster, http,
    overload::{Callers, MEMORY_MIB_MAX, Outcomes, cpu_seconds, memory_mib, quantile_ms},
};
use tokio::time::{Instant, sleep};

/// Callers of the closed loops that find the best rate.
const CALLERS: [usize; 3] = [64, 256, 1_024];
const VICTIM_PER_SECOND: f64 = 50.0;
/// Recovered: so many starts in a row are acknowledged as fast as before the load.
const GOOD_IN_A_ROW: usize = 20;
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const WORKER_CONCURRENCY: u32 = 256;
/// So many steps may wait: what workers do in a few seconds, so that the bound is reached and the backlog soon gone.
const FLOW_BACKLOG: &str = "20000";

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
    /// A gRPC call for each start, as clients without the SDK make it; else by streams, as the SDK does.
    #[arg(long)]
    calls: bool,
    /// Only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Starts of a flow with one built-in step.
    Starts,
    /// Executions with one worker step.
    Steps,
    /// A quiet flow beside one that floods.
    Beside,
}

impl Arguments {
    fn callers(&self, endpoint: &str, flow: &str, prefix: &str) -> Result<Callers> {
        let callers = Callers::new(endpoint, flow, prefix)?;
        Ok(if self.calls {
            callers
        } else {
            callers.streaming()
        })
    }
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
    // Its worker comes in a moment.
    let request = StartFlowRequest {
        flow: name.into(),
        without_workers: true,
        ..StartFlowRequest::default()
    };
    client.start_flow(request).await?;
    let request = GetFlowRequest { flow: name.into() };
    let flow = client.get_flow(request).await?.flow;
    Ok(flow.context("the flow")?.id)
}

async fn run(arguments: &Arguments, cores: Option<&str>) -> Result<()> {
    let mut builder = Cluster::builder(arguments.nodes)
        .partitions(1)
        .variable("TIDEMILL_LIMITS_FLOW_BACKLOG", FLOW_BACKLOG);
    if let Some(cores) = cores {
        builder = builder.on_cores(cores);
    }
    let cluster = builder.start().await?;
    let client = cluster.client().await?;
    let node = cluster.node(cluster.leader_of(1).await?);
    let under = Under {
        arguments,
        cluster: &cluster,
        client: &client,
        http: &node.http,
        endpoint: node.endpoint(),
        pid: node.pid().context("it runs")?,
        length: Duration::from_secs(arguments.seconds),
    };
    let is_asked = |part| arguments.only.is_none_or(|only| only == part);
    if is_asked(Part::Starts) {
        under.starts().await?;
    }
    if is_asked(Part::Steps) {
        under.steps().await?;
    }
    if is_asked(Part::Beside) {
        under.beside().await?;
    }
    Ok(())
}

/// The leader's node, and what it is put under.
struct Under<'a> {
    arguments: &'a Arguments,
    cluster: &'a Cluster,
    client: &'a Client,
    http: &'a str,
    endpoint: String,
    pid: u32,
    length: Duration,
}

impl Under<'_> {
    fn callers(&self, flow: &str, prefix: &str) -> Result<Callers> {
        self.arguments.callers(&self.endpoint, flow, prefix)
    }

    async fn starts(&self) -> Result<()> {
        println!("\n== starts of a flow with one built-in step");
        let plain = flow(self.client, "plain", "log").await?;
        let callers = self.callers(&plain, "p")?;
        let idle = callers.closed_loop(1, Duration::from_secs(2)).await;
        let best = Best::find(&callers, self.length).await;
        let flood = self.flood(&callers, best.rate).await?;
        let recovery = recovery(&callers, quantile_ms(&idle.ok_us, 990), flood.ended).await;
        let best = best.again(&callers, self.length).await;
        show("overload", &flood, best, "promised: 90 %");
        show_memory(self.pid)?;
        println!("as fast as before {recovery:.1?} after the last call was sent (promised: 5 s)");
        Ok(())
    }

    async fn steps(&self) -> Result<()> {
        println!("\n== executions with one worker step; at most {FLOW_BACKLOG} steps may wait");
        let worked = flow(self.client, "worked", "overload").await?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = Worker::builder(self.cluster.endpoints())
            .component("overload", async |task: TaskContext| {
                Ok(Outcome::message(task.message()))
            })
            .concurrency(WORKER_CONCURRENCY);
        let worker = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
        let waiting = self.callers(&worked, "w")?.waiting(Duration::from_secs(20));
        let best = Best::find(&waiting, self.length).await;
        let before = self.completed().await?;
        let callers = self.callers(&worked, "o")?;
        let flood = self.flood(&callers, best.rate).await?;
        let done = self.completed().await? - before;
        let ended = done / self.length.as_secs_f64();
        let begun = Instant::now();
        while begun.elapsed() < RECOVERY_MAX
            && self.completed().await? - before < flood.ok_us.len() as f64
        {
            sleep(Duration::from_millis(100)).await;
        }
        let end = flood.ended.unwrap_or(begun);
        let backlog_done = end.elapsed();
        let best = best.again(&waiting, self.length).await;
        show("overload", &flood, best, "promised: 90 %");
        println!(
            "completed meanwhile: {ended:.0}/s, {:.0} % of the best",
            100.0 * ended / best
        );
        println!("what was acknowledged was done {backlog_done:.1?} after the last call was sent");
        show_memory(self.pid)?;
        let _ = stop.send(());
        worker.await??;
        Ok(())
    }

    /// Steps that workers have completed.
    async fn completed(&self) -> Result<f64> {
        let metrics = http::metrics(self.http).await?;
        let completed = metrics.get("tidemill_task_completed_total");
        Ok(completed.copied().unwrap_or_default())
    }

    async fn beside(&self) -> Result<()> {
        println!("\n== a flow beside one that floods");
        let (quiet, loud) = (
            flow(self.client, "quiet", "log").await?,
            flow(self.client, "loud", "log").await?,
        );
        let callers = self.callers(&loud, "f")?;
        let best = Best::find(&callers, self.length).await;
        let alone = victim(&self.endpoint, &quiet, "a", self.length).await?;
        let (flood, beside) = tokio::join!(
            self.flood(&callers, best.rate),
            victim(&self.endpoint, &quiet, "b", self.length)
        );
        let (flood, beside) = (flood?, beside?);
        let best = best.again(&callers, self.length).await;
        show(
            "the flood",
            &flood,
            best,
            "batches are kept short beside a quiet flow",
        );
        for (what, run) in [("alone: ", &alone), ("beside:", &beside)] {
            println!(
                "{what} p50 {:.1} ms, p99 {:.1} ms; {} of {} acknowledged, {} shed",
                quantile_ms(&run.ok_us, 500),
                quantile_ms(&run.ok_us, 990),
                run.ok_us.len(),
                run.sent,
                run.shed_us.len()
            );
        }
        println!(
            "its p99 is {:.1} times that alone (promised: 2)",
            quantile_ms(&beside.ok_us, 990) / quantile_ms(&alone.ok_us, 990)
        );
        show_memory(self.pid)
    }

    /// So many times the best rate, with the CPU that it took.
    async fn flood(&self, callers: &Callers, best: f64) -> Result<Outcomes> {
        let used = Used::now(self.pid)?;
        let rate = best * self.arguments.times;
        let flood = callers.open_loop(rate, self.length).await;
        used.show(self.pid)?;
        Ok(flood)
    }
}

/// A quiet flow's caller, on a thread of its own: it is to see the server's queues, not those of the callers that flood.
async fn victim(
    endpoint: &str,
    flow: &str,
    prefix: &'static str,
    length: Duration,
) -> Result<Outcomes> {
    let (endpoint, flow) = (endpoint.to_owned(), flow.to_owned());
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let callers = Callers::new(&endpoint, &flow, prefix)?;
            Ok(callers.open_loop(VICTIM_PER_SECOND, length).await)
        })
    })
    .await?
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

fn show_memory(pid: u32) -> Result<()> {
    let (now, most) = memory_mib(pid)?;
    println!("memory: {now} MiB now, {most} MiB at most (bound: {MEMORY_MIB_MAX} MiB)");
    Ok(())
}

/// The best rate of closed loops. A store that was just filled has files to merge and one that is new has not,
/// so it is taken right before and right after the load that is held against it, each for as long.
struct Best {
    callers: usize,
    rate: f64,
}

impl Best {
    async fn find(callers: &Callers, length: Duration) -> Self {
        let mut best = (CALLERS[0], 0.0);
        for number in CALLERS {
            let rate = closed(callers, number, Duration::from_secs(3)).await;
            if rate > best.1 {
                best = (number, rate);
            }
        }
        Self {
            callers: best.0,
            rate: closed(callers, best.0, length).await,
        }
    }

    /// After the load: the mean of both.
    async fn again(self, callers: &Callers, length: Duration) -> f64 {
        let after = closed(callers, self.callers, length).await;
        (self.rate + after) / 2.0
    }
}

async fn closed(callers: &Callers, number: usize, length: Duration) -> f64 {
    let run = callers.closed_loop(number, length).await;
    println!(
        "{number:>5} callers: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms",
        run.goodput(),
        quantile_ms(&run.ok_us, 500),
        quantile_ms(&run.ok_us, 990)
    );
    run.goodput()
}

fn show(what: &str, run: &Outcomes, best: f64, remark: &str) {
    println!(
        "{what}: {} sent, {} due and not sent (too many answers missing)",
        run.sent, run.not_sent
    );
    println!(
        "  acknowledged {:.0}/s, {:.0} % of the best ({remark}); p50 {:.1} ms, p99 {:.1} ms",
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

/// How long after the last call of the load it is as fast as before.
async fn recovery(callers: &Callers, usual_ms: f64, ended: Option<Instant>) -> Duration {
    let begun = ended.unwrap_or_else(Instant::now);
    let mut good = 0;
    let mut first_good = begun;
    while good < GOOD_IN_A_ROW && begun.elapsed() < RECOVERY_MAX {
        if good == 0 {
            first_good = Instant::now();
        }
        let one = callers.closed_loop(1, Duration::ZERO).await;
        let is_good = one.ok_us.len() == 1 && quantile_ms(&one.ok_us, 0) <= usual_ms * 2.0;
        good = if is_good { good + 1 } else { 0 };
    }
    first_good - begun
}
