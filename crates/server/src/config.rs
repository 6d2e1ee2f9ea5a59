//! A node's configuration: a file, over which the environment goes, over which flags go.
//!
//! Read raw and checked in one step: every problem is named at once, with what is allowed. A key
//! that is not known is refused, since it is most often one that was misspelled. `cluster/node.toml`
//! documents the file.

mod options;
mod rate;
mod read;
mod secret;
#[cfg(test)]
mod tests;
mod units;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tidemill_core::{catalog::CatalogConfig, partition::PartitionConfig};
use tidemill_replica::{Member, ReplicaConfig, SnapshotPolicy};
use tidemill_types::NodeId;

pub use self::{
    options::{OPTIONS, OptionSpec},
    rate::Rate,
    secret::SecretText,
};

/// Everything that an operator chooses, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name.
    pub cluster_name: String,
    /// This node.
    pub node_id: NodeId,
    /// Where it stores.
    pub data_dir: PathBuf,
    /// Partitions of a new cluster.
    pub partitions: u16,
    /// True when the number was chosen, so that another one in the data is a mistake.
    pub partitions_chosen: bool,
    /// Ports beyond loopback are allowed though nothing is authenticated.
    pub insecure_no_auth: bool,
    /// The public gRPC port.
    pub grpc: SocketAddr,
    /// The HTTP port.
    pub http: SocketAddr,
    /// The peer port.
    pub peer: SocketAddr,
    /// How the node becomes part of a cluster when its data directory is new.
    pub cluster: ClusterStart,
    /// A leader is heard from at least this often.
    pub heartbeat: Duration,
    /// Least time without a leader before an election.
    pub election_min: Duration,
    /// Most time without a leader before an election.
    pub election_max: Duration,
    /// After so many entries of a group its state is made durable, so that the log can be cut.
    pub snapshot_entries: u64,
    /// So many entries are kept in the log all the same.
    pub snapshot_keep: u64,
    /// Below this free space new work is refused.
    pub reserve_bytes: u64,
    /// Cache of file blocks.
    pub block_cache_bytes: usize,
    /// Memory of state before it is flushed.
    pub state_memory_bytes: usize,
    /// Most bytes in one message.
    pub message_bytes_max: usize,
    /// How long finished executions are kept by default.
    pub retention: Duration,
    /// How long the ledger rows of occurrences are kept.
    pub ledger_retention: Duration,
    /// With so many steps of a flow waiting in a partition nothing more of it is started.
    pub flow_backlog: usize,
    /// The same for all flows together.
    pub backlog: usize,
    /// How many webhook requests of all flows this node takes; none: any number.
    pub webhook_tenant_rate: Option<Rate>,
    /// How many of each flow that says nothing else; none: any number.
    pub webhook_flow_rate: Option<Rate>,
    /// The secrets that flows name.
    pub webhook_secrets: BTreeMap<String, SecretText>,
    /// How long a drain may take.
    pub drain_deadline: Duration,
    /// What is logged.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Where traces go.
    pub otlp_endpoint: Option<String>,
}

/// How a node with an empty data directory becomes part of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterStart {
    /// A cluster of this node only.
    Alone,
    /// With these, all at once.
    Bootstrap(Vec<Member>),
    /// By way of the member with this peer address.
    Join(String),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is wrong with a configuration: all of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{file} is not TOML: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// Where, and what is wrong.
        reason: String,
    },
    /// Keys or values are wrong.
    #[error("the configuration has {} problem(s):\n  {}", .0.len(), .0.join("\n  "))]
    Problems(Vec<String>),
}

/// Values that go over those of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// By key: the value, and where it was set.
    values: BTreeMap<String, (String, String)>,
}

impl Overrides {
    /// What the environment sets: the variables named in [`OPTIONS`], unless they are empty.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut overrides = Self::default();
        for option in OPTIONS {
            if let Some(value) = variable(option.env).filter(|value| !value.is_empty()) {
                overrides.put(option.key, value, option.env.to_owned());
            }
        }
        overrides
    }

    /// Sets what a flag says; `key` is that of the file, such as `listen.grpc`.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let flag = match key.strip_prefix("listen.") {
            Some(port) => format!("--{port}"),
            None => format!("--{}", key.replace(['_', '.'], "-")),
        };
        self.put(key, value.into(), flag);
    }

    fn put(&mut self, key: &str, value: String, from: String) {
        self.values.insert(key.to_owned(), (value, from));
    }
}

