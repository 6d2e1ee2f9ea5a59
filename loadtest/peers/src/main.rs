//! `tidemill-peers`: the shapes of `tidemill-loadtest` against Restate and etcd, in alternation with
//! Tidemill on the same machine, and the ratios.
//!
//! Every measurement starts fresh servers with empty data and ends them. A peer that is not installed is
//! left out, saying so.

mod closed_loop;
mod etcd;
mod http;
mod ours;
mod process;
mod report;
mod restate;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::report::{Compared, Output};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure Tidemill and its peers in turn, and print the ratios.
    Bench(Bench),
    /// The handlers that Restate calls; started by `bench`.
    #[command(hide = true)]
    RestateService {
        /// Where Restate calls them.
        handlers: SocketAddr,
        /// Where `bench` asks what they saw.
        report: SocketAddr,
    },
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// One step, from request to final answer.
    Steps1,
    /// Three steps, from request to final answer.
    Steps3,
    /// The durable accept alone; etcd: a put.
    Start,
    /// Timers that all fall due within a few seconds: how late they are.
    Timers,
}

impl Shape {
    const fn name(self) -> &'static str {
        match self {
            Self::Steps1 => "steps1",
            Self::Steps3 => "steps3",
            Self::Start => "start",
            Self::Timers => "timers",
        }
    }
}

/// Whom clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Connect {
    /// The leader alone: nothing is sent on.
    Leader,
    /// All nodes in turn.
    Spread,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Tidemill,
    Restate,
    Etcd,
}

impl System {
    const fn name(self) -> &'static str {
        match self {
            Self::Tidemill => "tidemill",
            Self::Restate => "restate",
            Self::Etcd => "etcd",
        }
    }

    const fn durability(self) -> &'static str {
        match self {
            Self::Tidemill => ours::DURABILITY,
            Self::Restate => restate::DURABILITY,
            Self::Etcd => etcd::DURABILITY,
        }
    }
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    nodes: usize,
    clients: usize,
    /// Clients that share a connection.
    per_connection: usize,
}

/// The standard table: those of the figures that have a target.
const STANDARD: &[Case] = &[
    case(Shape::Steps1, 1, 1),
    case(Shape::Steps1, 1, 256),
    case(Shape::Steps1, 1, 256).shared(),
    case(Shape::Steps3, 1, 256).shared(),
    case(Shape::Steps1, 3, 1),
    case(Shape::Steps1, 3, 256),
    case(Shape::Steps1, 3, 256).shared(),
    case(Shape::Start, 3, 1),
    case(Shape::Start, 3, 256),
    case(Shape::Start, 3, 256).shared(),
    case(Shape::Timers, 1, 64),
];
/// Clients that share a connection in the standard table, where they do.
const SHARED: usize = 16;

const fn case(shape: Shape, nodes: usize, clients: usize) -> Case {
    Case {
        shape,
        nodes,
        clients,
        per_connection: 1,
    }
}

impl Case {
    const fn shared(self) -> Self {
        Self {
            per_connection: SHARED,
            ..self
        }
    }
}

#[derive(Debug, clap::Args)]
struct Bench {
    /// Only these shapes, separated by commas (default: the standard table).
    #[arg(long, value_enum, value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// With --shapes: how many nodes, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1", requires = "shapes")]
    nodes: Vec<usize>,
    /// With --shapes: how many clients, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "256",
        requires = "shapes"
    )]
    clients: Vec<usize>,
    /// How long one measurement takes, in seconds, after one second of warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often each system is measured, in turn; medians are printed.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Whom the clients of `start` ask, of Tidemill and of etcd: the leader, or all nodes in turn. (Those
    /// of the other shapes, and all of Restate's, are spread over the nodes.)
    #[arg(long, value_enum, default_value_t = Connect::Leader)]
    connect: Connect,
    /// With --shapes: clients that share a connection: by HTTP/2 all of them, and ours its stream of starts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), requires = "shapes")]
    clients_per_connection: u16,
    /// How many timers.
    #[arg(long, default_value_t = 50_000)]
    timers: u64,
    /// Within how many seconds they all fall due.
    #[arg(long, default_value_t = 5)]
    timers_within: u64,
    /// How long before the first falls due Restate's sends begin, in seconds.
    #[arg(long, default_value_t = 60)]
    timer_lead: u64,
    /// Our load test (default: TIDEMILL_LOADTEST, or none: the peers alone).
    #[arg(long)]
    loadtest: Option<PathBuf>,
    /// Our server (default: TIDEMILL_BIN).
    #[arg(long)]
    tidemill: Option<PathBuf>,
    /// Restate's server (default: on the PATH, or where install.sh puts it).
    #[arg(long)]
    restate: Option<PathBuf>,
    /// etcd (default: on the PATH, or where install.sh puts it).
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Table or JSON lines.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Bench(bench) => bench.run().await,
        Command::RestateService { handlers, report } => {
            restate::service::serve(handlers, report).await
        }
    }
}

