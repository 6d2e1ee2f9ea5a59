//! `tidemill cluster add`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::{AddMemberRequest, Member};

use crate::{context::Context, failure::Failure};

/// Add a node that is running with `join` in its configuration. Ends when it votes in every group.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  tidemill cluster add 4 --peer 10.0.0.4:7470 --grpc 10.0.0.4:7450 --timeout 10m")]
pub struct Add {
    /// Its number: never used before in this cluster.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where the other nodes reach it.
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// Where clients and workers reach it.
    #[arg(long, value_name = "HOST:PORT")]
    grpc: String,
    /// Where its health and metrics are.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "HOST:PORT"
    )]
    http: String,
}

impl Add {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let member = Member {
            id: self.id,
            peer: self.peer,
            grpc: self.grpc,
            http: self.http,
            voter: true,
            reachable: false,
        };
        let request = AddMemberRequest {
            member: Some(member),
        };
        client.add_member(request).await?;
        if context.output.is_json() {
            return context
                .output
                .document(&json!({ "id": self.id, "added": true }));
        }
        context.output.line(format!("node {}: added", self.id))
    }
}
