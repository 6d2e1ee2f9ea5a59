//! `tidemill cluster remove`

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::RemoveMemberRequest;

use crate::{context::Context, failure::Failure};

/// Remove a node from every group, for good. Refused when the rest would have no majority.
#[derive(Args, Debug)]
pub struct Remove {
    /// Its number, which is never used again.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
}

impl Remove {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        client
            .remove_member(RemoveMemberRequest { id: self.id })
            .await?;
        if context.output.is_json() {
            return context
                .output
                .document(&json!({ "id": self.id, "removed": true }));
        }
        context.output.line(format!("node {}: removed", self.id))
    }
}
