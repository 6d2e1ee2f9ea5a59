//! `tidemill server`

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

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

/// What can be said beside the file.
#[derive(Args, Debug)]
pub struct Overrides {
    /// This node's number in its cluster.
    #[arg(long, env = "TIDEMILL_NODE_ID", value_name = "ID")]
    pub node_id: Option<u64>,
    /// Where everything is stored.
    #[arg(long, env = "TIDEMILL_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen for clients and workers (7450 by default).
    #[arg(long, env = "TIDEMILL_GRPC", value_name = "HOST:PORT")]
    pub grpc: Option<SocketAddr>,
    /// Where to listen for health checks and metrics (7480 by default).
    #[arg(long, env = "TIDEMILL_HTTP", value_name = "HOST:PORT")]
    pub http: Option<SocketAddr>,
    /// Where to listen for the other nodes (7470 by default).
    #[arg(long, env = "TIDEMILL_PEER", value_name = "HOST:PORT")]
    pub peer: Option<SocketAddr>,
}

impl Server {
    pub async fn run(self, _context: &Context) -> Result<(), Failure> {
        // The seam for `tidemill_server::Config::load(file, overrides)` and `tidemill_server::run`.
        Err(not_built_in())
    }
}

/// Said until the server crate can run.
pub fn not_built_in() -> Failure {
    Failure::failed(
        "NOT_BUILT_IN",
        "this binary was built before its server was",
    )
}
