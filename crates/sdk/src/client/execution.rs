//! `ExecutionService`: executions and their steps.

use std::time::Duration;

use serde_json::Value;
use tidemill_proto::v1::{
    CancelExecutionRequest, CancelExecutionResponse, ExecutionState, GetExecutionRequest,
    GetExecutionResponse, ListExecutionsRequest, ListExecutionsResponse, ListStepsRequest,
    ListStepsResponse, Message, RedriveExecutionRequest, RedriveExecutionResponse,
    StartExecutionRequest, StartExecutionResponse, TraceContext, WaitExecutionRequest,
    WaitExecutionResponse, WatchExecutionRequest, WatchExecutionResponse,
    execution_service_client::ExecutionServiceClient,
};
use tonic::{metadata::AsciiMetadataValue, transport::Channel};

use super::{Call, Client, stream::Resuming};
use crate::{
    error::{ClientError, ErrorKind, Violation},
    limits::{ANSWER_BYTES_MAX, LONG_POLL_SLACK},
    message::MessageJson as _,
    request_id,
};

/// What the server waits in one `WaitExecution` when the request says 0.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// One poll of [`Client::wait`]: short enough that a lost node is noticed, long enough to be cheap.
const WAIT_POLL: Duration = Duration::from_secs(20);

/// As the requests have it. At least 1: 0 has a meaning of its own there.
fn wait_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

