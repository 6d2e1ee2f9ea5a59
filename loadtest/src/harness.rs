//! One measured load: warm-up, window, the end of what is under way, and what it used meanwhile.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use hdrhistogram::Histogram;
use tidemill_sdk::{
    Client,
    api::{GetFlowRequest, GetStatusRequest, StartFlowRequest, StopFlowRequest},
};
use tidemill_types::FlowId;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use crate::{
    account::{self, Account, Expected, Marks},
    ledger::Ledger,
    meter::{Counts, Meter, Sample},
    operation::{Failure, Operation},
    options::{Connect, Options},
    servers::Servers,
    shape::{Load, Shape},
    usage::Usage,
    worker::{COMPONENT, WorkerProcess},
};

/// How long a request whose outcome is not known is repeated before the run gives up on it.
const REPEAT_PATIENCE: Duration = Duration::from_secs(60);
/// Between two such repeats of one request.
const REPEAT_PAUSE: Duration = Duration::from_millis(100);
/// Unknown requests that are repeated at a time.
const REPEATS_AT_ONCE: usize = 64;
/// Between two progress lines where nobody sees a line being overwritten.
const PLAIN_PROGRESS_INTERVAL: u32 = 10;
/// A shorter last sample is left out.
const LAST_SAMPLE_MIN: Duration = Duration::from_millis(200);
/// How finely the course of a load is recorded.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Servers with one flow that is to be started, and the account of it.
#[derive(Debug)]
pub struct Stage {
    /// What is measured.
    pub servers: Servers,
    /// The worker, where the flow has steps for one.
    pub worker: Option<WorkerProcess>,
    /// What clients were told.
    pub ledger: Arc<Ledger>,
    /// The flow's name.
    pub flow: String,
    /// The flow.
    pub flow_id: FlowId,
    /// Who prints what.
    pub progress: Progress,
    marks: Marks,
}

/// What a load gave and used.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How the requests were sent.
    pub shape: Shape,
    /// Length of the window.
    pub seconds: f64,
    /// In microseconds, of what was answered.
    pub latencies_us: Histogram<u64>,
    /// What did not get what it should, overflow included.
    pub errors: u64,
    /// Of these: what was due and not sent.
    pub overflow: u64,
    /// The first error.
    pub first_error: Option<String>,
    /// Totals when the window began and when it ended.
    pub used: (Usage, Usage),
    /// CPU seconds of the worker within it.
    pub worker_cpu_seconds: f64,
    /// Its course.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// Refuses a measurement in which nothing was answered: there is nothing to divide by.
    ///
    /// # Errors
    /// Names the first error.
    pub fn answered(self) -> Result<Self> {
        ensure!(
            !self.latencies_us.is_empty(),
            "nothing was answered within the measurement; {} errors, the first: {}",
            self.errors,
            self.first_error.as_deref().unwrap_or("none")
        );
        Ok(self)
    }

    /// What was answered within the window.
    pub fn executions(&self) -> u64 {
        self.latencies_us.len()
    }

    /// Answers per second.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn rate(&self) -> f64 {
        self.executions() as f64 / self.seconds
    }
}

/// A load that is being sent.
#[derive(Debug)]
pub struct Running<O> {
    /// What it counts.
    pub meter: Arc<Meter>,
    load: Arc<Load<O>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl<O: Operation> Running<O> {
    /// Sends nothing more, waits for what is under way, and asks again about what is not known.
    ///
    /// # Errors
    /// When a client panicked, or an outcome cannot be found out.
    pub async fn end(self, stage: &Stage) -> Result<Counts> {
        // Nobody listens only when the load has ended, which is looked at next.
        let _ = self.stop.send(true);
        self.task.await.context("the load panicked")??;
        stage.progress.end();
        stage.ask_again(&self.load.operation).await?;
        Ok(self.meter.read())
    }
}

/// A line on standard error about how it goes.
#[derive(Clone, Debug)]
pub struct Progress {
    name: String,
    quiet: bool,
}

impl Progress {
    /// For a run of this name.
    pub fn new(name: impl Into<String>, quiet: bool) -> Self {
        Self {
            name: name.into(),
            quiet,
        }
    }

    /// Says something that stays.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{}: {text}", self.name);
        }
    }

    /// Says how far it is; overwritten by the next such line on a terminal, and rare elsewhere.
    pub fn tick(&self, tick: u32, text: &str) {
        if self.quiet {
            return;
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{}: {text}", self.name);
            // A progress line that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        } else if tick.is_multiple_of(PLAIN_PROGRESS_INTERVAL) {
            eprintln!("{}: {text}", self.name);
        }
    }

    /// The overwritten line is over.
    pub fn end(&self) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

