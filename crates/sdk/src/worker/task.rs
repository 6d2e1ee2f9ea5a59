//! What a handler gets.

use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemill_proto::v1::{Message, Task, TraceContext};
use tokio_util::sync::CancellationToken;

use super::{TaskError, cut};
use crate::{
    limits::PROGRESS_BYTES_MAX,
    message::{MessageJson as _, parse},
};

/// The last progress of a task that was not sent yet. A slot, not a queue: only the last text counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<Option<String>>>);

impl Progress {
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// One task: one attempt of one step. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskContext {
    task: Arc<Task>,
    fields: Arc<Value>,
    progress: Progress,
    lease_lost: CancellationToken,
}

impl TaskContext {
    /// Reads what every handler needs.
    pub(super) fn new(
        task: Task,
        progress: Progress,
        lease_lost: CancellationToken,
    ) -> Result<Self, TaskError> {
        let fields = parse::<Value>(&task.fields).map_err(|error| {
            TaskError::fatal(
                "INVALID_TASK",
                format!("the node's fields are no JSON: {error}"),
            )
        })?;
        Ok(Self {
            fields: Arc::new(if fields.is_null() {
                Value::Object(serde_json::Map::new())
            } else {
                fields
            }),
            task: Arc::new(task),
            progress,
            lease_lost,
        })
    }

    /// The task as it came.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Names the task and its lease: `exe_…/step/attempt`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.task.id
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.task.component
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.task.function
    }

    /// The flow's node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.task.node
    }

    /// What the step runs on: one message, or with `join: all` all that arrived.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.task.input
    }

    /// The (first) message; an empty one when none arrived.
    #[must_use]
    pub fn message(&self) -> Message {
        self.task.input.first().cloned().unwrap_or_default()
    }

    /// With `join: all`, for each message the node that it came from.
    #[must_use]
    pub fn input_nodes(&self) -> &[String] {
        &self.task.input_nodes
    }

    /// The data of the (first) message.
    ///
    /// # Errors
    /// A fatal `INVALID_DATA` when it is not of that type: it will not be the next time either.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        self.message().json().map_err(|error| {
            TaskError::fatal("INVALID_DATA", format!("the message's data: {error}"))
        })
    }

    /// The node's `fields`: an object.
    #[must_use]
    pub fn fields(&self) -> &Value {
        &self.fields
    }

    /// The node's `fields`, as a type.
    ///
    /// # Errors
    /// A fatal `INVALID_FIELDS` that names what is wrong.
    pub fn fields_as<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        serde_json::from_value(Value::clone(&self.fields)).map_err(|error| {
            TaskError::fatal("INVALID_FIELDS", format!("the node's fields: {error}"))
        })
    }

    /// The node's `nodeSettings`.
    ///
    /// # Errors
    /// A fatal `INVALID_SETTINGS` when they are not of that type.
    pub fn node_settings<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        parse(&self.task.node_settings).map_err(|error| {
            TaskError::fatal("INVALID_SETTINGS", format!("the node's settings: {error}"))
        })
    }

    /// The node's state, which survives executions; `null` (or nothing) at first. Set it with
    /// [`Outcome::set_state`](super::Outcome::set_state).
    ///
    /// # Errors
    /// A fatal `INVALID_STATE` when it is not of that type.
    pub fn node_state<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        parse(&self.task.node_state).map_err(|error| {
            TaskError::fatal("INVALID_STATE", format!("the node's state: {error}"))
        })
    }

    /// The attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// How often the step asked to be run again later.
    #[must_use]
    pub fn rebounds(&self) -> u32 {
        self.task.rebounds
    }

    /// The same for every attempt of the step: give it to whatever you call outside.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.task.idempotency_key
    }

    /// The nodes that the step's messages may be sent to.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.task.targets
    }

    /// The trace of the execution's caller.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        self.task.trace.clone().unwrap_or_default()
    }

    /// Shows a text to people who look at the step. Only the last one counts; it is sent with the
    /// next renewal, within a fraction of a second.
    pub fn progress(&self, text: impl Into<String>) {
        let mut text = text.into();
        cut(&mut text, PROGRESS_BYTES_MAX);
        self.progress.put(text);
    }

    /// Ready when the step is not this worker's any more: what the handler gives then changes
    /// nothing, so it should stop.
    pub async fn lease_lost(&self) {
        self.lease_lost.cancelled().await;
    }

    /// Whether the lease is lost.
    #[must_use]
    pub fn is_lease_lost(&self) -> bool {
        self.lease_lost.is_cancelled()
    }
}
