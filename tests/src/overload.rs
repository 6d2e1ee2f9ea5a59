//! Starts executions at a rate that does not ask whether the server keeps up, and looks what becomes of them.
//!
//! Owns the callers; judges nothing. An open loop sends what is due when it is due, however many answers are missing,
//! so a server that gets slow gets no mercy; a closed loop finds out what is the best that it can do.

mod flood;
mod streams;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tidemill_checker::{
    Recorder,
    history::{Answer, Call, Outcome},
};
use tidemill_sdk::api::{
    Message, StartExecutionRequest, StartExecutionResponse,
    execution_service_client::ExecutionServiceClient,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use self::{flood::Flood, streams::Stream};

/// Connections, so that none of them is the bottleneck.
const CONNECTIONS: usize = 16;
/// Calls of an open loop whose answers are missing; more are not sent, and counted.
const OPEN_CALLS_MAX: usize = 30_000;
/// How long a caller waits for an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Starts in one message of a stream.
const PER_MESSAGE: usize = 256;
/// An open loop sends what is due this often.
const TICK: Duration = Duration::from_millis(2);

/// What a node's memory may be in these loads, in MiB, with one partition and the default configuration: the store's
/// caches and write buffers (64 and 64, and what RocksDB keeps of a write buffer while it is flushed: 64), a leader's
/// queue and the payloads that it keeps (64 and 64), 100,000 steps that wait (25), 20,000 executions in memory (60), calls
/// and their connections (100), the log's memory (128); and as much again for what an allocator holds and a debug
/// build needs beside.
pub const MEMORY_MIB_MAX: u64 = 1_024;

/// What became of calls.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Sent.
    pub sent: u64,
    /// Due, and not sent, since too many answers were missing.
    pub not_sent: u64,
    /// Acknowledged, with the microseconds that it took.
    pub ok_us: Vec<u32>,
    /// Acknowledged before the load's end.
    pub in_time: u64,
    /// Shed as overloaded with a hint when to retry.
    pub shed_us: Vec<u32>,
    /// Shed as overloaded without a hint.
    pub without_hint: u64,
    /// Other errors, by code.
    pub other: BTreeMap<String, u64>,
    /// How long it went on.
    pub elapsed: Duration,
    /// When the last call of an open loop was sent.
    pub ended: Option<Instant>,
}

