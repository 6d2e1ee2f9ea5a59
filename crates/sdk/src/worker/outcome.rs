//! What a handler gives back.

use std::{fmt, time::Duration};

use serde_json::Value;
use tidemill_proto::v1::{
    Completion, Message, OutputMessage, Rebound, StepError, Success, completion,
};

use super::cut;
use crate::{limits::ERROR_TEXT_BYTES_MAX, message::MessageJson as _};

/// What became of a task that did not fail.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(Inner);

#[derive(Clone, Debug, PartialEq)]
enum Inner {
    Success(Success),
    Rebound(Rebound),
}

impl Outcome {
    /// Done, with no message: the path ends here.
    #[must_use]
    pub fn none() -> Self {
        Self(Inner::Success(Success::default()))
    }

    /// Done, with one message that holds this data and goes to every target whose condition holds.
    #[must_use]
    pub fn json(data: Value) -> Self {
        Self::none().and_json(data)
    }

    /// Done, with one message.
    #[must_use]
    pub fn message(message: Message) -> Self {
        Self::none().and_message(message)
    }

    /// Not done: run the step again, from its beginning, after this time (at most 30 days).
    #[must_use]
    pub fn rebound(after: Duration) -> Self {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self(Inner::Rebound(Rebound { after_ms }))
    }

    /// One more message with this data.
    #[must_use]
    pub fn and_json(self, data: Value) -> Self {
        self.and_message(Message::from_json(&data))
    }

    /// One more message.
    #[must_use]
    pub fn and_message(self, message: Message) -> Self {
        self.push(message, Some(Vec::new()))
    }

    /// One more message, for these of the task's targets only. With none it goes nowhere, but is kept
    /// as the step's output.
    #[must_use]
    pub fn and_message_to<T: Into<String>>(
        self,
        targets: impl IntoIterator<Item = T>,
        message: Message,
    ) -> Self {
        let targets: Vec<String> = targets.into_iter().map(Into::into).collect();
        self.push(message, Some(targets).filter(|targets| !targets.is_empty()))
    }

    /// Sets the node's state (at most 256 KiB): committed with the completion, or not at all.
    #[must_use]
    pub fn set_state(mut self, state: &Value) -> Self {
        if let Inner::Success(success) = &mut self.0 {
            success.node_state = Some(state.to_string().into());
        }
        self
    }

    fn push(mut self, message: Message, targets: Option<Vec<String>>) -> Self {
        // A rebound gives no messages: the step will give them when it runs again.
        if let Inner::Success(success) = &mut self.0 {
            success.messages.push(OutputMessage {
                message: Some(message),
                no_target: targets.is_none(),
                targets: targets.unwrap_or_default(),
            });
        }
        self
    }
}

/// Why a task failed.
///
/// Any error becomes one by `?`: retryable, with the code `HANDLER_ERROR`. (So it is no
/// [`std::error::Error`] itself.)
#[derive(Clone, Debug, PartialEq)]
pub struct TaskError {
    /// Stable name, such as `NO_SUCH_ACCOUNT`.
    pub code: String,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Option<Box<Value>>,
    /// Not tried again, whatever the node's retry policy says.
    pub fatal: bool,
}

impl TaskError {
    /// Trying again may help.
    #[must_use]
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            details: None,
            fatal: false,
        }
    }

    /// Trying again cannot help.
    #[must_use]
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..Self::retryable(code, message)
        }
    }

    /// Adds details for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::retryable("HANDLER_ERROR", error.to_string())
    }
}

/// A handler's result, for the wire.
pub(super) fn completion(task_id: String, result: Result<Outcome, TaskError>) -> Completion {
    let outcome = match result {
        Ok(Outcome(Inner::Success(success))) => completion::Outcome::Success(success),
        Ok(Outcome(Inner::Rebound(rebound))) => completion::Outcome::Rebound(rebound),
        Err(mut error) => {
            cut(&mut error.code, ERROR_TEXT_BYTES_MAX);
            cut(&mut error.message, ERROR_TEXT_BYTES_MAX);
            completion::Outcome::Error(StepError {
                code: error.code,
                message: error.message,
                details: error
                    .details
                    .map(|details| details.to_string().into())
                    .unwrap_or_default(),
                fatal: error.fatal,
            })
        }
    };
    Completion {
        task_id,
        outcome: Some(outcome),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_carry_their_targets() {
        let outcome = Outcome::json(json!(1))
            .and_message_to(["a"], Message::from_json(&json!(2)))
            .and_message_to(Vec::<String>::new(), Message::from_json(&json!(3)))
            .set_state(&json!({"n": 3}));
        let completion = completion("t".to_owned(), Ok(outcome));
        let Some(completion::Outcome::Success(success)) = completion.outcome else {
            panic!("a success");
        };
        let sent: Vec<_> = success
            .messages
            .iter()
            .map(|m| (m.targets.len(), m.no_target))
            .collect();
        assert_eq!(sent, [(0, false), (1, false), (0, true)]);
        assert_eq!(success.node_state.unwrap(), r#"{"n":3}"#.as_bytes());
    }

    #[test]
    fn any_error_becomes_a_retryable_one() {
        fn fails() -> Result<Outcome, TaskError> {
            let number: u32 = "x".parse()?;
            Ok(Outcome::json(json!(number)))
        }
        let error = fails().unwrap_err();
        assert_eq!((error.code.as_str(), error.fatal), ("HANDLER_ERROR", false));
        let huge = TaskError::fatal("C", "x".repeat(1_000_000));
        let Some(completion::Outcome::Error(sent)) = completion("t".to_owned(), Err(huge)).outcome
        else {
            panic!("an error");
        };
        assert_eq!(sent.message.len(), ERROR_TEXT_BYTES_MAX);
    }
}
