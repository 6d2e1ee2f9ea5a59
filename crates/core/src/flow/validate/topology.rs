//! The graph as a whole: ids, edges, roots, what they reach, cycles and joins.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_types::flow::{FlowDocument, Join, Node};

use crate::flow::graph::Digraph;
use crate::flow::problem::{Problem, child, code};
use crate::flow::read::quoted;

/// Nodes of a cycle that a message names.
const CYCLE_NODES_SHOWN: usize = 8;

pub(super) fn check(doc: &FlowDocument) -> Vec<Problem> {
    let nodes = &doc.graph.nodes;
    let mut topology = Topology {
        doc,
        by_id: BTreeMap::new(),
        duplicate: vec![false; nodes.len()],
        entered: vec![false; nodes.len()],
        edges: Vec::new(),
        problems: Vec::new(),
    };
    topology.check_ids();
    topology.check_edges();
    topology.check_roots();
    topology.check_cycles();
    topology.problems
}

struct Topology<'d> {
    doc: &'d FlowDocument,
    /// The first node of each id.
    by_id: BTreeMap<&'d str, usize>,
    /// Nodes whose id an earlier one has: no edge can mean them.
    duplicate: Vec<bool>,
    /// Nodes with an edge from another node, whether that is known or not.
    entered: Vec<bool>,
    /// Edges between known nodes, as (source, target, position in the document).
    edges: Vec<(usize, usize, usize)>,
    problems: Vec<Problem>,
}