impl Bench {
    async fn run(&self) -> Result<()> {
        let systems = self.systems();
        let mut failed = 0;
        for case in self.cases() {
            let mut title = format!(
                "{}, {} node(s), {} client(s)",
                case.shape.name(),
                case.nodes,
                case.clients
            );
            if case.per_connection > 1 {
                title += &format!(", {} to a connection", case.per_connection);
            }
            let measured: Vec<System> = systems
                .iter()
                .map(|(system, _)| *system)
                .filter(|system| applies(*system, case))
                .collect();
            let mut runs: Vec<Vec<Map<String, Value>>> = vec![Vec::new(); measured.len()];
            let mut broken = vec![false; measured.len()];
            // Ours, theirs, ours, theirs: what else the machine does meanwhile meets all alike.
            for round in 1..=self.repeat {
                for (n, system) in measured.iter().enumerate() {
                    if broken[n] {
                        continue;
                    }
                    eprintln!("{title}: {} ({round} of {})", system.name(), self.repeat);
                    let path = &systems
                        .iter()
                        .find(|(one, _)| one == system)
                        .context("a system of the list")?
                        .1;
                    match self.measure(*system, path, case).await {
                        Ok(result) => runs[n].push(result),
                        Err(error) => {
                            eprintln!("FAILED {title}: {}: {error:#}", system.name());
                            broken[n] = true;
                            failed += 1;
                        }
                    }
                }
            }
            let systems = measured
                .iter()
                .zip(&runs)
                .zip(&broken)
                .filter(|(_, broken)| !**broken)
                .map(|((system, runs), _)| {
                    (system.name(), system.durability(), report::medians(runs))
                })
                .collect();
            let about = json!({"scenario": case.shape.name(), "nodes": case.nodes, "clients": case.clients, "clients_per_connection": case.per_connection});
            let Value::Object(about) = about else {
                unreachable!("the macro made an object")
            };
            Compared {
                title,
                case: about,
                systems,
                runs: self.repeat,
            }
            .print(self.output)?;
        }
        if failed > 0 {
            bail!("{failed} measurement(s) failed; see above");
        }
        Ok(())
    }

    fn cases(&self) -> Vec<Case> {
        if self.shapes.is_empty() {
            return STANDARD.to_vec();
        }
        let mut cases = Vec::new();
        for shape in &self.shapes {
            for nodes in &self.nodes {
                for clients in &self.clients {
                    cases.push(Case {
                        per_connection: self.clients_per_connection.into(),
                        ..case(*shape, *nodes, *clients)
                    });
                }
            }
        }
        cases
    }

    /// Those that are there, ours first.
    fn systems(&self) -> Vec<(System, PathBuf)> {
        let mut systems = Vec::new();
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        match self
            .loadtest
            .clone()
            .or_else(|| variable("TIDEMILL_LOADTEST"))
        {
            Some(path) => systems.push((System::Tidemill, path)),
            None => eprintln!("SKIPPED tidemill: no --loadtest"),
        }
        for (system, given, name, cached) in [
            (
                System::Restate,
                &self.restate,
                "restate-server",
                "restate/restate-server",
            ),
            (System::Etcd, &self.etcd, "etcd", "etcd/usr/bin/etcd"),
        ] {
            match given.clone().or_else(|| located(name, cached)) {
                Some(path) => {
                    eprintln!("{}: {}", system.name(), path.display());
                    systems.push((system, path));
                }
                None => eprintln!(
                    "SKIPPED {}: not installed (loadtest/peers/run.sh --install gets it)",
                    system.name()
                ),
            }
        }
        systems
    }

    async fn measure(
        &self,
        system: System,
        path: &std::path::Path,
        case: Case,
    ) -> Result<Map<String, Value>> {
        let duration = Duration::from_secs(self.seconds);
        let Case {
            shape,
            nodes,
            clients,
            per_connection,
        } = case;
        match (system, shape) {
            (System::Tidemill, _) => {
                let variable = std::env::var_os("TIDEMILL_BIN").map(PathBuf::from);
                let binary = self.tidemill.clone().or(variable);
                let binary = binary.context("which server? Give --tidemill or TIDEMILL_BIN")?;
                let mut arguments = vec![
                    shape.name().to_owned(),
                    format!("--nodes={nodes}"),
                    format!("--clients={clients}"),
                    format!("--clients-per-connection={per_connection}"),
                ];
                if shape == Shape::Start && self.connect == Connect::Leader {
                    arguments.push("--connect=leader".to_owned());
                }
                if shape == Shape::Timers {
                    arguments.push(format!("--count={}", self.timers));
                    arguments.push(format!("--within={}s", self.timers_within));
                } else {
                    arguments.push(format!("--duration={}s", self.seconds));
                }
                let (loadtest, binary) = (path.to_owned(), binary);
                tokio::task::spawn_blocking(move || ours::run(&loadtest, &binary, &arguments))
                    .await?
            }
            (System::Restate, Shape::Timers) => {
                restate::timers(
                    path,
                    clients,
                    self.timers,
                    Duration::from_secs(self.timers_within),
                    Duration::from_secs(self.timer_lead),
                )
                .await
            }
            (System::Restate, _) => {
                let shape = match shape {
                    Shape::Steps3 => restate::Shape::Steps3,
                    Shape::Start => restate::Shape::Start,
                    Shape::Steps1 | Shape::Timers => restate::Shape::Steps1,
                };
                restate::closed(path, shape, nodes, clients, per_connection, duration).await
            }
            (System::Etcd, _) => {
                let clients = etcd::Clients {
                    count: clients,
                    per_connection,
                    ask_leader: self.connect == Connect::Leader,
                };
                etcd::start(path, nodes, clients, duration).await
            }
        }
    }
}

/// Whether the system has something of this shape.
fn applies(system: System, case: Case) -> bool {
    match system {
        System::Tidemill => true,
        // Its timers on several nodes would need a lead of minutes.
        System::Restate => case.shape != Shape::Timers || case.nodes == 1,
        System::Etcd => case.shape == Shape::Start,
    }
}

/// A server on the PATH, or in the cache that install.sh fills.
fn located(name: &str, cached: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let cache = std::env::var_os("TIDEMILL_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/tidemill")));
    on_path
        .chain(cache.map(|folder| folder.join("peers").join(cached)))
        .find(|file| file.is_file())
}
