//! From a JSON value to a [`FlowDocument`]: shape only.
//!
//! Owns which keys a document has, their types, and what an OIH server adds. Goes on after a problem, so that
//! all are reported at once, and puts a default where a value cannot be read. What a document means is
//! [`validate()`](super::validate())'s part.

mod fields;
mod schedule;
mod suggest;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidemill_types::flow::{
    Edge, EdgeConfig, FlowDocument, Graph, Join, LoopLimit, Node, On, Retry, Trigger,
};
use tidemill_types::limits::{FLOW_EDGES_MAX, FLOW_LABELS_MAX, FLOW_NODES_MAX};

pub(super) use self::fields::quoted;
use self::fields::{Object, Reader};
use super::problem::{Problem, child, code};

const DOCUMENT_KEYS: &[&str] = &[
    "name",
    "description",
    "type",
    "labels",
    "trigger",
    "cron",
    "graph",
    "multiRoot",
    "flowSettings",
    "timeout",
    "retention",
];
/// What an OIH server adds to the flows that it exports: recognised, and left out of the document.
const SERVER_KEYS: &[&str] = &[
    "id",
    "_id",
    "__v",
    "tenant",
    "owners",
    "status",
    "createdAt",
    "updatedAt",
    "fromTemplate",
];
const TRIGGER_KEYS: &[&str] = &["schedule", "webhook"];
const GRAPH_KEYS: &[&str] = &["nodes", "edges"];
const NODE_KEYS: &[&str] = &[
    "id",
    "componentId",
    "function",
    "name",
    "description",
    "credentials_id",
    "fields",
    "nodeSettings",
    "retry",
    "timeout",
    "join",
    "concurrency",
    "loop",
];
const RETRY_KEYS: &[&str] = &[
    "maxAttempts",
    "initialDelay",
    "multiplier",
    "maxDelay",
    "jitter",
];
const LOOP_KEYS: &[&str] = &["maxIterations"];
const EDGE_KEYS: &[&str] = &["id", "source", "target", "on", "config"];
const CONFIG_KEYS: &[&str] = &["condition", "mapper"];
/// MongoDB adds its own id to nested objects too.
const NESTED_SERVER_KEYS: &[&str] = &["_id"];

/// What could be read of a document, and what could not.
pub(super) struct Reading {
    /// Has defaults in the place of what could not be read.
    pub document: FlowDocument,
    /// All of them errors.
    pub problems: Vec<Problem>,
    /// Whether all nodes and edges are in the document, so that its graph can be judged.
    pub is_whole: bool,
}

/// Reads a document whose pointers start with `pointer`.
pub(super) fn read(value: &Value, pointer: &str) -> Reading {
    let mut reader = Reader::default();
    let mut document = FlowDocument::default();
    let mut is_whole = true;
    if let Some(object) = reader.object(value, pointer.to_owned()) {
        document = read_document(&mut reader, &object, &mut is_whole);
    } else {
        is_whole = false;
    }
    Reading {
        document,
        problems: reader.problems,
        is_whole,
    }
}

fn read_document(reader: &mut Reader, object: &Object<'_>, is_whole: &mut bool) -> FlowDocument {
    reader.refuse_unknown_keys(object, DOCUMENT_KEYS, SERVER_KEYS);
    check_status(reader, object);
    FlowDocument {
        name: reader.string(object, "name"),
        description: reader.string(object, "description"),
        flow_type: reader.string(object, "type"),
        labels: read_labels(reader, object),
        trigger: read_trigger(reader, object),
        // OIH takes an empty cron for none.
        cron: reader
            .string(object, "cron")
            .filter(|cron| !cron.trim().is_empty()),
        graph: read_graph(reader, object, is_whole),
        multi_root: reader.boolean(object, "multiRoot").unwrap_or_default(),
        flow_settings: reader.free_object(object, "flowSettings"),
        timeout: reader.duration(object, "timeout"),
        retention: reader.duration(object, "retention"),
    }
}

fn check_status(reader: &mut Reader, object: &Object<'_>) {
    match object.get("status") {
        None => {}
        Some(Value::String(status)) if status == "inactive" => {}
        Some(_) => reader.error(
            object.at("status"),
            code::SERVER_MANAGED,
            "a document cannot set the status: only `inactive` is allowed here; start and stop set it",
        ),
    }
}

fn read_labels(reader: &mut Reader, object: &Object<'_>) -> BTreeMap<String, String> {
    let Some(labels) = reader.child_object(object, "labels") else {
        return BTreeMap::new();
    };
    if labels.map.len() > FLOW_LABELS_MAX {
        let message = format!(
            "{} labels; at most {FLOW_LABELS_MAX} are allowed",
            labels.map.len()
        );
        reader.error(labels.pointer, code::LIMIT, message);
        return BTreeMap::new();
    }
    let mut read = BTreeMap::new();
    for key in labels.map.keys() {
        // Null is no value here: unlike an option, a label has no default that it could stand for.
        let value = labels.map.get(key).unwrap_or(&Value::Null);
        if let Some(text) = reader.text(value, labels.at(key)) {
            read.insert(key.clone(), text);
        }
    }
    read
}

fn read_trigger(reader: &mut Reader, object: &Object<'_>) -> Trigger {
    let Some(trigger) = reader.child_object(object, "trigger") else {
        return Trigger::default();
    };
    reader.refuse_unknown_keys(&trigger, TRIGGER_KEYS, &[]);
    Trigger {
        schedule: reader
            .child_object(&trigger, "schedule")
            .map(|schedule| schedule::read_schedule(reader, &schedule)),
        webhook: reader
            .child_object(&trigger, "webhook")
            .map(|webhook| webhook::read_webhook(reader, &webhook)),
    }
}

