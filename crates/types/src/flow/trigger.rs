//! What starts an execution of a flow.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::schedule::ScheduleSpec;

/// A document's `trigger`: at most one of its members is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trigger {
    /// Fires at due times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Fires on a request to `/hook/{flowId}`. A flow without any trigger takes requests too, with the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTrigger>,
}

impl Trigger {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.schedule.is_none() && self.webhook.is_none()
    }
}

/// How webhook requests are checked and answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WebhookTrigger {
    /// When the caller is answered.
    #[serde(skip_serializing_if = "Reply::is_async")]
    pub reply: Reply,
    /// How a request's signature is checked. Free for now.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub signature: Map<String, Value>,
}

/// When the caller of a webhook is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// As soon as the execution is committed.
    #[default]
    Async,
    /// When a `respond` node or the end of the execution gives the answer.
    Wait,
}

impl Reply {
    fn is_async(&self) -> bool {
        *self == Reply::Async
    }
}
