//! One request of a load: what is sent, and what it ended in.

use std::{fmt, future::Future};

use tidemill_sdk::{
    Client, ClientError,
    api::{ExecutionState, Message, StartExecutionRequest},
};
use tidemill_types::ExecutionId;

use crate::options::Mode;

/// How long an execution may take from its start to its end before that is an error.
const END_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a request did not give what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was started, or the wrong thing came out. It is not repeated.
    Refused(String),
    /// Whether an execution was started is not known: ask again with the same request id.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unknown(why) => write!(f, "outcome not known: {why}"),
        }
    }
}

/// What a load does again and again. Repeating a request id must repeat the same request.
pub trait Operation: Send + Sync + 'static {
    /// Sends one request and waits for what the scenario calls its answer. `slot` is the client that
    /// sends it: those with one slot share a connection.
    fn call(
        &self,
        slot: usize,
        request_id: &str,
    ) -> impl Future<Output = Result<ExecutionId, Failure>> + Send;

    /// Repeats a request whose outcome is not known, to learn which execution it has: waits for
    /// nothing more.
    fn repeat(
        &self,
        slot: usize,
        request_id: &str,
    ) -> impl Future<Output = Result<ExecutionId, Failure>> + Send {
        self.call(slot, request_id)
    }
}

/// Starts executions of one flow by gRPC.
#[derive(Clone, Debug)]
pub struct Start {
    /// Connections: one for each client.
    pub clients: Vec<Client>,
    /// The flow's name.
    pub flow: String,
    /// What each execution starts with.
    pub message: Message,
    /// What is waited for.
    pub mode: Mode,
}

impl Start {
    fn client(&self, slot: usize) -> &Client {
        &self.clients[slot % self.clients.len()]
    }

    fn request(&self, request_id: &str) -> StartExecutionRequest {
        StartExecutionRequest {
            flow: self.flow.clone(),
            message: Some(self.message.clone()),
            request_id: request_id.to_owned(),
            ..StartExecutionRequest::default()
        }
    }
}

impl Operation for Start {
    async fn repeat(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        let request = self.request(request_id);
        let started = self.client(slot).start_execution(request).await;
        execution_id(&started.map_err(failure)?.execution_id)
    }

    async fn call(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        if self.mode == Mode::Accept {
            return self.repeat(slot, request_id).await;
        }
        let (client, request) = (self.client(slot), self.request(request_id));
        let ran = client.run(request, END_PATIENCE).await.map_err(failure)?;
        let state = ran.execution.unwrap_or_default().state();
        match state {
            ExecutionState::Succeeded => execution_id(&ran.execution_id),
            // It was started, and has not ended in its time: an error here, and the account at the end
            // says what became of it.
            ExecutionState::Running | ExecutionState::Unspecified => Err(Failure::Unknown(
                format!("{} has not ended after {END_PATIENCE:?}", ran.execution_id),
            )),
            other => Err(Failure::Unknown(format!(
                "{} ended as {other:?}",
                ran.execution_id
            ))),
        }
    }
}

/// Reads an id that the server gave.
///
/// # Errors
/// When it is none.
pub fn execution_id(text: &str) -> Result<ExecutionId, Failure> {
    text.parse()
        .map_err(|error| Failure::Unknown(format!("the server's answer: {error}")))
}

/// What a failed call says about the execution: the SDK has repeated it by then.
pub fn failure(error: ClientError) -> Failure {
    let text = error.to_string();
    if error.kind.is_refusal() {
        Failure::Refused(text)
    } else {
        Failure::Unknown(text)
    }
}