impl Config {
    /// Reads a file, if there is one, puts the overrides over it and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let (text, name) = match file {
            None => (String::new(), "(no file)".to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
                    file: name.clone(),
                    reason: error.to_string(),
                })?;
                (text, name)
            }
        };
        Self::parse(&text, &name, overrides)
    }

    fn parse(text: &str, name: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The parser's text has the place, line by line; one line is enough here.
            let place = error.span().map_or(0, |span| {
                text[..span.start.min(text.len())].lines().count().max(1)
            });
            ConfigError::Syntax {
                file: name.to_owned(),
                reason: format!("line {place}: {}", error.message()),
            }
        })?;
        read::config(&table, overrides)
    }

    /// One node for trying things out: loopback, the default ports, one partition.
    #[must_use]
    pub fn dev(data_dir: impl Into<PathBuf>) -> Self {
        let mut overrides = Overrides::default();
        for (key, value) in [
            ("cluster_name", "dev"),
            ("node_id", "1"),
            ("partitions", "1"),
        ] {
            overrides.set(key, value);
        }
        let mut config =
            Self::parse("", "", &overrides).expect("the defaults and these values are allowed");
        config.data_dir = data_dir.into();
        config.partitions_chosen = false;
        config
    }

    /// For the replica.
    #[must_use]
    pub fn replica(&self) -> ReplicaConfig {
        ReplicaConfig {
            heartbeat: self.heartbeat,
            election_min: self.election_min,
            election_max: self.election_max,
            snapshot: SnapshotPolicy {
                entries: self.snapshot_entries,
                keep_entries: self.snapshot_keep,
                ..SnapshotPolicy::default()
            },
            ..ReplicaConfig::new(self.node_id, self.cluster_name.clone(), self.peer)
        }
    }

    /// For the deciders of partitions.
    #[must_use]
    pub fn partition(&self) -> PartitionConfig {
        PartitionConfig {
            message_bytes_max: self.message_bytes_max,
            retention_ms: u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX),
            ledger_kept_ms: u64::try_from(self.ledger_retention.as_millis()).unwrap_or(u64::MAX),
            flow_backlog_max: self.flow_backlog,
            backlog_max: self.backlog,
            ..PartitionConfig::default()
        }
    }

    /// For the decider of the catalog.
    #[must_use]
    pub fn catalog(&self) -> CatalogConfig {
        CatalogConfig::default()
    }
}

impl fmt::Display for Config {
    /// As a file would say it, secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = units::show_duration;
        let bytes = |bytes: usize| units::show_bytes(bytes as u64);
        writeln!(f, "cluster_name = {:?}", self.cluster_name)?;
        writeln!(f, "node_id = {}", self.node_id)?;
        writeln!(f, "data_dir = {:?}", self.data_dir.display().to_string())?;
        writeln!(f, "partitions = {}", self.partitions)?;
        writeln!(f, "insecure_no_auth = {}", self.insecure_no_auth)?;
        writeln!(f, "listen.grpc = \"{}\"", self.grpc)?;
        writeln!(f, "listen.http = \"{}\"", self.http)?;
        writeln!(f, "listen.peer = \"{}\"", self.peer)?;
        match &self.cluster {
            ClusterStart::Alone => {
                writeln!(f, "# neither cluster.bootstrap nor cluster.join is set")?
            }
            ClusterStart::Join(via) => writeln!(f, "cluster.join = {via:?}")?,
            ClusterStart::Bootstrap(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|m| {
                        format!(
                            "{{ id = {}, peer = {:?}, grpc = {:?} }}",
                            m.id, m.peer, m.grpc
                        )
                    })
                    .collect();
                writeln!(f, "cluster.bootstrap = [{}]", members.join(", "))?;
            }
        }
        writeln!(f, "raft.heartbeat = \"{}\"", duration(self.heartbeat))?;
        writeln!(f, "raft.election_min = \"{}\"", duration(self.election_min))?;
        writeln!(f, "raft.election_max = \"{}\"", duration(self.election_max))?;
        writeln!(f, "raft.snapshot_entries = {}", self.snapshot_entries)?;
        writeln!(f, "raft.snapshot_keep = {}", self.snapshot_keep)?;
        writeln!(
            f,
            "storage.reserve = \"{}\"",
            units::show_bytes(self.reserve_bytes)
        )?;
        writeln!(
            f,
            "storage.block_cache = \"{}\"",
            bytes(self.block_cache_bytes)
        )?;
        writeln!(
            f,
            "storage.state_memory = \"{}\"",
            bytes(self.state_memory_bytes)
        )?;
        writeln!(f, "limits.message = \"{}\"", bytes(self.message_bytes_max))?;
        writeln!(f, "limits.retention = \"{}\"", duration(self.retention))?;
        writeln!(
            f,
            "limits.ledger_retention = \"{}\"",
            duration(self.ledger_retention)
        )?;
        writeln!(f, "limits.flow_backlog = {}", self.flow_backlog)?;
        writeln!(f, "limits.backlog = {}", self.backlog)?;
        let rate = |rate: Option<Rate>| rate.map_or_else(|| "none".to_owned(), |r| r.to_string());
        writeln!(
            f,
            "webhook.tenant_rate = \"{}\"",
            rate(self.webhook_tenant_rate)
        )?;
        writeln!(
            f,
            "webhook.flow_rate = \"{}\"",
            rate(self.webhook_flow_rate)
        )?;
        for (name, secret) in &self.webhook_secrets {
            writeln!(f, "webhook.secrets.{name:?} = \"{secret}\"")?;
        }
        writeln!(f, "drain.deadline = \"{}\"", duration(self.drain_deadline))?;
        writeln!(f, "log.level = {:?}", self.log_level)?;
        writeln!(
            f,
            "log.format = {:?}",
            match self.log_format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }
        )?;
        match &self.otlp_endpoint {
            None => write!(f, "# telemetry.otlp_endpoint is not set"),
            Some(endpoint) => write!(f, "telemetry.otlp_endpoint = {:?}", masked(endpoint)),
        }
    }
}

/// An address without the name and the password that it may hold.
fn masked(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => endpoint.to_owned(),
        },
        None => endpoint.to_owned(),
    }
}
