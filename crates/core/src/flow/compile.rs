//! From a valid document to a [`Plan`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use serde_json::{Map, Value};
use tidemill_expression::Expression;
use tidemill_types::flow::{Edge, FlowDocument, FlowDuration, Join, Node, Retry};
use tidemill_types::schedule::ScheduleSpec;

use super::builtin::Builtin;
use super::canonical::canonical_value;
use super::graph::Digraph;
use super::plan::{EdgeIndex, NodeIndex, Plan, PlanEdge, PlanNode, RetryPolicy, Wait};
use super::problem::{Problem, code};
use super::respond::Respond;
use super::validate::validate;
use crate::schedule::Schedule;

/// The plan of a document; all its problems, warnings among them, if one is an error.
pub fn compile(doc: &FlowDocument) -> Result<Plan, Vec<Problem>> {
    let problems = validate(doc);
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    let schedule = schedule_of(doc)?;
    let node_by_id: BTreeMap<Arc<str>, NodeIndex> = doc
        .graph
        .nodes
        .iter()
        .zip(0..)
        .map(|(node, at)| (node.id.as_str().into(), NodeIndex(at)))
        .collect();
    let edges: Vec<PlanEdge> = doc
        .graph
        .edges
        .iter()
        .map(|edge| compile_edge(edge, &node_by_id))
        .collect();
    let mut nodes: Vec<PlanNode> = doc.graph.nodes.iter().map(compile_node).collect();
    connect(&mut nodes, &edges);
    Ok(Plan {
        name: doc.name.as_deref().unwrap_or_default().into(),
        roots: roots(&nodes, &edges),
        nodes,
        edges,
        timeout_ms: doc.timeout.map(|timeout| timeout.ms),
        retention_ms: doc.retention.map(|retention| retention.ms),
        webhook: match schedule {
            Some(_) => None,
            None => Some(doc.trigger.webhook.clone().unwrap_or_default()),
        },
        schedule,
        node_by_id,
    })
}

/// The document's schedule, whichever way it is written.
pub(super) fn schedule_of(doc: &FlowDocument) -> Result<Option<Schedule>, Vec<Problem>> {
    let compiled = if let Some(spec) = &doc.trigger.schedule {
        Schedule::compile(spec).map_err(|errors| {
            let problem = |error: crate::schedule::ScheduleError| {
                let pointer = format!("/trigger/schedule{}", error.pointer);
                Problem::error(pointer, code::SCHEDULE, error.message)
            };
            errors.into_iter().map(problem).collect::<Vec<_>>()
        })
    } else if let Some(cron) = &doc.cron {
        Schedule::compile(&ScheduleSpec::from_cron(cron.as_str())).map_err(|errors| {
            let problem = |error: crate::schedule::ScheduleError| {
                Problem::error("/cron", code::SCHEDULE, error.message)
            };
            errors.into_iter().map(problem).collect()
        })
    } else {
        return Ok(None);
    };
    compiled.map(Some)
}

fn compile_edge(edge: &Edge, node_by_id: &BTreeMap<Arc<str>, NodeIndex>) -> PlanEdge {
    let node = |id: &str| {
        *node_by_id
            .get(id)
            .expect("validation found every edge's nodes")
    };
    PlanEdge {
        source: node(&edge.source),
        target: node(&edge.target),
        on: edge.on,
        condition: edge.config.condition.as_deref().map(parse),
    }
}

fn compile_node(node: &Node) -> PlanNode {
    let builtin = Builtin::from_component(&node.component_id);
    let (mut wait, mut expression, mut respond) = (None, None, None);
    match builtin {
        Some(Builtin::Transform) => expression = expression_of(node),
        Some(Builtin::Respond) => {
            expression = expression_of(node);
            respond = Some(Respond::of_fields(&node.fields).0);
        }
        Some(Builtin::Wait) => {
            let (how, text) = wait_of(node).expect("validation found how long it waits");
            wait = Some(how);
            expression = text.map(parse);
        }
        _ => {}
    }
    let fields = Value::Object(node.fields.clone());
    PlanNode {
        id: node.id.as_str().into(),
        component: node.component_id.as_str().into(),
        function: node.function.as_str().into(),
        builtin,
        fields_json: json_bytes(&fields),
        fields: Arc::new(fields),
        node_settings_json: json_bytes(&Value::Object(node.node_settings.clone())),
        credentials_id: node
            .credentials_id
            .as_deref()
            .filter(|id| !id.is_empty())
            .map(Arc::from),
        retry: compile_retry(node.retry.unwrap_or_default()),
        timeout_ms: node.timeout.map(|timeout| timeout.ms),
        join: node.join,
        concurrency: node.concurrency,
        max_iterations: node.loop_limit.map(|limit| limit.max_iterations),
        outgoing: Vec::new(),
        incoming: Vec::new(),
        upstream: Vec::new(),
        expression,
        wait,
        respond,
    }
}

