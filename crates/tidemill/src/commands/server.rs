//! `tidemill server`

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use tidemill_server::Config;

use crate::{context::Context, failure::Failure};

/// Run a node of a cluster, as its configuration says.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill server --config /etc/tidemill/node.toml
  tidemill server --config node.toml --node-id 2 --data-dir /var/lib/tidemill

A flag goes before an environment variable, which goes before the file. cluster/node.toml documents
every key. SIGTERM drains: leaderships are handed over, then the node ends.")]
pub struct Server {
    /// The node's configuration.
    #[arg(long, env = "TIDEMILL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What can be said beside the file. The environment's part is read by the server crate itself.
#[derive(Args, Debug)]
pub struct Overrides {
    /// This node's number in its cluster (env TIDEMILL_NODE_ID).
    #[arg(long, value_name = "ID")]
    pub node_id: Option<u64>,
    /// Where everything is stored (env TIDEMILL_DATA_DIR).
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen for clients and workers, 127.0.0.1:7450 by default (env TIDEMILL_GRPC).
    #[arg(long, value_name = "HOST:PORT")]
    pub grpc: Option<SocketAddr>,
    /// Where to listen for health checks and metrics, 127.0.0.1:7480 by default (env TIDEMILL_HTTP).
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<SocketAddr>,
    /// Where to listen for the other nodes, 127.0.0.1:7470 by default (env TIDEMILL_PEER).
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Option<SocketAddr>,
}

impl Overrides {
    /// What the environment says, and over it what the flags say.
    pub fn resolve(&self) -> tidemill_server::Overrides {
        let mut overrides = tidemill_server::Overrides::from_env();
        let flags = [
            ("node_id", self.node_id.map(|id| id.to_string())),
            (
                "data_dir",
                self.data_dir.as_ref().map(|dir| dir.display().to_string()),
            ),
            ("listen.grpc", self.grpc.map(|address| address.to_string())),
            ("listen.http", self.http.map(|address| address.to_string())),
            ("listen.peer", self.peer.map(|address| address.to_string())),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                overrides.set(key, value);
            }
        }
        overrides
    }
}

impl Server {
    pub async fn run(self, _context: &Context) -> Result<(), Failure> {
        let config = Config::load(self.config.as_deref(), &self.overrides.resolve())
            .map_err(|error| Failure::failed("CONFIG", error.to_string()))?;
        serve(config).await
    }
}

/// Runs a node until it is told to stop.
pub async fn serve(config: Config) -> Result<(), Failure> {
    tidemill_server::run(config)
        .await
        .map_err(|error| Failure::failed("SERVER", format!("{error:#}")))
}
