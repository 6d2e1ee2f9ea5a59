//! `tidemill dev`

use clap::Args;
use tidemill_server::Config;

use super::server::{Overrides, serve};
use crate::{context::Context, failure::Failure};

/// Run a server for development: one node with one partition, nothing to configure.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill dev                          data in ./tidemill-data, kept between runs
  tidemill dev --data-dir /tmp/try      somewhere else; delete the folder to begin anew")]
pub struct Dev {
    #[command(flatten)]
    pub overrides: Overrides,
}

impl Dev {
    pub async fn run(self, _context: &Context) -> Result<(), Failure> {
        let mut overrides = self.overrides.resolve();
        overrides.set("cluster_name", "dev");
        overrides.set("partitions", "1");
        if self.overrides.node_id.is_none() {
            overrides.set("node_id", "1");
        }
        let mut config = Config::load(None, &overrides)
            .map_err(|error| Failure::failed("CONFIG", error.to_string()))?;
        // Data that has another number of partitions keeps it.
        config.partitions_chosen = false;
        serve(config).await
    }
}