impl<'d> Topology<'d> {
    fn nodes(&self) -> &'d [Node] {
        &self.doc.graph.nodes
    }

    fn error(&mut self, pointer: String, code: &'static str, message: impl Into<String>) {
        self.problems.push(Problem::error(pointer, code, message));
    }

    fn name(&self, node: usize) -> String {
        quoted(&self.nodes()[node].id)
    }

    fn check_ids(&mut self) {
        for (position, node) in self.nodes().iter().enumerate() {
            // An empty id has its own problem, and no edge can mean it.
            if node.id.is_empty() {
                self.duplicate[position] = true;
            } else if let Some(first) = self.by_id.get(node.id.as_str()) {
                let message = format!(
                    "the id {} is taken by /graph/nodes/{first}: ids are unique within a flow",
                    quoted(&node.id)
                );
                self.duplicate[position] = true;
                self.error(node_pointer(position, "/id"), code::DUPLICATE_NODE, message);
            } else {
                self.by_id.insert(&node.id, position);
            }
        }
    }

    fn check_edges(&mut self) {
        let mut seen = BTreeMap::new();
        for (position, edge) in self.doc.graph.edges.iter().enumerate() {
            let pointer = child("/graph/edges", position);
            let source = self.resolve(&pointer, "source", &edge.source);
            let target = self.resolve(&pointer, "target", &edge.target);
            if let Some(target) = target
                && source != Some(target)
            {
                self.entered[target] = true;
            }
            if let (Some(source), Some(target)) = (source, target) {
                self.edges.push((source, target, position));
            }
            let error = edge.on == tidemill_types::flow::On::Error;
            let kind = (&edge.source, &edge.target, error, &edge.config.condition);
            if let Some(first) = seen.insert(kind, position) {
                let message =
                    format!("the same as /graph/edges/{first}: each message goes both ways");
                self.problems
                    .push(Problem::warning(pointer, code::DUPLICATE_EDGE, message));
            }
        }
    }

    fn resolve(&mut self, edge: &str, end: &str, id: &str) -> Option<usize> {
        let node = self.by_id.get(id).copied();
        if node.is_none() {
            let message = if id.is_empty() {
                "may not be empty".to_owned()
            } else {
                format!("there is no node {}", quoted(id))
            };
            self.error(child(edge, end), code::UNKNOWN_NODE, message);
        }
        node
    }

    fn check_roots(&mut self) {
        let roots: Vec<usize> = (0..self.nodes().len())
            .filter(|node| !self.entered[*node] && !self.duplicate[*node])
            .collect();
        let Some(first) = roots.first() else {
            // A node that no edge can mean would be a root if its id were right.
            if !self.by_id.is_empty() && !self.duplicate.contains(&true) {
                let message = "every node has an edge from another one, so an execution cannot start: \
                    start with a node outside of the cycle";
                self.error("/graph/nodes".to_owned(), code::NO_ROOT, message);
            }
            return;
        };
        if !self.doc.multi_root {
            for root in &roots[1..] {
                let message = format!(
                    "{} has no edge from another node, so it is a second root beside {}: \
                     connect it, or set `multiRoot: true`",
                    self.name(*root),
                    self.name(*first)
                );
                self.error(node_pointer(*root, ""), code::SEVERAL_ROOTS, message);
            }
        }
        // What an edge from an unknown node enters may well be reached, once that edge is right.
        let known: BTreeSet<usize> = self.edges.iter().map(|(_, target, _)| *target).collect();
        let unclear =
            (0..self.nodes().len()).filter(|node| self.entered[*node] && !known.contains(node));
        let reached = self
            .graph(|_| true)
            .reachable(roots.iter().copied().chain(unclear));
        for (node, reached) in reached.into_iter().enumerate() {
            if !reached && !self.duplicate[node] {
                let message = format!("no root reaches {}, so it never runs", self.name(node));
                self.error(node_pointer(node, ""), code::UNREACHABLE_NODE, message);
            }
        }
    }

    fn check_cycles(&mut self) {
        let whole = self.graph(|_| true).cyclic_components();
        for (position, node) in self.nodes().iter().enumerate() {
            let in_cycle = whole[position].is_some();
            if in_cycle && node.join == Join::All {
                let message = format!(
                    "{} is in a cycle, so it would wait for itself: `join: all` is not allowed there",
                    self.name(position)
                );
                self.error(
                    node_pointer(position, "/join"),
                    code::JOIN_IN_CYCLE,
                    message,
                );
            }
            if !in_cycle && node.loop_limit.is_some() && !self.duplicate[position] {
                let message = format!(
                    "{} is in no cycle: `loop` does nothing",
                    self.name(position)
                );
                let pointer = node_pointer(position, "/loop");
                self.problems
                    .push(Problem::warning(pointer, code::LOOP_WITHOUT_CYCLE, message));
            }
        }
        // A cycle passes no node with a limit exactly if it is still there without all of those.
        let unlimited = |node: &Node| node.loop_limit.is_none();
        let graph = self.graph(unlimited);
        let mut reported = BTreeSet::new();
        for (node, component) in graph.cyclic_components().into_iter().enumerate() {
            if component.is_some_and(|component| reported.insert(component)) {
                let cycle = graph.shortest_cycle(node);
                self.report_cycle(&cycle);
            }
        }
    }

    fn report_cycle(&mut self, cycle: &[usize]) {
        let (first, last) = (cycle[0], cycle[cycle.len() - 1]);
        let mut way: Vec<String> = cycle
            .iter()
            .take(CYCLE_NODES_SHOWN)
            .map(|node| self.name(*node))
            .collect();
        if cycle.len() > CYCLE_NODES_SHOWN {
            way.push("...".to_owned());
        }
        way.push(self.name(first));
        let closing = self
            .edges
            .iter()
            .find(|(source, target, _)| (*source, *target) == (last, first));
        let position = closing.map_or(0, |(_, _, position)| *position);
        let message = format!(
            "the cycle {} passes no node with `loop: {{maxIterations}}`, so it would never end",
            way.join(" -> ")
        );
        self.error(child("/graph/edges", position), code::CYCLE, message);
    }

    /// The known edges between nodes that are kept.
    fn graph(&self, keep: impl Fn(&Node) -> bool) -> Digraph {
        let nodes = self.nodes();
        let edges = self
            .edges
            .iter()
            .map(|(source, target, _)| (*source, *target));
        Digraph::new(
            nodes.len(),
            edges.filter(|(source, target)| keep(&nodes[*source]) && keep(&nodes[*target])),
        )
    }
}

fn node_pointer(position: usize, rest: &str) -> String {
    format!("/graph/nodes/{position}{rest}")
}
