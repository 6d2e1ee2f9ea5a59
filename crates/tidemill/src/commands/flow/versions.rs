//! `tidemill flow versions`

use clap::Args;
use tidemill_sdk::api::{ListFlowVersionsRequest, PageRequest};
use tidemill_types::limits::PAGE_SIZE_MAX;

use crate::{
    context::Context,
    failure::Failure,
    table::Table,
    views::{self, short_time},
};

/// List the published versions of a flow, oldest first.
#[derive(Args, Debug)]
pub struct Versions {
    /// Id or name.
    flow: String,
}

impl Versions {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let mut versions = Vec::new();
        let mut token = String::new();
        loop {
            let answer = client
                .list_flow_versions(ListFlowVersionsRequest {
                    flow: self.flow.clone(),
                    page: Some(PageRequest {
                        size: PAGE_SIZE_MAX,
                        token,
                    }),
                })
                .await?;
            versions.extend(answer.versions);
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
        }
        context.output.either(
            || versions.iter().map(views::version).collect(),
            || {
                let header = ["VERSION", "PUBLISHED", "CONTENT HASH"];
                let empty = "None published yet: tidemill flow publish FLOW";
                let mut table = Table::new(&header, empty);
                for version in &versions {
                    table.row(vec![
                        version.version.to_string().into(),
                        short_time(version.published_at.as_ref()).into(),
                        version.content_hash.as_str().into(),
                    ]);
                }
                table
            },
        )
    }
}