fn read_graph(reader: &mut Reader, object: &Object<'_>, is_whole: &mut bool) -> Graph {
    let Some(value) = reader.required(object, "graph") else {
        *is_whole = false;
        return Graph::default();
    };
    let Some(graph) = reader.object(value, object.at("graph")) else {
        *is_whole = false;
        return Graph::default();
    };
    reader.refuse_unknown_keys(&graph, GRAPH_KEYS, NESTED_SERVER_KEYS);
    let nodes = reader
        .required(&graph, "nodes")
        .map(|value| (value, graph.at("nodes")));
    let edges = graph.get("edges").map(|value| (value, graph.at("edges")));
    Graph {
        nodes: read_list(reader, nodes, FLOW_NODES_MAX, is_whole, read_node),
        edges: read_list(reader, edges, FLOW_EDGES_MAX, is_whole, read_edge),
    }
}

/// Reads every item, also those that are no object, so that positions stay those of the text.
fn read_list<T: Default>(
    reader: &mut Reader,
    list: Option<(&Value, String)>,
    max: usize,
    is_whole: &mut bool,
    read: impl Fn(&mut Reader, &Object<'_>) -> T,
) -> Vec<T> {
    let Some((value, pointer)) = list else {
        return Vec::new();
    };
    let Some(items) = reader.array(value, &pointer) else {
        *is_whole = false;
        return Vec::new();
    };
    if items.len() > max {
        *is_whole = false;
        let message = format!("{} of them; at most {max} are allowed", items.len());
        reader.error(pointer, code::LIMIT, message);
        return Vec::new();
    }
    let mut list = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let object = reader.object(item, child(&pointer, position));
        list.push(object.map_or_else(T::default, |object| read(reader, &object)));
    }
    list
}

fn read_node(reader: &mut Reader, object: &Object<'_>) -> Node {
    reader.refuse_unknown_keys(object, NODE_KEYS, NESTED_SERVER_KEYS);
    Node {
        id: reader.required_string(object, "id"),
        component_id: reader.required_string(object, "componentId"),
        function: reader.required_string(object, "function"),
        name: reader.string(object, "name"),
        description: reader.string(object, "description"),
        credentials_id: reader.string(object, "credentials_id"),
        fields: reader.free_object(object, "fields"),
        node_settings: reader.free_object(object, "nodeSettings"),
        retry: reader
            .child_object(object, "retry")
            .map(|retry| read_retry(reader, &retry)),
        timeout: reader.duration(object, "timeout"),
        join: reader
            .choice(object, "join", &[("each", Join::Each), ("all", Join::All)])
            .unwrap_or_default(),
        concurrency: reader.integer(object, "concurrency"),
        loop_limit: reader.child_object(object, "loop").and_then(|object| {
            reader.refuse_unknown_keys(&object, LOOP_KEYS, &[]);
            reader.required(&object, "maxIterations")?;
            let max_iterations = reader.integer(&object, "maxIterations")?;
            Some(LoopLimit { max_iterations })
        }),
    }
}

fn read_retry(reader: &mut Reader, object: &Object<'_>) -> Retry {
    reader.refuse_unknown_keys(object, RETRY_KEYS, &[]);
    Retry {
        max_attempts: reader.integer(object, "maxAttempts"),
        initial_delay: reader.duration(object, "initialDelay"),
        multiplier: reader.number(object, "multiplier"),
        max_delay: reader.duration(object, "maxDelay"),
        jitter: reader.number(object, "jitter"),
    }
}

fn read_edge(reader: &mut Reader, object: &Object<'_>) -> Edge {
    reader.refuse_unknown_keys(object, EDGE_KEYS, NESTED_SERVER_KEYS);
    let config = reader.child_object(object, "config").map(|config| {
        reader.refuse_unknown_keys(&config, CONFIG_KEYS, NESTED_SERVER_KEYS);
        EdgeConfig {
            condition: reader.string(&config, "condition"),
            mapper: config.get("mapper").cloned(),
        }
    });
    Edge {
        id: reader.string(object, "id"),
        source: reader.required_string(object, "source"),
        target: reader.required_string(object, "target"),
        on: reader
            .choice(
                object,
                "on",
                &[("success", On::Success), ("error", On::Error)],
            )
            .unwrap_or_default(),
        config: config.unwrap_or_default(),
    }
}

/// Adds what the meaning of a partly read document shows, where that does not only repeat what could not be
/// read: a problem at or below a pointer that has one already says nothing new, nor does one of a schedule as
/// a whole (that `every` is missing) when a part of it (`every`) could not be read.
pub(super) fn add_unless_known(problems: &mut Vec<Problem>, more: Vec<Problem>) {
    let known: BTreeSet<String> = problems
        .iter()
        .map(|problem| problem.pointer.clone())
        .collect();
    problems.extend(more.into_iter().filter(|problem| {
        let pointer = problem.pointer.as_str();
        let mut ends = pointer
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([pointer.len()]);
        let below_known = ends.any(|end| known.contains(&pointer[..end]));
        let parts = child(pointer, "");
        let above_known = known
            .range(parts.clone()..)
            .next()
            .is_some_and(|at| at.starts_with(&parts));
        !(below_known || problem.code == code::SCHEDULE && above_known)
    }));
}