/// What a stage's flow is.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    /// The `graph` of the document, in YAML's flow style.
    pub graph: String,
    /// Whether a worker process serves it. Without, steps for workers wait for ever.
    pub served: bool,
}

impl FlowSpec {
    /// So many worker steps, one after the other.
    pub fn chain(steps: u32, served: bool) -> Self {
        let nodes: Vec<String> = (0..steps)
            .map(|n| format!("{{id: s{n}, componentId: {COMPONENT}, function: echo}}"))
            .collect();
        let edges: Vec<String> = (1..steps)
            .map(|n| format!("{{source: s{}, target: s{n}}}", n - 1))
            .collect();
        Self {
            graph: format!(
                "{{nodes: [{}], edges: [{}]}}",
                nodes.join(", "),
                edges.join(", ")
            ),
            served,
        }
    }
}

impl Stage {
    /// Starts servers, worker and flow.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn set(options: &Options, spec: &FlowSpec, progress: Progress) -> Result<Self> {
        let servers = Servers::begin(options).await?;
        let client = servers.client().await?;
        let marks = account::marks(&servers).await?;
        let worker = match spec.served {
            true => Some(WorkerProcess::start(&servers)?),
            false => None,
        };
        let flow = flow_name();
        client
            .apply(&format!("name: {flow}\ngraph: {}\n", spec.graph))
            .await?;
        client.publish(&flow).await?;
        client
            .start_flow(StartFlowRequest {
                flow: flow.clone(),
                without_workers: !spec.served,
                ..StartFlowRequest::default()
            })
            .await?;
        let request = GetFlowRequest { flow: flow.clone() };
        let found = client.get_flow(request).await?.flow;
        let flow_id = found.context("the flow that was made")?.id.parse()?;
        Ok(Self {
            servers,
            worker,
            ledger: Arc::new(Ledger::new(&flow)),
            flow,
            flow_id,
            progress,
            marks,
        })
    }

    /// The flow's partition.
    pub fn home(&self) -> u32 {
        u32::from(self.flow_id.partition().0)
    }

    /// The place of the leader of the flow's partition among the nodes.
    ///
    /// # Errors
    /// When there is none now.
    pub async fn leader(&self) -> Result<usize> {
        let status = self.client().await?.get_status(GetStatusRequest {}).await?;
        let group = status
            .partitions
            .iter()
            .find(|group| group.id == self.home());
        let leader = group.map_or(0, |group| group.leader);
        let nodes = self.servers.nodes();
        nodes
            .iter()
            .position(|node| node.id == leader)
            .context("the flow's partition has no leader now")
    }

    /// As many clients as the options say, so many of them to a connection.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn clients(&self, options: &Options) -> Result<Vec<Client>> {
        let leader = match options.connect {
            Connect::Leader => self.leader().await?,
            Connect::Spread | Connect::First => 0,
        };
        let shared = usize::try_from(options.clients_per_connection)?;
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..usize::try_from(options.clients)? {
            if let Some(last) = clients.last()
                && number % shared != 0
            {
                clients.push(last.clone());
                continue;
            }
            let node = match options.connect {
                Connect::Spread => number / shared,
                Connect::Leader => leader,
                Connect::First => 0,
            };
            clients.push(self.servers.client_number(node).await?);
        }
        Ok(clients)
    }

    /// Runs a load for as long as the options say.
    ///
    /// # Errors
    /// When servers do not answer, or a client panics.
    pub async fn measure<O: Operation>(
        &self,
        operation: O,
        shape: Shape,
        options: &Options,
    ) -> Result<Measured> {
        let (warm_up, duration) = (options.warm_up, options.duration);
        self.measure_until(operation, shape, warm_up, async move |_: &Meter| {
            sleep(duration).await;
            Ok(())
        })
        .await
    }

    /// Sends a load from now on, until it is ended.
    pub fn begin<O: Operation>(&self, operation: O, shape: Shape) -> Running<O> {
        let meter = Arc::new(Meter::default());
        let load = Arc::new(Load {
            operation,
            meter: Arc::clone(&meter),
            ledger: Arc::clone(&self.ledger),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&load).run(shape, stopped));
        Running {
            meter,
            load,
            stop,
            task,
        }
    }

    /// Runs a load; the window ends when `window_ends` returns.
    ///
    /// # Errors
    /// As [`Self::measure`], and what `window_ends` ends in.
    pub async fn measure_until<O: Operation>(
        &self,
        operation: O,
        shape: Shape,
        warm_up: Duration,
        window_ends: impl AsyncFnOnce(&Meter) -> Result<()>,
    ) -> Result<Measured> {
        let mut running = self.begin(operation, shape);
        let meter = Arc::clone(&running.meter);
        sleep(warm_up).await;
        let before = Usage::of(&self.servers).await?;
        let worker_before = self.worker_cpu_seconds()?;
        meter.open();
        let begun = Instant::now();
        let mut samples = Vec::new();
        let course = self.watch(&meter, begun, &mut samples);
        tokio::select! {
            ended = window_ends(&meter) => ended?,
            () = course => {}
            ended = &mut running.task => {
                ended.context("the load panicked")??;
                anyhow::bail!("the load ended before its time");
            }
        }
        meter.close();
        let seconds = begun.elapsed().as_secs_f64();
        // What is left of the last second, unless it is too short to say anything.
        let since = seconds - samples.last().map_or(0.0, |sample: &Sample| sample.at_s);
        if since >= LAST_SAMPLE_MIN.as_secs_f64() {
            samples.push(meter.sample(
                Duration::from_secs_f64(seconds),
                Duration::from_secs_f64(since),
            ));
        }
        let after = Usage::of(&self.servers).await?;
        let worker_cpu_seconds = self.worker_cpu_seconds()? - worker_before;
        let counts = running.end(self).await?;
        Ok(Measured {
            shape,
            seconds,
            latencies_us: counts.latencies_us,
            errors: counts.errors,
            overflow: counts.overflow,
            first_error: counts.first_error,
            used: (before, after),
            worker_cpu_seconds,
            samples,
        })
    }

    fn worker_cpu_seconds(&self) -> Result<f64> {
        self.worker
            .as_ref()
            .map_or(Ok(0.0), WorkerProcess::cpu_seconds)
    }

    /// Takes a sample each second and shows it; for ever.
    async fn watch(&self, meter: &Meter, begun: Instant, samples: &mut Vec<Sample>) {
        let mut ticks = interval_at(begun + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = begun;
        for tick in 1.. {
            ticks.tick().await;
            let sample = meter.sample(begun.elapsed(), last.elapsed());
            last = Instant::now();
            self.progress.tick(
                tick,
                &format!(
                    "{:.0} s, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} under way, {} errors",
                    sample.at_s,
                    sample.rate_per_s,
                    sample.p50_ms,
                    sample.p99_ms,
                    meter.in_flight(),
                    sample.errors
                ),
            );
            samples.push(sample);
        }
    }

    /// Asks what became of the requests whose outcome is not known, with their own request ids.
    async fn ask_again<O: Operation>(&self, operation: &O) -> Result<()> {
        let unknown = self.ledger.take_unknown();
        if unknown.is_empty() {
            return Ok(());
        }
        self.progress.say(&format!(
            "asking again about {} requests whose outcome is not known",
            unknown.len()
        ));
        for part in unknown.chunks(REPEATS_AT_ONCE) {
            let asked = part
                .iter()
                .enumerate()
                .map(|(slot, id)| ask(operation, slot, id));
            for execution in join_all(asked).await {
                self.ledger.acknowledge(execution?);
            }
        }
        Ok(())
    }

    /// The account of all that was started on this stage.
    ///
    /// # Errors
    /// When it does not add up.
    pub async fn settle(&self, expected: Expected) -> Result<Account> {
        let executions = self.ledger.executions();
        self.progress.say(&format!(
            "checking {} executions against the journals of all nodes",
            executions.len()
        ));
        account::settle(
            &self.servers,
            &self.marks,
            self.flow_id,
            &executions,
            expected,
        )
        .await
        .context("the account does not add up")
    }

    /// Leaves servers that are somebody else's as they were, but for the finished executions.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn leave(&self) -> Result<()> {
        if let Servers::Others { .. } = self.servers {
            self.client()
                .await?
                .stop_flow(StopFlowRequest {
                    flow: self.flow.clone(),
                    ..StopFlowRequest::default()
                })
                .await?;
        }
        Ok(())
    }

    /// A client of the servers.
    ///
    /// # Errors
    /// When none answers.
    pub async fn client(&self) -> Result<Client> {
        self.servers.client().await
    }
}

/// Unlike any other on the same servers.
fn flow_name() -> String {
    let id = tidemill_sdk::new_request_id();
    let tail: String = id
        .chars()
        .rev()
        .filter(char::is_ascii_alphanumeric)
        .take(10)
        .collect();
    format!("load-{}", tail.to_ascii_lowercase())
}

async fn ask<O: Operation>(
    operation: &O,
    slot: usize,
    request_id: &str,
) -> Result<tidemill_types::ExecutionId> {
    let deadline = Instant::now() + REPEAT_PATIENCE;
    loop {
        match operation.repeat(slot, request_id).await {
            Ok(execution) => return Ok(execution),
            Err(Failure::Refused(why) | Failure::Unknown(why)) => ensure!(
                Instant::now() < deadline,
                "what became of request {request_id} cannot be found out: {why}"
            ),
        }
        sleep(REPEAT_PAUSE).await;
    }
}
