//! Restate: durable invocations of a handler, by its HTTP ingress.

pub mod service;

use std::{fmt::Write as _, path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;
use serde_json::{Map, Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use self::service::unix_ms;
use crate::{
    closed_loop::{self, Client},
    http::Connection,
    process::{READY_POLL, READY_TIMEOUT, Server, Usage, free_port},
};

/// What is said beside the figures.
pub const DURABILITY: &str = "defaults: the log's RocksDB WAL is fsynced before an answer \
    (rocksdb-disable-wal-fsync = false), 24 partitions; on three nodes each record is on two of them \
    (default-replication = 2)";
/// How long after its sending a delayed invocation of the `start` shape is due: never within a run.
const NEVER_DELAY: &str = "3600s";
/// How long the last timer may be late before the run fails.
const TIMERS_PATIENCE: Duration = Duration::from_secs(120);
/// How far ahead of its time a timer is sent at the latest: below this a send could itself be late.
const TIMERS_MARGIN_MS: u64 = 1_000;
/// A timer's number and its due time share one integer; see [`service`].
const TIMERS_MAX: u64 = 1_000_000;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A handler that gives back its input; request and answer.
    Steps1,
    /// A handler with three durable steps; request and answer.
    Steps3,
    /// A send with a delay of an hour: the durable accept alone.
    Start,
}

/// Nodes, and the service that they call.
struct Cluster {
    ingress: Vec<String>,
    servers: Vec<Server>,
    report: String,
    // After the servers: they are gone when it goes.
    _service: Server,
    _folder: tempfile::TempDir,
}

impl Cluster {
    async fn start(binary: &Path, nodes: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("peers-restate").tempdir()?;
        let (handlers, report) = (
            format!("127.0.0.1:{}", free_port()?),
            format!("127.0.0.1:{}", free_port()?),
        );
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["restate-service", &handlers, &report]);
        let service = Server::start("restate-service", command, folder.path())?;
        let mut ports = Vec::new();
        for _ in 0..nodes {
            ports.push((free_port()?, free_port()?, free_port()?));
        }
        let addresses: Vec<String> = ports
            .iter()
            .map(|(fabric, _, _)| format!("\"http://127.0.0.1:{fabric}/\""))
            .collect();
        let mut servers = Vec::new();
        for (n, (fabric, admin, ingress)) in ports.iter().enumerate() {
            let mut config = format!(
                "cluster-name = \"peers\"\nnode-name = \"n{n}\"\nlisten-mode = \"tcp\"\n\
                 disable-telemetry = true\nauto-provision = {}\ndefault-replication = {}\n\
                 bind-address = \"127.0.0.1:{fabric}\"\n\
                 advertised-address = \"http://127.0.0.1:{fabric}/\"\n",
                n == 0,
                if nodes > 1 { 2 } else { 1 },
            );
            write!(
                config,
                "[metadata-client]\naddresses = [{}]\n\
                 [admin]\nbind-address = \"127.0.0.1:{admin}\"\n\
                 [ingress]\nbind-address = \"127.0.0.1:{ingress}\"\n",
                addresses.join(", ")
            )?;
            let file = folder.path().join(format!("n{n}.toml"));
            std::fs::write(&file, config)?;
            let mut command = Command::new(binary);
            command
                .arg("--no-logo")
                .arg("--config-file")
                .arg(&file)
                .arg("--base-dir")
                .arg(folder.path().join(format!("n{n}")));
            // What is set in the tester's shell must not change the server.
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("RESTATE_") {
                    command.env_remove(name);
                }
            }
            servers.push(Server::start(
                &format!("restate-{n}"),
                command,
                folder.path(),
            )?);
        }
        let admin = format!("127.0.0.1:{}", ports[0].1);
        let register = json!({"uri": format!("http://{handlers}")}).to_string();
        until_ok(&mut servers, &admin, "/deployments", &register, &[200, 201])
            .await
            .context("the service cannot be registered")?;
        let ingress: Vec<String> = ports
            .iter()
            .map(|(_, _, ingress)| format!("127.0.0.1:{ingress}"))
            .collect();
        for one in &ingress {
            // Partitions get their leaders one by one: the first answers may take a while.
            for _ in 0..32 {
                until_ok(&mut servers, one, "/load/steps1", "1", &[200])
                    .await
                    .context("the service cannot be called")?;
            }
        }
        Ok(Self {
            ingress,
            servers,
            report,
            _service: service,
            _folder: folder,
        })
    }

    /// What the timer handler saw.
    async fn seen(&self) -> Result<Value> {
        let mut text = String::new();
        TcpStream::connect(&self.report)
            .await?
            .read_to_string(&mut text)
            .await?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Repeats a request until it is answered as it should be.
async fn until_ok(
    servers: &mut [Server],
    address: &str,
    path: &str,
    body: &str,
    accepted: &[u16],
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
    loop {
        let answer = tokio::time::timeout(READY_TIMEOUT, async {
            let mut connection = Connection::open(address).await?;
            connection.send(Method::POST, path, body.to_owned()).await
        })
        .await?;
        if answer
            .as_ref()
            .is_ok_and(|(status, _)| accepted.contains(status))
        {
            return Ok(());
        }
        for server in &mut *servers {
            server.still_runs()?;
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("{address}{path} answers {answer:?} after {READY_TIMEOUT:?}");
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

/// A closed loop of `clients`, so many of them to a connection, spread over the nodes, on a fresh cluster.
///
/// # Errors
/// When anything fails, or an answer is not the right one.
pub async fn closed(
    binary: &Path,
    shape: Shape,
    nodes: usize,
    clients: usize,
    per_connection: usize,
    duration: Duration,
) -> Result<Map<String, Value>> {
    let cluster = Cluster::start(binary, nodes).await?;
    let mut callers = Vec::new();
    for n in 0..clients.div_ceil(per_connection) {
        let address = &cluster.ingress[n % cluster.ingress.len()];
        let connections = if per_connection == 1 {
            vec![Connection::open(address).await?]
        } else {
            let left = clients - n * per_connection;
            Connection::open_shared(address, left.min(per_connection)).await?
        };
        let caller = |connection| Caller { connection, shape };
        callers.extend(connections.into_iter().map(caller));
    }
    let steps = if shape == Shape::Steps3 { 3 } else { 1 };
    let measured = closed_loop::run(callers, duration, &cluster.servers, steps).await?;
    Ok(measured.result)
}

struct Caller {
    connection: Connection,
    shape: Shape,
}

impl Client for Caller {
    async fn call(&mut self, number: u64) -> Result<()> {
        let path = match self.shape {
            Shape::Steps1 => "/load/steps1".to_owned(),
            Shape::Steps3 => "/load/steps3".to_owned(),
            Shape::Start => format!("/load/steps1/send?delay={NEVER_DELAY}"),
        };
        let (status, body) = self
            .connection
            .send(Method::POST, &path, number.to_string())
            .await?;
        let text = String::from_utf8_lossy(&body);
        match self.shape {
            Shape::Start => ensure!(
                status == 202 && text.contains("Accepted"),
                "{path}: {status} {text}"
            ),
            _ => ensure!(
                status == 200 && text == number.to_string(),
                "{path}: {status} {text} instead of {number}"
            ),
        }
        Ok(())
    }
}

/// Delayed sends that all fall due within `within`, sent before that by `clients`.
///
/// # Errors
/// When the sends take longer than `lead`, or a timer does not fire.
pub async fn timers(
    binary: &Path,
    clients: usize,
    count: u64,
    within: Duration,
    lead: Duration,
) -> Result<Map<String, Value>> {
    ensure!(
        (1..TIMERS_MAX).contains(&count),
        "--timers must be between 1 and {}",
        TIMERS_MAX - 1
    );
    let cluster = Cluster::start(binary, 1).await?;
    let before_sends = Usage::of(&cluster.servers)?;
    let begun = unix_ms();
    let first_due = begun + u64::try_from(lead.as_millis())?;
    let span = u64::try_from(within.as_millis())?;
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut senders = Vec::new();
    for _ in 0..clients {
        let (next, address) = (next.clone(), cluster.ingress[0].clone());
        senders.push(tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                let due = first_due + number * span / count;
                let delay = due
                    .checked_sub(unix_ms())
                    .filter(|delay| *delay >= TIMERS_MARGIN_MS);
                let delay = delay
                    .context("the sends take longer than --timer-lead: give them more time")?;
                let (status, body) = connection
                    .send(
                        Method::POST,
                        &format!("/load/timer/send?delay={delay}ms"),
                        (due * TIMERS_MAX + number).to_string(),
                    )
                    .await?;
                ensure!(
                    status == 202,
                    "a delayed send: {status} {}",
                    String::from_utf8_lossy(&body)
                );
            }
        }));
    }
    for sender in senders {
        sender.await??;
    }
    let sent_ms = unix_ms() - begun;
    let sent = Usage::of(&cluster.servers)?;
    let end = first_due + span;
    let deadline = end + u64::try_from(TIMERS_PATIENCE.as_millis())?;
    let seen = loop {
        let seen = cluster.seen().await?;
        if seen["distinct"].as_u64() == Some(count) {
            break seen;
        }
        ensure!(
            unix_ms() < deadline,
            "{TIMERS_PATIENCE:?} after the last was due: {seen} of {count}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let fired = Usage::of(&cluster.servers)?;
    let per = |seconds: f64| (seconds * 1e6 / count as f64 * 10.0).round() / 10.0;
    let last = seen["last_unix_ms"].as_u64().context("a time")?;
    let rate = count as f64 * 1_000.0 / (last.saturating_sub(first_due).max(1)) as f64;
    let result = json!({
        "executions": count,
        "errors": 0,
        "rate_per_s": rate.round(),
        "late_p50_ms": seen["late_p50_ms"],
        "late_p99_ms": seen["late_p99_ms"],
        "late_max_ms": seen["late_max_ms"],
        "ran_twice": seen["calls"].as_u64().unwrap_or(0).saturating_sub(count),
        "accepted_per_s": (count as f64 * 1_000.0 / sent_ms.max(1) as f64).round(),
        "accept_cpu_us": per(sent.cpu_seconds - before_sends.cpu_seconds),
        "server_cpu_us_per_execution": per(fired.cpu_seconds - sent.cpu_seconds),
        "rss_bytes": fired.rss_bytes,
    });
    let Value::Object(result) = result else {
        unreachable!("the macro made an object")
    };
    Ok(result)
}
