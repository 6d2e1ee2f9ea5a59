//! The component `example`: small functions to build demos and load from.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tidemill_sdk::{Outcome, TaskContext, TaskError};

use super::pause;

/// Longest sleep: a demo, not a scheduler. For more there is the built-in `wait`.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);
/// How often a sleeping task says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Gives back the message.
pub fn echo(task: &TaskContext) -> Result<Outcome, TaskError> {
    Ok(Outcome::message(task.message()))
}

#[derive(Deserialize)]
struct Sleep {
    ms: u64,
}

/// Waits for `fields.ms` milliseconds, then gives back the message.
pub async fn sleep(task: TaskContext) -> Result<Outcome, TaskError> {
    let Sleep { ms } = task.fields_as()?;
    let total = Duration::from_millis(ms).min(SLEEP_MAX);
    let mut left = total;
    while !left.is_zero() {
        let nap = left.min(PROGRESS_EVERY);
        pause(&task, nap).await?;
        left -= nap;
        task.progress(format!("slept {:?} of {total:?}", total - left));
    }
    Ok(Outcome::message(task.message()))
}

#[derive(Deserialize)]
#[serde(default)]
struct Fail {
    times: u32,
    fatal: bool,
    code: String,
}

impl Default for Fail {
    fn default() -> Self {
        Self {
            times: u32::MAX,
            fatal: false,
            code: "EXAMPLE_FAILURE".to_owned(),
        }
    }
}

/// Fails in the first `fields.times` attempts (always, when it is not given), then gives back the
/// message. With `fields.fatal` trying again is of no use.
pub fn fail(task: &TaskContext) -> Result<Outcome, TaskError> {
    let Fail { times, fatal, code } = task.fields_as()?;
    if task.attempt() > times {
        return echo(task);
    }
    let text = match times {
        u32::MAX => "fails in every attempt, as its fields ask".to_owned(),
        _ => format!(
            "attempt {} of {times} that fail, as its fields ask",
            task.attempt()
        ),
    };
    Err(TaskError {
        fatal,
        ..TaskError::retryable(code, text)
    })
}

/// Gives one message for each element of the data, which must be an array (or have one in `items`).
pub fn split(task: &TaskContext) -> Result<Outcome, TaskError> {
    let items = match task.data()? {
        Value::Array(items) => items,
        Value::Object(mut object) => match object.remove("items") {
            Some(Value::Array(items)) => items,
            _ => return Err(no_array()),
        },
        _ => return Err(no_array()),
    };
    Ok(items.into_iter().fold(Outcome::none(), Outcome::and_json))
}

fn no_array() -> TaskError {
    TaskError::fatal(
        "NO_ARRAY",
        "the data is neither an array nor an object with an array `items`",
    )
}

#[derive(Default, Deserialize)]
struct Count {
    count: u64,
}

/// Counts its runs in the node's state, which survives executions, and adds the count to the data.
pub fn count(task: &TaskContext) -> Result<Outcome, TaskError> {
    let before: Option<Count> = task.node_state()?;
    let count = before.unwrap_or_default().count.saturating_add(1);
    let data = match task.data()? {
        Value::Object(mut object) => {
            object.insert("count".to_owned(), json!(count));
            Value::Object(object)
        }
        other => json!({ "data": other, "count": count }),
    };
    Ok(Outcome::json(data).set_state(&json!({ "count": count })))
}
