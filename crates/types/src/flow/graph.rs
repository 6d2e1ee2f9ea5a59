//! Nodes and edges of a flow document.

use serde::Serialize;
use serde_json::{Map, Value};

use super::FlowDuration;

/// The steps of a flow and the ways between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Graph {
    /// In the author's order, which is also the order of a plan's nodes.
    pub nodes: Vec<Node>,
    /// In the author's order, which is also the order of a plan's edges.
    pub edges: Vec<Edge>,
}

/// One node: which function of which component runs, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Unique within the flow.
    pub id: String,
    /// A component's name or id.
    pub component_id: String,
    /// One of the component's functions.
    pub function: String,
    /// What people call this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the node is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The connection whose unsealed value the component gets.
    #[serde(rename = "credentials_id", skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
    /// Given to the component as it is.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// OIH's free settings of the node, given to the component as they are.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub node_settings: Map<String, Value>,
    /// What to do when an attempt fails. None: the defaults of every option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may take. None: no limit but the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<FlowDuration>,
    /// Whether the node runs once per message or once for all of them.
    #[serde(skip_serializing_if = "Join::is_each")]
    pub join: Join,
    /// Most steps of this node running at once in one execution. None: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Marks the node as the one through which a cycle may go.
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    pub loop_limit: Option<LoopLimit>,
}

/// Retry options as written; what is not written has its default in the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts in all, the first one included; 1 means no retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Delay before the second attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<FlowDuration>,
    /// Each delay is this many times the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    /// No delay is longer than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<FlowDuration>,
    /// Part of each delay, 0 to 1, that is drawn by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// When a node runs on the messages that arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Once per arriving message (OIH's rule).
    #[default]
    Each,
    /// Once, on all messages, when no step upstream is live or waiting.
    All,
}

impl Join {
    fn is_each(&self) -> bool {
        *self == Join::Each
    }
}

/// How often a node in a cycle may run in one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoopLimit {
    /// Most runs of the node in one execution.
    pub max_iterations: u32,
}

/// A way from one node to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Edge {
    /// Kept, not interpreted; OIH has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the node whose messages go this way.
    pub source: String,
    /// The id of the node that gets them.
    pub target: String,
    /// Which outcome of the source goes this way.
    #[serde(skip_serializing_if = "On::is_success")]
    pub on: On,
    /// Condition and mapper.
    #[serde(skip_serializing_if = "EdgeConfig::is_empty")]
    pub config: EdgeConfig,
}

/// Which outcome of its source an edge carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// The messages that the source gave.
    #[default]
    Success,
    /// The error with which the source failed for good.
    Error,
}

impl On {
    fn is_success(&self) -> bool {
        *self == On::Success
    }
}

/// OIH's `config` of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EdgeConfig {
    /// JSONata that must give a boolean: whether a message goes this way. None: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Kept, never evaluated: OIH stores it and evaluates it nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapper: Option<Value>,
}

impl EdgeConfig {
    fn is_empty(&self) -> bool {
        self.condition.is_none() && self.mapper.is_none()
    }
}