pub(super) fn service(channel: Channel) -> ExecutionServiceClient<Channel> {
    ExecutionServiceClient::new(channel)
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

type Header = (&'static str, AsciiMetadataValue);

/// The headers of a W3C trace context; those that are empty are left out.
fn trace_headers(trace: &TraceContext) -> Result<Vec<Header>, ClientError> {
    let parts = [
        ("traceparent", &trace.traceparent),
        ("tracestate", &trace.tracestate),
    ];
    let mut headers = Vec::new();
    for (name, text) in parts.into_iter().filter(|(_, text)| !text.is_empty()) {
        let value = text.parse().map_err(|_| ClientError {
            kind: ErrorKind::Invalid {
                problems: vec![Violation {
                    field: name.to_owned(),
                    code: String::new(),
                    message: "must be visible ASCII characters".to_owned(),
                }],
            },
            code: "INVALID_ARGUMENT".to_owned(),
            message: format!("{name}: must be visible ASCII characters"),
            request_id: String::new(),
            endpoint: String::new(),
        })?;
        headers.push((name, value));
    }
    Ok(headers)
}

impl Client {
    /// Starts an execution of an active flow. Small ones that are started at the same time by clones of one client
    /// share messages, so one client for many callers costs less than a client for each.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start_execution(
        &self,
        mut request: StartExecutionRequest,
    ) -> Result<StartExecutionResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        // A start is called most of all: the request is moved in, so only these are copied.
        let (id, flow) = (request.request_id.clone(), request.flow.clone());
        let mut call = Call::mutation("StartExecution", &id).about(&flow);
        if request.wait_ms > 0 {
            let attempt = Duration::from_millis(u64::from(request.wait_ms)) + LONG_POLL_SLACK;
            call = call.patient(attempt, attempt + self.shared.call_timeout);
        }
        self.call_node(call, request, |node, request| async move {
            node.starts.start(node.channel, request).await
        })
        .await
    }

    /// [`Client::start_execution`] within a trace: the caller's, or that of a task (`task.trace()`). The
    /// engine's spans and the workers' tasks hang below it.
    ///
    /// # Errors
    /// As [`Client::start_execution`]; [`ErrorKind::Invalid`] without a call when
    /// the context is no text for a header.
    pub async fn start_execution_in(
        &self,
        trace: &TraceContext,
        mut request: StartExecutionRequest,
    ) -> Result<StartExecutionResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let headers = trace_headers(trace)?;
        let (id, flow) = (request.request_id.clone(), request.flow.clone());
        let call = Call::mutation("StartExecution", &id).about(&flow);
        self.call(call, request, |channel, request| {
            let mut request = tonic::Request::new(request);
            for (name, value) in &headers {
                request.metadata_mut().insert(*name, value.clone());
            }
            async move { service(channel).start_execution(request).await }
        })
        .await
    }

    /// [`Client::start_execution`] with nothing but the flow's id or name and the message's data.
    ///
    /// # Errors
    /// As [`Client::start_execution`].
    pub async fn start(
        &self,
        flow: &str,
        data: &Value,
    ) -> Result<StartExecutionResponse, ClientError> {
        self.start_execution(StartExecutionRequest {
            flow: flow.to_owned(),
            message: Some(Message::from_json(data)),
            ..StartExecutionRequest::default()
        })
        .await
    }

    /// Starts an execution and waits for its end, with what its last steps gave, for as long as
    /// `at_most`: one call where it ends soon. The answer's `ended` says whether the end came.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run(
        &self,
        request: StartExecutionRequest,
        at_most: Duration,
    ) -> Result<StartExecutionResponse, ClientError> {
        let begun = tokio::time::Instant::now();
        let mut ran = self
            .start_execution(StartExecutionRequest {
                wait_ms: wait_ms(at_most.min(WAIT_POLL)),
                with_output: true,
                ..request
            })
            .await?;
        if !ran.ended {
            let left = at_most.saturating_sub(begun.elapsed());
            let waited = self.wait(&ran.execution_id, left).await?;
            ran.ended = waited.ended;
            ran.execution = waited.execution;
            ran.output = waited.output;
        }
        Ok(ran)
    }

    /// One execution.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_execution(
        &self,
        request: GetExecutionRequest,
    ) -> Result<GetExecutionResponse, ClientError> {
        self.call(
            Call::read("GetExecution"),
            request,
            |channel, request| async move { service(channel).get_execution(request).await },
        )
        .await
    }

    /// One page of a flow's executions, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_executions(
        &self,
        request: ListExecutionsRequest,
    ) -> Result<ListExecutionsResponse, ClientError> {
        self.call(
            Call::read("ListExecutions"),
            request,
            |channel, request| async move { service(channel).list_executions(request).await },
        )
        .await
    }

    /// One page of an execution's steps.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_steps(
        &self,
        request: ListStepsRequest,
    ) -> Result<ListStepsResponse, ClientError> {
        self.call(
            Call::read("ListSteps"),
            request,
            |channel, request| async move { service(channel).list_steps(request).await },
        )
        .await
    }

    /// Answered when the execution has ended, or with its present state when `timeout_ms` are over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait_execution(
        &self,
        request: WaitExecutionRequest,
    ) -> Result<WaitExecutionResponse, ClientError> {
        let asked = match request.timeout_ms {
            0 => WAIT_DEFAULT,
            ms => Duration::from_millis(u64::from(ms)),
        };
        let attempt = asked + LONG_POLL_SLACK;
        let call = Call::read("WaitExecution").patient(attempt, attempt + self.shared.call_timeout);
        self.call(call, request, |channel, request| async move {
            service(channel).wait_execution(request).await
        })
        .await
    }

    /// Waits for the end of an execution, with what its last steps gave, for as long as `at_most`.
    /// The answer's `ended` says whether it came.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait(
        &self,
        execution_id: &str,
        at_most: Duration,
    ) -> Result<WaitExecutionResponse, ClientError> {
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let poll = left.min(WAIT_POLL);
            let answer = self
                .wait_execution(WaitExecutionRequest {
                    execution_id: execution_id.to_owned(),
                    timeout_ms: wait_ms(poll),
                    with_output: true,
                    or_reply: false,
                })
                .await?;
            if answer.ended || left <= poll {
                return Ok(answer);
            }
        }
    }

    /// Cancels an execution.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_execution(
        &self,
        mut request: CancelExecutionRequest,
    ) -> Result<CancelExecutionResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let call = Call::mutation("CancelExecution", &request.request_id);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).cancel_execution(request).await
        })
        .await
    }

    /// Runs the dead steps of a failed execution again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redrive_execution(
        &self,
        mut request: RedriveExecutionRequest,
    ) -> Result<RedriveExecutionResponse, ClientError> {
        request_id::ensure(&mut request.request_id);
        let call = Call::mutation("RedriveExecution", &request.request_id);
        self.call(call, request.clone(), |channel, request| async move {
            service(channel).redrive_execution(request).await
        })
        .await
    }

    /// Follows an execution: its state now, then every change, until it has ended. When a node is
    /// lost, another one is asked, and all steps are given once more.
    #[must_use]
    pub fn watch_execution(&self, request: WatchExecutionRequest) -> ExecutionWatch {
        ExecutionWatch {
            client: self.clone(),
            request,
            stream: Resuming::new(),
            ended: false,
        }
    }
}

/// The changes of one execution.
#[derive(Debug)]
pub struct ExecutionWatch {
    client: Client,
    request: WatchExecutionRequest,
    stream: Resuming<WatchExecutionResponse>,
    ended: bool,
}

impl ExecutionWatch {
    /// The next change; nothing when the execution has ended.
    ///
    /// # Errors
    /// [`ClientError`], when no node takes the watch up again within the client's time.
    pub async fn next(&mut self) -> Result<Option<WatchExecutionResponse>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        let request = self.request.clone();
        let change = self
            .stream
            .next(&self.client, "WatchExecution", |channel| {
                let request = request.clone();
                async move { service(channel).watch_execution(request).await }
            })
            .await?;
        let Some(change) = change else {
            self.ended = true;
            return Ok(None);
        };
        if let Some(execution) = &change.execution {
            self.ended = execution.state != ExecutionState::Running as i32
                && execution.state != ExecutionState::Unspecified as i32;
        }
        Ok(Some(change))
    }
}
