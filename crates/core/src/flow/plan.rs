//! The compiled form of a flow: what the interpreter runs.
//!
//! Everything is resolved once, when a version is published or loaded: ids to indices, expressions to trees,
//! defaults to values. The interpreter looks nothing up by name on its way. A plan is made by
//! [`compile()`](super::compile()) only, so what it says holds: every index is in range, every incoming edge has
//! its outgoing one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tidemill_expression::Expression;
pub use tidemill_types::flow::{
    Join, On, Reply, SignatureScheme, WebhookRateLimit, WebhookSignature, WebhookTrigger,
};

use super::builtin::Builtin;
use super::respond::Respond;
use crate::schedule::Schedule;

/// The position of a node in [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

impl NodeIndex {
    /// As an index into [`Plan::nodes`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The position of an edge in [`Plan::edges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeIndex(pub u32);

impl EdgeIndex {
    /// As an index into [`Plan::edges`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A flow, ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The flow's name; empty where the document has none.
    pub name: Arc<str>,
    /// In the document's order.
    pub nodes: Vec<PlanNode>,
    /// In the document's order.
    pub edges: Vec<PlanEdge>,
    /// The nodes that get an execution's first message; at least one, and only one without `multiRoot`.
    pub roots: Vec<NodeIndex>,
    /// How long an execution may run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long a finished execution is kept, in milliseconds; none: the server's default.
    pub retention_ms: Option<u64>,
    /// When the flow fires by itself.
    pub schedule: Option<Schedule>,
    /// How webhook requests are answered; none: the flow has a schedule and takes no requests.
    pub webhook: Option<WebhookTrigger>,
    pub(super) node_by_id: BTreeMap<Arc<str>, NodeIndex>,
}

impl Plan {
    /// The node with this id.
    pub fn node(&self, id: &str) -> Option<NodeIndex> {
        self.node_by_id.get(id).copied()
    }
}

/// One node, ready to run.
#[derive(Clone, Debug)]
pub struct PlanNode {
    /// The node's id in the document.
    pub id: Arc<str>,
    /// The component's name or id.
    pub component: Arc<str>,
    /// The component's function.
    pub function: Arc<str>,
    /// Set if the component is run by the server itself.
    pub builtin: Option<Builtin>,
    /// The node's `fields`: always an object.
    pub fields: Arc<Value>,
    /// The same as JSON, as a task carries it.
    pub fields_json: Bytes,
    /// The node's `nodeSettings` as JSON: always an object.
    pub node_settings_json: Bytes,
    /// The connection whose value a task carries.
    pub credentials_id: Option<Arc<str>>,
    /// When and how often a failed attempt is followed by another.
    pub retry: RetryPolicy,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Once per message, or once on all of them.
    pub join: Join,
    /// Most steps of this node running at once in one execution.
    pub concurrency: Option<u32>,
    /// Most runs of this node in one execution; set on nodes marked `loop`.
    pub max_iterations: Option<u32>,
    /// Edges that start here, in the document's order.
    pub outgoing: Vec<EdgeIndex>,
    /// Edges that end here, in the document's order.
    pub incoming: Vec<EdgeIndex>,
    /// All nodes from which this one can be reached, sorted. Only for `join: all`, which waits for them to be
    /// quiet; empty for `join: each`.
    pub upstream: Vec<NodeIndex>,
    /// What `transform` and `respond` evaluate (`fields.expression`), or `wait` to get its instant
    /// (`fields.until`).
    pub expression: Option<Expression>,
    /// How long `wait` waits.
    pub wait: Option<Wait>,
    /// What `respond` answers, where its expression says nothing else.
    pub respond: Option<Respond>,
}

/// One edge, ready to run.
#[derive(Clone, Debug)]
pub struct PlanEdge {
    /// Where the message comes from.
    pub source: NodeIndex,
    /// Where it goes.
    pub target: NodeIndex,
    /// Which outcome of the source goes this way.
    pub on: On,
    /// Must give a boolean; a message goes this way if it is true. None: always.
    pub condition: Option<Expression>,
}

/// How long the built-in `wait` waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// So many milliseconds from the step's start (`fields.duration`).
    DurationMs(u64),
    /// Until this instant in milliseconds since the Unix epoch (`fields.until` as RFC 3339); at once if past.
    UntilMs(i64),
    /// Until the instant that the node's expression gives as RFC 3339 text or milliseconds since the Unix
    /// epoch (`fields.until` as JSONata).
    UntilExpression,
}

/// When and how often a failed attempt is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; at least 1.
    pub max_attempts: u32,
    /// Delay before the second attempt, in milliseconds.
    pub initial_delay_ms: u64,
    /// Each delay is this many thousandths of the one before; at least 1,000.
    pub multiplier_milli: u32,
    /// No delay is longer than this, in milliseconds.
    pub max_delay_ms: u64,
    /// Thousandths of each delay that are drawn by chance; at most 1,000.
    pub jitter_milli: u32,
}

impl RetryPolicy {
    /// What a node without `retry` gets, and each option that its `retry` leaves out: 3 attempts after 1 s and
    /// 2 s, never more than 1 min apart, a fifth of each delay by chance. OIH retries nothing, and loses the
    /// message instead; an author who wants that writes `maxAttempts: 1`.
    pub const DEFAULT: RetryPolicy = RetryPolicy {
        max_attempts: 3,
        initial_delay_ms: 1_000,
        multiplier_milli: 2_000,
        max_delay_ms: 60_000,
        jitter_milli: 200,
    };
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}
