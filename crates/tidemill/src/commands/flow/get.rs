//! `tidemill flow get`

use clap::Args;
use serde_json::Value;
use tidemill_sdk::api::{Flow, GetFlowRequest, GetFlowVersionRequest};

use crate::{
    context::Context,
    failure::Failure,
    table::details,
    views::{self, cell, flow_status, short_time},
};

/// Show one flow: its state and its draft, or the document of a version.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow get orders
  tidemill flow get orders --document > orders.json        what `flow apply` takes
  tidemill flow get orders --document --flow-version 3     as it was published")]
pub struct Get {
    /// Id or name.
    flow: String,
    /// Print nothing but the document, as JSON.
    #[arg(long)]
    document: bool,
    /// The document of this published version, not of the draft; 0 is the newest.
    #[arg(long, requires = "document", value_name = "NUMBER")]
    flow_version: Option<u32>,
}

impl Get {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        if let Some(version) = self.flow_version {
            let request = GetFlowVersionRequest {
                flow: self.flow,
                version,
            };
            let version = client.get_flow_version(request).await?.version;
            return context
                .output
                .document(&document(&version.unwrap_or_default().document)?);
        }
        let answer = client.get_flow(GetFlowRequest { flow: self.flow }).await?;
        let flow = answer.flow.unwrap_or_default();
        if self.document {
            return context.output.document(&document(&flow.document)?);
        }
        if context.output.is_json() {
            return context.output.document(&views::flow(&flow));
        }
        let color = context.output.color;
        context.output.line(describe(&flow, color))?;
        context
            .output
            .line(format!("\n{:#}", document(&flow.document)?))
    }
}

fn document(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::failed(
            "DOCUMENT",
            format!("the server's document is no JSON: {error}"),
        )
    })
}

fn describe(flow: &Flow, color: bool) -> String {
    let number = |number: u32| {
        if number == 0 {
            "none".to_owned()
        } else {
            number.to_string()
        }
    };
    let labels: Vec<String> = flow
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    details(
        &[
            ("id", flow.id.as_str().into()),
            ("name", flow.name.as_str().into()),
            ("description", flow.description.as_str().into()),
            ("labels", labels.join(", ").into()),
            ("status", cell(flow_status(flow.status()))),
            ("reason", flow.status_reason.as_str().into()),
            ("draft", format!("revision {}", flow.draft_revision).into()),
            ("newest version", number(flow.latest_version).into()),
            ("active version", number(flow.active_version).into()),
            ("partition", flow.partition.to_string().into()),
            ("created", short_time(flow.created_at.as_ref()).into()),
            ("updated", short_time(flow.updated_at.as_ref()).into()),
        ],
        color,
    )
}