fn expression_of(node: &Node) -> Option<Expression> {
    let text = node.fields.get("expression").and_then(Value::as_str);
    text.map(parse)
}

fn compile_retry(retry: Retry) -> RetryPolicy {
    let default = RetryPolicy::DEFAULT;
    let initial_delay_ms = retry
        .initial_delay
        .map_or(default.initial_delay_ms, |delay| delay.ms);
    RetryPolicy {
        max_attempts: retry.max_attempts.unwrap_or(default.max_attempts),
        initial_delay_ms,
        multiplier_milli: retry.multiplier.map_or(default.multiplier_milli, milli),
        // An author who asks for a long first delay has not asked to have it cut.
        max_delay_ms: retry
            .max_delay
            .map_or(default.max_delay_ms.max(initial_delay_ms), |delay| delay.ms),
        jitter_milli: retry.jitter.map_or(default.jitter_milli, milli),
    }
}

/// Thousandths; validation has seen to it that they fit.
fn milli(value: f64) -> u32 {
    (value * 1_000.0).round() as u32
}

/// Fills in each node's edges and, where it is used, what is upstream.
fn connect(nodes: &mut [PlanNode], edges: &[PlanEdge]) {
    for (edge, at) in edges.iter().zip(0..) {
        nodes[edge.source.index()].outgoing.push(EdgeIndex(at));
        nodes[edge.target.index()].incoming.push(EdgeIndex(at));
    }
    let graph = Digraph::new(
        nodes.len(),
        edges
            .iter()
            .map(|edge| (edge.source.index(), edge.target.index())),
    );
    for (position, node) in nodes.iter_mut().enumerate() {
        if node.join == Join::All {
            let upstream = graph.upstream(position).into_iter();
            node.upstream = upstream.map(|node| NodeIndex(node as u32)).collect();
        }
    }
}

/// Nodes that no other node leads to. A node that leads to itself alone may well be the first.
fn roots(nodes: &[PlanNode], edges: &[PlanEdge]) -> Vec<NodeIndex> {
    (0..)
        .map(NodeIndex)
        .take(nodes.len())
        .filter(|node| {
            let incoming = nodes[node.index()].incoming.iter();
            incoming
                .map(|edge| &edges[edge.index()])
                .all(|edge| edge.source == *node)
        })
        .collect()
}

fn parse(text: &str) -> Expression {
    Expression::parse(text).expect("validation parsed this expression")
}

fn json_bytes(value: &Value) -> Bytes {
    Bytes::from(canonical_value(value))
}

/// Why the fields of a `wait` say nothing.
#[derive(Debug)]
pub(super) enum WaitError {
    Missing,
    Both,
    Duration(String),
    Until,
}

/// How long a `wait` waits, and the expression that says until when, if one does.
pub(super) fn wait_of(node: &Node) -> Result<(Wait, Option<&str>), WaitError> {
    match (
        given(&node.fields, "duration"),
        given(&node.fields, "until"),
    ) {
        (None, None) => Err(WaitError::Missing),
        (Some(_), Some(_)) => Err(WaitError::Both),
        (Some(Value::String(text)), None) => match text.parse::<FlowDuration>() {
            Ok(duration) => Ok((Wait::DurationMs(duration.ms), None)),
            Err(error) => Err(WaitError::Duration(error.to_string())),
        },
        (Some(_), None) => Err(WaitError::Duration(
            "must be a string such as \"30s\"".to_owned(),
        )),
        (None, Some(Value::String(text))) => match DateTime::parse_from_rfc3339(text.trim()) {
            Ok(instant) => Ok((Wait::UntilMs(instant.timestamp_millis()), None)),
            Err(_) => Ok((Wait::UntilExpression, Some(text))),
        },
        (None, Some(_)) => Err(WaitError::Until),
    }
}

fn given<'f>(fields: &'f Map<String, Value>, key: &str) -> Option<&'f Value> {
    fields.get(key).filter(|value| !value.is_null())
}