impl Outcomes {
    /// Acknowledged in a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.in_time as f64 / self.elapsed.as_secs_f64()
    }

    fn take(&mut self, result: &Result<StartExecutionResponse, Status>, took: Duration) {
        let became = result
            .as_ref()
            .map_or_else(Became::of, |_| Became::Acknowledged);
        self.count(&became, u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    fn count(&mut self, became: &Became, took_us: u32) {
        match became {
            Became::Acknowledged => self.ok_us.push(took_us),
            Became::Shed => self.shed_us.push(took_us),
            Became::ShedWithoutHint => self.without_hint += 1,
            Became::Other(code) => *self.other.entry(code.clone()).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.not_sent += other.not_sent;
        self.in_time += other.in_time;
        self.ok_us.extend(other.ok_us);
        self.shed_us.extend(other.shed_us);
        self.without_hint += other.without_hint;
        for (code, count) in other.other {
            *self.other.entry(code).or_default() += count;
        }
    }
}

/// What became of a call.
enum Became {
    Acknowledged,
    /// With a hint when to retry.
    Shed,
    ShedWithoutHint,
    Other(String),
}

impl Became {
    fn of(status: &Status) -> Self {
        if status.code() != Code::ResourceExhausted {
            return Self::Other(format!("{:?}", status.code()));
        }
        let hint = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        match hint.is_some_and(|delay| !delay.is_zero()) {
            true => Self::Shed,
            false => Self::ShedWithoutHint,
        }
    }
}

/// The value below which so many of a thousand are, in milliseconds; 0 when there are none.
#[must_use]
pub fn quantile_ms(values: &[u32], per_mille: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |us| f64::from(*us) / 1_000.0)
}

/// Callers of one flow.
#[derive(Clone, Debug)]
pub struct Callers {
    clients: Vec<ExecutionServiceClient<Channel>>,
    /// Of each client, when starts go by streams.
    streams: Arc<Vec<Stream>>,
    flow: String,
    prefix: String,
    next: Arc<AtomicU64>,
    wait: Duration,
    recorder: Option<Arc<Recorder>>,
}

impl Callers {
    /// Of a flow, by its id; `prefix` begins their request ids.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn new(endpoint: &str, flow: &str, prefix: &str) -> Result<Self> {
        let connect = |_| {
            let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
            anyhow::Ok(ExecutionServiceClient::new(endpoint.connect_lazy()))
        };
        Ok(Self {
            clients: (0..CONNECTIONS).map(connect).collect::<Result<_>>()?,
            streams: Arc::default(),
            flow: flow.to_owned(),
            prefix: prefix.to_owned(),
            next: Arc::default(),
            wait: Duration::ZERO,
            recorder: None,
        })
    }

    /// They send their starts by streams, one for each connection, as the SDK does; a call for each start otherwise.
    /// Called within a runtime, on which the streams live.
    #[must_use]
    pub fn streaming(mut self) -> Self {
        self.streams = Arc::new(self.clients.iter().cloned().map(Stream::open).collect());
        self
    }

    /// They wait for the execution's end.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// They write down what they see.
    #[must_use]
    pub fn recording(mut self, recorder: Arc<Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// One start.
    async fn start(&self) -> (Result<StartExecutionResponse, Status>, Duration) {
        let number = self.next.fetch_add(1, Relaxed);
        let request_id = format!("{}-{number}", self.prefix);
        let request = request(&self.flow, request_id.clone(), self.wait.as_millis() as u32);
        let recorded = self.recorder.as_ref().map(|recorder| {
            let flow = self.flow.clone();
            (
                recorder,
                recorder.call(&self.prefix, Call::Start { flow, request_id }),
            )
        });
        let at = number as usize % self.clients.len();
        let begun = Instant::now();
        let call = async {
            match self.streams.get(at) {
                Some(stream) => stream.start(request).await,
                None => {
                    let answer = self.clients[at].clone().start_execution(request).await;
                    answer.map(tonic::Response::into_inner)
                }
            }
        };
        let result = timeout(CALL_TIMEOUT, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let took = begun.elapsed();
        if let Some((recorder, id)) = recorded {
            recorder.answer(id, outcome(&result));
        }
        (result, took)
    }

    /// So many callers, each with one start after the other, and at least one.
    ///
    /// # Panics
    /// When a caller does.
    pub async fn closed_loop(&self, callers: usize, length: Duration) -> Outcomes {
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let callers = self.clone();
            tasks.spawn(async move {
                let mut outcomes = Outcomes::default();
                loop {
                    outcomes.sent += 1;
                    let (result, took) = callers.start().await;
                    outcomes.take(&result, took);
                    if begun.elapsed() >= length {
                        return outcomes;
                    }
                }
            });
        }
        let mut all = Outcomes::default();
        while let Some(one) = tasks.join_next().await {
            all.add(one.expect("a caller does not panic"));
        }
        all.in_time = all.ok_us.len() as u64;
        all.elapsed = begun.elapsed();
        all
    }

    /// So many starts in a second, whether they are answered or not. What is answered after the end counts for
    /// what became of it, but not in the time.
    ///
    /// # Panics
    /// When a caller does.
    pub async fn open_loop(&self, per_second: f64, length: Duration) -> Outcomes {
        if !self.streams.is_empty() {
            let flood = Flood {
                flow: self.flow.clone(),
                prefix: format!("{}-open", self.prefix),
                wait_ms: self.wait.as_millis() as u32,
                per_second,
                length,
                open: AtomicUsize::new(0),
            };
            return flood.run(self.clients.clone()).await;
        }
        let begun = Instant::now();
        let outcomes = Arc::new(Mutex::new(Outcomes::default()));
        let open = Arc::new(Semaphore::new(OPEN_CALLS_MAX));
        let mut tasks = JoinSet::new();
        let mut due = 0_u64;
        while begun.elapsed() < length {
            let until_now = (begun.elapsed().as_secs_f64() * per_second) as u64;
            while due < until_now {
                due += 1;
                let Ok(place) = Arc::clone(&open).try_acquire_owned() else {
                    lock(&outcomes).not_sent += 1;
                    continue;
                };
                lock(&outcomes).sent += 1;
                let (callers, outcomes) = (self.clone(), Arc::clone(&outcomes));
                tasks.spawn(async move {
                    let (result, took) = callers.start().await;
                    lock(&outcomes).take(&result, took);
                    drop(place);
                });
            }
            while tasks.try_join_next().is_some() {}
            sleep_until(Instant::now() + TICK).await;
        }
        let elapsed = begun.elapsed();
        let ended = Instant::now();
        let in_time = lock(&outcomes).ok_us.len();
        while tasks.join_next().await.is_some() {}
        let mut all = lock(&outcomes).clone();
        all.ended = Some(ended);
        // The rate is that within the time; the answers after it are kept for their latencies.
        all.in_time = in_time as u64;
        all.elapsed = elapsed;
        all
    }
}

fn request(flow: &str, request_id: String, wait_ms: u32) -> StartExecutionRequest {
    StartExecutionRequest {
        flow: flow.to_owned(),
        message: Some(Message {
            data: "{}".into(),
            ..Message::default()
        }),
        request_id,
        wait_ms,
        ..StartExecutionRequest::default()
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer tells of the effect.
fn outcome(result: &Result<StartExecutionResponse, Status>) -> Outcome {
    match result {
        Ok(started) => Outcome::Ok {
            answer: Answer::Started {
                execution: started.execution_id.clone(),
                created: Some(started.created),
            },
        },
        Err(status) => match status.code() {
            Code::ResourceExhausted | Code::InvalidArgument | Code::FailedPrecondition => {
                Outcome::Refused {
                    code: format!("{:?}", status.code()),
                }
            }
            _ => Outcome::Unknown,
        },
    }
}

/// Memory of a process in MiB: what it has now, and the most that it had.
///
/// # Errors
/// When it does not run.
pub fn memory_mib(pid: u32) -> Result<(u64, u64)> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let read = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let now = read("VmRSS:").context("the memory of a process")?;
    let most = read("VmHWM:").context("the memory of a process")?;
    Ok((now >> 10, most >> 10))
}

/// Seconds of CPU that a process has used.
///
/// # Errors
/// When it does not run.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    /// The kernel's USER_HZ, the same on every Linux that Rust runs on.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // The name may have blanks in it; after it, user and system time are the 12th and 13th.
    let (_, rest) = text.rsplit_once(')').context("a line of /proc/PID/stat")?;
    let fields = rest.split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}
