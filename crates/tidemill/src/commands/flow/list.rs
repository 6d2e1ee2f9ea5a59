//! `tidemill flow list`

use clap::{Args, ValueEnum};
use tidemill_sdk::api::{FlowStatus, ListFlowsRequest, PageRequest};
use tidemill_types::limits::PAGE_SIZE_MAX;

use crate::{
    context::Context,
    failure::Failure,
    table::Table,
    views::{self, cell, flow_status, short_time},
};

/// List flows by name.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow list --status active
  tidemill flow list --output json | jq -r '.[].id'")]
pub struct List {
    /// Only flows in this state.
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Only flows whose name contains this; case does not matter.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    name_contains: String,
    /// At most so many; 0 means all.
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Inactive,
    Starting,
    Active,
    Stopping,
}

impl From<Status> for FlowStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Inactive => Self::Inactive,
            Status::Starting => Self::Starting,
            Status::Active => Self::Active,
            Status::Stopping => Self::Stopping,
        }
    }
}

impl List {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let most = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let status = self
            .status
            .map_or(FlowStatus::Unspecified, FlowStatus::from);
        let mut flows = Vec::new();
        let mut token = String::new();
        loop {
            let left = u32::try_from(most - flows.len()).unwrap_or(u32::MAX);
            let answer = client
                .list_flows(ListFlowsRequest {
                    page: Some(PageRequest {
                        size: left.min(PAGE_SIZE_MAX),
                        token,
                    }),
                    status: status as i32,
                    name_contains: self.name_contains.clone(),
                    with_documents: false,
                })
                .await?;
            flows.extend(answer.flows);
            token = answer.next_token;
            if token.is_empty() || flows.len() >= most {
                break;
            }
        }
        context.output.either(
            || flows.iter().map(views::flow).collect(),
            || {
                let header = ["NAME", "ID", "STATUS", "VERSION", "UPDATED", "REASON"];
                let mut table = Table::new(&header, "No flows.");
                for flow in &flows {
                    let version = match (flow.active_version, flow.latest_version) {
                        (0, 0) => "draft".to_owned(),
                        (0, latest) => latest.to_string(),
                        (active, latest) if active == latest => latest.to_string(),
                        (active, latest) => format!("{active} (newest {latest})"),
                    };
                    table.row(vec![
                        flow.name.as_str().into(),
                        flow.id.as_str().into(),
                        cell(flow_status(flow.status())),
                        version.into(),
                        short_time(flow.updated_at.as_ref()).into(),
                        flow.status_reason.as_str().into(),
                    ]);
                }
                table
            },
        )?;
        if !token.is_empty() {
            context.output.note(format!(
                "There are more: --limit {} and higher shows them.",
                most * 2
            ));
        }
        Ok(())
    }
}
