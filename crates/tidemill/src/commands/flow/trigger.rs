//! `tidemill flow trigger`

mod dry_run;
mod request_file;

use clap::Args;
use serde_json::json;
use tidemill_sdk::api::{Message, StartExecutionRequest};

use self::dry_run::DryRun;
use super::RequestId;
use crate::{commands::execution::data, context::Context, failure::Failure};

/// Start an active flow by hand, or show which message a webhook request would become.
///
/// On a flow with a schedule this is an occurrence of its own: it has its row in `schedule ledger`, and
/// neither replaces nor shifts a regular one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill flow trigger orders --now
  tidemill flow trigger orders --data '{\"customer\": 7}'
  tidemill flow trigger --dry-run --request request.http
  tidemill flow trigger orders --dry-run --path /new --header 'content-type: text/csv' --body new.csv
  tidemill flow trigger --dry-run --request request.http --scheme github --secret-env SECRET

REQUEST is an HTTP request as text: its first line, its headers, an empty line, its body. A dry run
starts nothing. Without a flow it needs no server. With one it asks the server how the flow takes
requests, and says what would be answered and what the check of the signature says.")]
pub struct Trigger {
    /// Id or name of the flow.
    #[arg(required_unless_present = "dry_run")]
    flow: Option<String>,
    /// Now; what happens when nothing else is said, too.
    #[arg(long, conflicts_with = "dry_run")]
    now: bool,
    /// The message's data: JSON, @FILE, or - for stdin.
    #[arg(
        long,
        default_value = "{}",
        value_name = "JSON|@FILE|-",
        conflicts_with = "dry_run"
    )]
    data: String,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    request: RequestId,
}

impl Trigger {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.dry_run.dry_run {
            return self.dry_run.run(self.flow.as_deref(), context).await;
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
                by_hand: true,
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
