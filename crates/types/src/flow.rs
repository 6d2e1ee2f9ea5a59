//! The flow document: what a person writes to define a flow.
//!
//! Owns the document's shape and how it is written back as JSON (`Serialize`). It has no `Deserialize` on
//! purpose: a document is only made by `tidemill_core::flow::parse`, which reports every problem with its
//! path, where serde would stop at the first one. Says nothing about what a document means; that is
//! `tidemill_core::flow`.

mod graph;
mod trigger;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

pub use crate::duration::{DurationError, FlowDuration};
pub use graph::{Edge, EdgeConfig, Graph, Join, LoopLimit, Node, On, Retry};
pub use trigger::{
    Reply, SignatureScheme, Trigger, WebhookRateLimit, WebhookSignature, WebhookTrigger,
};

/// A flow as its author wrote it, without the keys that an OIH server adds to what it exports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowDocument {
    /// The flow's name. Not unique, and optional, as in OIH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the flow is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// OIH's free `type` (`ordinary`, `long_running`, ...). Kept, not interpreted.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub flow_type: Option<String>,
    /// The author's own labels, for finding flows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What starts an execution. None of them: a webhook request, or by hand.
    #[serde(skip_serializing_if = "Trigger::is_empty")]
    pub trigger: Trigger,
    /// OIH's schedule: the same as `trigger.schedule.cron` in UTC. Never set together with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The steps and the ways between them.
    pub graph: Graph,
    /// Whether more than one node may start when an execution starts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub multi_root: bool,
    /// OIH's free settings of the flow. Kept, not interpreted.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub flow_settings: Map<String, Value>,
    /// How long an execution may run before it is `timed_out`. None: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<FlowDuration>,
    /// How long a finished execution is kept. None: the server's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<FlowDuration>,
}
