//! `tidemill flow trigger`

mod request_file;

use clap::Args;
use serde_json::json;
use tidemill_core::webhook;
use tidemill_proto::convert;
use tidemill_sdk::api::{Message, StartExecutionRequest};
use tidemill_types::{flow::WebhookTrigger, limits::MESSAGE_BYTES_MAX};

use super::RequestId;
use crate::{
    commands::execution::data,
    context::Context,
    failure::{Failure, Problem},
    views,
};

/// Start an active flow by hand, or show which message a webhook request would become.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow trigger orders --now
  tidemill flow trigger orders --data '{\"customer\": 7}'
  tidemill flow trigger --dry-run --request request.http

REQUEST is an HTTP request as text: its first line, its headers, an empty line, its body. A dry run
needs no server; it does not check signatures.")]
pub struct Trigger {
    /// Id or name of the flow.
    #[arg(required_unless_present = "dry_run")]
    flow: Option<String>,
    /// Now, with nothing in the message; what happens when nothing else is said, too.
    #[arg(long, conflicts_with_all = ["data", "dry_run"])]
    now: bool,
    /// The message's data: JSON, @FILE, or - for stdin.
    #[arg(
        long,
        default_value = "{}",
        value_name = "JSON|@FILE|-",
        conflicts_with = "dry_run"
    )]
    data: String,
    /// Show the message that a webhook request would become, and start nothing.
    #[arg(long, requires = "request_file")]
    dry_run: bool,
    /// With --dry-run: the file with the request, or - for stdin.
    #[arg(
        long = "request",
        id = "request_file",
        value_name = "REQUEST",
        requires = "dry_run"
    )]
    request_file: Option<String>,
    #[command(flatten)]
    request: RequestId,
}

impl Trigger {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(file) = &self.request_file {
            return dry_run(file, context);
        }
        let client = context.client().await?;
        let metadata = json!({"source": {"name": "cli", "type": "manual"}});
        let started = client
            .start_execution(StartExecutionRequest {
                flow: self.flow.unwrap_or_default(),
                message: Some(Message {
                    data: data(&self.data)?.into(),
                    metadata: metadata.to_string().into(),
                    ..Message::default()
                }),
                request_id: self.request.request_id,
                ..StartExecutionRequest::default()
            })
            .await?;
        let output = &context.output;
        if output.is_json() {
            return output.document(&json!({
                "execution_id": started.execution_id,
                "request_id": started.request_id,
                "created": started.created,
            }));
        }
        if !started.created {
            output.note("This request id had started it before; nothing new was started.");
        }
        output.line(&started.execution_id)
    }
}

fn dry_run(file: &str, context: &Context) -> Result<(), Failure> {
    let request = request_file::read(file)?;
    let message = webhook::message(&request, &WebhookTrigger::default(), MESSAGE_BYTES_MAX);
    let message = message.map_err(|error| {
        let problem = Problem {
            file: file.to_owned(),
            pointer: String::new(),
            code: error.status().to_string(),
            message: error.to_string(),
        };
        let refused = format!("the server would answer {}", error.status());
        Failure::invalid("INVALID_REQUEST", refused, vec![problem])
    })?;
    context
        .output
        .document(&views::message(&convert::message(message)))
}
