//! `StartExecution`: answered when the execution is replicated and on disk or, with `wait_ms`, when it
//! has ended.

use std::time::Duration;

use tidemill_core::{
    Partition, Rejection,
    command::{PartitionCommand, PartitionReply, StartExecution, TellEnd},
};
use tidemill_proto::v1::{
    StartExecutionRequest, StartExecutionResponse, TraceContext, WaitExecutionRequest,
};
use tidemill_rows::table::MessageRow;
use tidemill_types::FlowId;
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

use super::{
    client,
    wait::{self, Since},
};
use crate::{
    actor::{AskError, GroupHandle},
    door,
    gateway::{
        Checks, Open, Origin, check::CheckResult, code_of, flow::resolve, forwarded, route::Kind,
        status,
    },
};

struct Checked {
    message: MessageRow,
    request_id: String,
    trace: (String, String),
    request_id_only: bool,
    /// Until when the answer may be held.
    hold_until: Option<Instant>,
    with_output: bool,
    by_hand: bool,
}

pub(in crate::gateway) async fn start(
    open: &Open,
    origin: Origin,
    request: StartExecutionRequest,
    metadata: &MetadataMap,
) -> Result<StartExecutionResponse, Status> {
    let flow = Checks::flow("flow", &request.flow).map_err(status)?;
    let trace = Checks::trace_of(request.trace, metadata);
    let bytes_max = open.node.config.message_bytes_max;
    let wait_ms = wait::at_most("wait_ms", request.wait_ms).map_err(status)?;
    let message = request.message.unwrap_or_default();
    let checked = &Checked {
        message: Checks::message("message", message, bytes_max).map_err(status)?,
        request_id: Checks::request_id(request.request_id).map_err(status)?,
        trace,
        request_id_only: request.request_id_only,
        hold_until: (wait_ms > 0)
            .then(|| Instant::now() + Duration::from_millis(u64::from(wait_ms))),
        with_output: request.with_output,
        by_hand: request.by_hand,
    };
    let id = resolve(open, &flow, false).await?;
    let answer = at_home(open, origin, id, checked).await;
    let Err(refused) = &answer else {
        return answer;
    };
    let is_unknown_here = ["TM0101", "TM0102"]
        .into_iter()
        .any(|code| code_of(refused).as_deref() == Some(code));
    if origin == Origin::Peer || !is_unknown_here {
        return answer;
    }
    // The partition knows only what is armed. Whether the flow exists, and which one has the name
    // now, is known to the catalog.
    let newest = Box::pin(resolve(open, &flow, true)).await?;
    if newest == id {
        return answer;
    }
    Box::pin(at_home(open, origin, newest, checked)).await
}

async fn at_home(
    open: &Open,
    origin: Origin,
    flow: FlowId,
    checked: &Checked,
) -> Result<StartExecutionResponse, Status> {
    let node = &open.node;
    let Some(home) = node.partition(flow.partition()) else {
        return Err(status(AskError::Rejected(Rejection::FlowNotFound(
            flow.to_string(),
        ))));
    };
    node.on_leader(
        origin,
        Kind::Write,
        home,
        |home| local(open, home, flow, checked),
        |channel| {
            if checked.hold_until.is_some() {
                // The node that leads has a door of its own.
                door::leave();
            }
            let request = StartExecutionRequest {
                flow: flow.to_string(),
                message: Some(tidemill_proto::convert::message(checked.message.clone())),
                request_id: checked.request_id.clone(),
                trace: Some(TraceContext {
                    traceparent: checked.trace.0.clone(),
                    tracestate: checked.trace.1.clone(),
                }),
                request_id_only: checked.request_id_only,
                wait_ms: checked.hold_until.map_or(0, wait::left_ms),
                with_output: checked.with_output,
                by_hand: checked.by_hand,
            };
            async move { forwarded(client(channel).start_execution(request).await) }
        },
    )
    .await
}

async fn local(
    open: &Open,
    home: GroupHandle<Partition>,
    flow: FlowId,
    checked: &Checked,
) -> CheckResult<StartExecutionResponse> {
    let (traceparent, tracestate) = checked.trace.clone();
    let entropy = rand::random();
    // Taken before the start, so that no end is missed.
    let expected = checked.hold_until.and_then(|_| {
        let sink = open.node.effects.of(flow.partition())?;
        sink.expect_end(entropy)
    });
    let tell_end = match (&expected, checked.with_output) {
        (None, _) => TellEnd::No,
        (Some(_), false) => TellEnd::Row,
        (Some(_), true) => TellEnd::RowAndOutput,
    };
    let command = PartitionCommand::Start(StartExecution {
        flow,
        message: checked.message.clone(),
        request_id: checked.request_id.clone(),
        traceparent,
        tracestate,
        entropy,
        request_id_only: checked.request_id_only,
        by_hand: checked.by_hand,
        tell_end,
    });
    let started = home.ask(command).await;
    door::leave();
    let (id, created) = match started? {
        PartitionReply::Started { execution, created } => (execution, created),
        other => unreachable!("a start was answered {other:?}"),
    };
    let mut response = StartExecutionResponse {
        execution_id: id.to_string(),
        request_id: checked.request_id.clone(),
        created,
        ..StartExecutionResponse::default()
    };
    if let Some(deadline) = checked.hold_until {
        // Of a repeat nothing is told: its execution has the entropy of the first request.
        let told = match expected.filter(|_| created) {
            Some(expected) => wait::told_end(open, id, deadline, expected).await,
            None => None,
        };
        let waited = match told {
            Some(waited) => Ok(waited),
            None => {
                let request = WaitExecutionRequest {
                    with_output: checked.with_output,
                    ..WaitExecutionRequest::default()
                };
                // A repeat may speak of what another leader has done since.
                let since = if created {
                    Since::Start
                } else {
                    Since::Unknown
                };
                // Boxed, as it is seldom needed: most starts need not make room for it.
                Box::pin(wait::until_ended(open, home, id, deadline, &request, since)).await
            }
        };
        // It is started, whatever becomes of the waiting: an error would say otherwise.
        match waited {
            Ok(waited) => {
                response.ended = waited.ended;
                response.execution = waited.execution;
                response.output = waited.output;
            }
            Err(error) => tracing::debug!(execution = %id, %error, "cannot wait for its end"),
        }
    }
    Ok(response)
}
