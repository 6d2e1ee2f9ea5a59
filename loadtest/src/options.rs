//! What a run can be told on the command line; the same for all scenarios, so that figures compare.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tidemill_types::duration::FlowDuration;

use crate::shape::Shape;

/// Nodes that a run starts at most: they share one machine.
const NODES_MAX: u64 = 7;
/// Clients at most: each has a connection of its own.
const CLIENTS_MAX: u64 = 20_000;
/// Highest rate that can be asked for.
pub const RATE_MAX: f64 = 1_000_000.0;

/// Options of every scenario. Those that a scenario does not use change nothing.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub struct Options {
    /// Nodes that are started, with fresh data, on this machine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    pub nodes: u64,
    /// Use these running servers (http://HOST:PORT,...) instead of starting some.
    #[arg(long, value_delimiter = ',', conflicts_with = "nodes")]
    pub endpoint: Vec<String>,
    /// Partitions of the servers that are started (default: 1 on one node, else 2).
    #[arg(long, conflicts_with = "endpoint")]
    pub partitions: Option<u32>,
    /// Closed loop: clients, each with one request at a time. Open loop: connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub clients: u64,
    /// So many clients share a connection, as callers within one program do: their starts share messages.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub clients_per_connection: u64,
    /// How long is measured, such as 10s or 2h.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Before that: the same load, not measured.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub warm_up: Duration,
    /// Open loop: this many requests per second, whatever the servers do.
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Open loop: requests under way at most; what is due beyond that is counted as an error.
    #[arg(long, default_value_t = 10_000)]
    pub max_in_flight: usize,
    /// Look for the highest open-loop rate whose p99 stays below so many milliseconds.
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub search_p99: Option<f64>,
    /// Which node gRPC clients ask first.
    #[arg(long, value_enum, default_value_t = Connect::Spread)]
    pub connect: Connect,
    /// Until the end of the execution, or only until it is stored.
    #[arg(long, value_enum, default_value_t = Mode::Finish)]
    pub mode: Mode,
    /// How many: timers, waiting, schedules, finished executions of history.
    #[arg(long)]
    pub count: Option<u64>,
    /// timers: all fall due within this time.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub within: Duration,
    /// timers: do not let any fall due, but sleep so long and look at memory and disk.
    #[arg(long, value_parser = duration)]
    pub sleep: Option<Duration>,
    /// schedules: how many of them fall due within 5 s.
    #[arg(long, default_value_t = 50_000)]
    pub burst: u64,
    /// fanout: messages that the first step gives.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub fan: u32,
    /// payload: sizes of the messages in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [256, 4_096, 65_536, 1_048_576])]
    pub bytes: Vec<usize>,
    /// endurance: a line this often.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub every: Duration,
    /// Run it so often, on fresh servers each time, and give the median of each figure.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=99))]
    pub repeat: u64,
    /// The server's binary (default: TIDEMILL_BIN, else the one beside this program).
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    pub quiet: bool,
}

/// Which node a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Connect {
    /// All in turn, as behind a load balancer: most calls are sent on to the leader.
    Spread,
    /// The leader of the flow's partition: no call is sent on.
    Leader,
    /// The first node, whoever leads.
    First,
}

impl Connect {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Leader => "leader",
            Self::First => "first",
        }
    }
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The final answer of the execution.
    Finish,
    /// The durable accept; then all are waited for.
    Accept,
}

impl Mode {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Accept => "accept",
        }
    }
}

impl Default for Options {
    /// As the command line has them when it says nothing.
    fn default() -> Self {
        Defaults::parse_from(["defaults"]).options
    }
}

/// The options by themselves, so that their defaults stand in one place.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    options: Options,
}

impl Options {
    /// The shape of the load that these options ask for, apart from a search.
    pub fn shape(&self) -> Shape {
        match self.rate {
            Some(rate) => Shape::Open {
                rate,
                max_in_flight: self.max_in_flight,
            },
            None => Shape::Closed {
                clients: self.clients as usize,
            },
        }
    }

    /// Refuses options that cannot be meant together.
    ///
    /// # Errors
    /// Names the options.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.rate.is_none() || self.search_p99.is_none(),
            "--rate and --search-p99 exclude each other: a search chooses its rates"
        );
        ensure!(
            self.duration >= Duration::from_millis(100),
            "--duration: at least 100ms"
        );
        ensure!(self.max_in_flight >= 1, "--max-in-flight: at least 1");
        Ok(())
    }

    /// For scenarios that look into the servers' processes and folders, or kill them.
    ///
    /// # Errors
    /// When the servers are somebody else's.
    pub fn needs_own_servers(&self, scenario: &str) -> Result<()> {
        if !self.endpoint.is_empty() {
            bail!("{scenario} starts its own servers: leave out --endpoint");
        }
        Ok(())
    }
}

/// A duration as flows write them: 250ms, 10s, 5m, 2h.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: FlowDuration = text
        .parse()
        .map_err(|error| format!("{error}; such as 250ms, 10s, 5m, 2h"))?;
    Ok(Duration::from_millis(parsed.ms))
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text)
        .ok()
        .filter(|rate| *rate <= RATE_MAX)
        .ok_or_else(|| format!("a number above 0, at most {RATE_MAX}"))
}
