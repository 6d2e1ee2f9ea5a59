//! `tidemill cluster transfer`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::TransferLeadershipRequest;

use crate::{context::Context, failure::Failure};

/// Hand the leadership of all groups, or of one, to a node.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill cluster transfer --to 2                  before work on the other nodes
  tidemill cluster transfer --to 2 --partition 1")]
pub struct Transfer {
    /// The node that is to lead.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    /// Only this partition; 0 is the catalog.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

impl Transfer {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        client
            .transfer_leadership(TransferLeadershipRequest {
                partition: self.partition,
                to: self.to,
            })
            .await?;
        if context.output.is_json() {
            let value = json!({ "to": self.to, "partition": self.partition, "transferred": true });
            return context.output.document(&value);
        }
        let what = match self.partition {
            Some(partition) => format!("partition {partition}"),
            None => "all partitions".to_owned(),
        };
        context
            .output
            .line(format!("{what}: led by node {}", self.to))
    }
}
