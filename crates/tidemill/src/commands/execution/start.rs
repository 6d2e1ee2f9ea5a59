//! `tidemill execution start`

use std::io::Read as _;

use clap::Args;
use serde_json::{Value, json};
use tidemill_sdk::api::{ExecutionState, Message, StartExecutionRequest, TraceContext};
use tidemill_types::limits::MESSAGE_BYTES_MAX;

use super::{describe, judge, start_many::StartMany};
use crate::{
    commands::flow::RequestId,
    context::Context,
    failure::Failure,
    views::{self, execution_state},
};

/// Start an execution of an active flow. It is on disk, on most nodes, when this command ends.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill execution start orders --data '{\"customer\": 7}'
  tidemill execution start orders --data @order.json --wait --timeout 2m
  tidemill execution start orders --count 1000 --parallel 32 --wait
  tidemill execution start orders --count 1000 --rate 200 --parallel 500 --wait
  jq .order today.json | tidemill execution start orders --data - --request-id order-4711

With --wait the exit code is 0 only if the execution succeeded.")]
pub struct Start {
    /// Id or name of the flow.
    flow: String,
    /// The message's data: JSON, @FILE, or - for stdin.
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE|-")]
    data: String,
    /// Wait until it has ended (as long as --timeout says), and print what its last steps gave.
    #[arg(long)]
    wait: bool,
    /// Start so many, and print how long they took; progress goes to stderr.
    #[arg(long, default_value_t = 1, hide_default_value = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000), conflicts_with = "trace")]
    count: u64,
    /// With --count: how many at once.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000), requires = "count")]
    parallel: u64,
    /// With --count: begin so many a second, however slow the answers are; an execution's time is
    /// then counted from when it should have begun, so that an outage shows. Fewer begin when
    /// --parallel are under way.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "count")]
    rate: Option<u32>,
    /// A W3C traceparent, passed on to every worker.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TRACEPARENT"
    )]
    trace: String,
    #[command(flatten)]
    request: RequestId,
}

impl Start {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let data = data(&self.data)?;
        if self.count > 1 {
            let many = StartMany {
                flow: self.flow,
                data,
                count: self.count,
                parallel: self.parallel,
                rate: self.rate,
                wait: self.wait,
                request_id: self.request.request_id,
            };
            return many.run(context).await;
        }
        let client = context.client().await?;
        let request = StartExecutionRequest {
            flow: self.flow,
            message: Some(Message {
                data: data.into(),
                ..Message::default()
            }),
            request_id: self.request.request_id,
            trace: (!self.trace.is_empty()).then(|| TraceContext {
                traceparent: self.trace,
                tracestate: String::new(),
            }),
            ..StartExecutionRequest::default()
        };
        let output = &context.output;
        if !self.wait {
            let started = client.start_execution(request).await?;
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
            return output.line(&started.execution_id);
        }
        let ended = client.run(request, context.timeout).await?;
        let run = ended.execution.unwrap_or_default();
        if output.is_json() {
            let mut value = views::execution(&run);
            value["created"] = json!(ended.created);
            value["output"] = views::messages(&ended.output);
            output.document(&value)?;
        } else {
            output.line(describe(&run, output.color))?;
            for message in &ended.output {
                output.line(format!("\n{:#}", views::message(message)["data"]))?;
            }
        }
        if run.state() == ExecutionState::Running {
            let (word, _) = execution_state(run.state());
            return Err(Failure::failed(
                "EXECUTION_NOT_ENDED",
                format!(
                    "the execution {} is {word} after {:?}",
                    run.id, context.timeout
                ),
            )
            .hint(format!(
                "it goes on; `tidemill execution watch {}` follows it",
                run.id
            )));
        }
        judge(&run)
    }
}

/// The JSON that was asked for, checked here because a typo should not cost a round trip.
pub fn data(text: &str) -> Result<String, Failure> {
    let most = MESSAGE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let place = match text.strip_prefix('@') {
        Some(file) => {
            std::fs::File::open(file)
                .and_then(|file| file.take(most).read_to_end(&mut bytes))
                .map_err(|error| Failure::failed("FILE", format!("{file}: {error}")))?;
            file
        }
        None if text == "-" => {
            std::io::stdin().lock().take(most).read_to_end(&mut bytes)?;
            "stdin"
        }
        None => {
            bytes.extend_from_slice(text.as_bytes());
            "--data"
        }
    };
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{place}: more than {MESSAGE_BYTES_MAX} bytes"
        )));
    }
    serde_json::from_slice::<Value>(&bytes)
        .map_err(|error| Failure::usage(format!("{place}: not JSON: {error}")))?;
    String::from_utf8(bytes).map_err(|error| Failure::usage(format!("{place}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn data_is_given_or_read_and_checked() {
        assert_eq!(data("{\"a\": 1}").unwrap(), "{\"a\": 1}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d.json");
        std::fs::write(&file, "[1]").unwrap();
        assert_eq!(data(&format!("@{}", file.display())).unwrap(), "[1]");
        for bad in ["{", "@/nowhere", ""] {
            assert_ne!(data(bad).unwrap_err().exit(), Exit::Done, "{bad}");
        }
    }
}
