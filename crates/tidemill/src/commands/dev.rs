//! `tidemill dev`

use clap::Args;

use super::server::{Overrides, not_built_in};
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
        // The seam for `tidemill_server::Config` of one node, and `tidemill_server::run`.
        Err(not_built_in())
    }
}
