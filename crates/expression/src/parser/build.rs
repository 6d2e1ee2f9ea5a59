//! Building of paths and of what is attached to their steps: filters, groups, orders, bindings.

use super::{Parsed, Parser, Result, Written};
use crate::ast::{Kind, Node, Operator, SortTerm, Stage};
use crate::error::ParseError;

pub(super) fn deepest(nodes: &[Node]) -> u32 {
    nodes.iter().map(|node| node.depth).max().unwrap_or(0)
}

pub(super) fn call_depth(procedure: &Node, arguments: &[Option<Node>]) -> u32 {
    let arguments = arguments
        .iter()
        .flatten()
        .map(|node| node.depth)
        .max()
        .unwrap_or(0);
    procedure.depth.max(arguments) + 1
}

/// The step that a filter or binding belongs to: the last one of a path, or the node itself.
fn last_step(node: &mut Node) -> &mut Node {
    if !matches!(&node.kind, Kind::Path { steps, .. } if !steps.is_empty()) {
        return node;
    }
    match &mut node.kind {
        Kind::Path { steps, .. } => steps.last_mut().expect("a path has at least one step"),
        _ => unreachable!("checked above"),
    }
}

/// The node as a path, which it may already be.
fn into_path(node: Box<Node>) -> Box<Node> {
    if matches!(node.kind, Kind::Path { .. }) {
        return node;
    }
    let (position, depth) = (node.position, node.depth + 1);
    let mut path = Node::new(
        Kind::Path {
            steps: vec![*node],
            keep_singleton: false,
        },
        position,
    );
    path.depth = depth;
    path
}

impl Parser {
    pub(super) fn binary(
        &mut self,
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
        position: usize,
    ) -> Box<Node> {
        let mut node = Node::new(Kind::Null, position);
        node.depth = left.depth.max(right.depth) + 1;
        self.ancestry.inherit(&mut node, &left);
        self.ancestry.inherit(&mut node, &right);
        node.kind = Kind::Binary {
            operator,
            left,
            right,
        };
        node
    }

    pub(super) fn dot(&mut self, left: Box<Node>, right: Box<Node>) -> Result<Parsed> {
        let leading_parent = match left.kind {
            Kind::Parent(slot) => Some(slot),
            _ => None,
        };
        let was_path = matches!(left.kind, Kind::Path { .. });
        let mut path = into_path(left);
        path.seeking.extend(leading_parent);
        path.depth = path.depth.max(right.depth + 1);
        let Kind::Path {
            steps,
            keep_singleton,
        } = &mut path.kind
        else {
            unreachable!("into_path gives a path");
        };
        let known = if was_path { steps.len() } else { 0 };
        match right.kind {
            Kind::Path { steps: more, .. } => steps.extend(more),
            _ => {
                let mut step = *right;
                step.stages.extend(
                    std::mem::take(&mut step.predicates)
                        .into_iter()
                        .map(Stage::Filter),
                );
                steps.push(step);
            }
        }
        for step in &mut steps[known..] {
            match &mut step.kind {
                Kind::Number(_) | Kind::Bool(_) | Kind::Null => {
                    let message = "S0213: a literal value cannot be a step of a path";
                    return Err(ParseError::new(step.position, message));
                }
                Kind::String(name) => step.kind = Kind::Name(std::mem::take(name)),
                _ => {}
            }
        }
        // Steps further left were looked at when they were added.
        *keep_singleton |= steps[known.saturating_sub(1)..]
            .iter()
            .any(|step| step.keep_array);
        for step in [0, steps.len() - 1] {
            if matches!(steps[step].kind, Kind::Array(_)) {
                steps[step].constructed = true;
            }
        }
        self.ancestry.resolve(&mut path)?;
        Ok(path.into())
    }

    /// `a[…]` or `a[]`
    pub(super) fn bracket(&mut self, mut left: Parsed, position: usize) -> Result<Parsed> {
        if self.is("]") {
            self.advance(false)?;
            left.node.keep_array = true;
            match left.written {
                Written::Name | Written::Focus => last_step(&mut left.node).keep_array = true,
                Written::Variable | Written::Other => {}
            }
            if left.written == Written::Name
                && let Kind::Path { keep_singleton, .. } = &mut left.node.kind
            {
                *keep_singleton = true;
            }
            return Ok(left);
        }
        let predicate = self.expression(0)?.node;
        self.expect("]", true)?;
        let in_path = matches!(left.node.kind, Kind::Path { .. });
        left.node.depth = left
            .node
            .depth
            .max(predicate.depth + if in_path { 2 } else { 1 });
        let step = last_step(&mut left.node);
        if step.group.is_some() {
            return Err(ParseError::new(
                position,
                "S0209: a filter cannot follow a grouping of the same step",
            ));
        }
        self.ancestry.resolve_predicate(step, &predicate)?;
        if in_path {
            step.stages.push(Stage::Filter(*predicate));
        } else {
            step.predicates.push(*predicate);
        }
        left.filtered = true;
        Ok(left)
    }

    /// `a{…}`
    pub(super) fn group(&mut self, mut left: Box<Node>, position: usize) -> Result<Parsed> {
        let group = self.pairs()?;
        if left.group.is_some() {
            return Err(ParseError::new(
                position,
                "S0210: a step can have only one grouping",
            ));
        }
        for (key, value) in &group.pairs {
            left.depth = left.depth.max(key.depth.max(value.depth) + 1);
        }
        left.group = Some(group);
        Ok(left.into())
    }

    /// `a^(…)`
    pub(super) fn sort(&mut self, left: Box<Node>, position: usize) -> Result<Parsed> {
        self.expect("(", false)?;
        let mut step = Node::new(Kind::Null, position);
        let mut terms = Vec::new();
        loop {
            let descending = self.is(">");
            if descending || self.is("<") {
                self.advance(false)?;
            }
            let expression = self.expression(0)?.node;
            self.ancestry.inherit(&mut step, &expression);
            step.depth = step.depth.max(expression.depth + 1);
            terms.push(SortTerm {
                descending,
                expression: *expression,
            });
            if !self.is(",") {
                break;
            }
            self.advance(false)?;
        }
        self.expect(")", false)?;
        step.kind = Kind::Sort(terms);
        let mut path = into_path(left);
        path.depth = path.depth.max(step.depth + 1);
        if let Kind::Path { steps, .. } = &mut path.kind {
            steps.push(*step);
        }
        self.ancestry.resolve(&mut path)?;
        Ok(path.into())
    }

    fn binding_name(&mut self, sign: &str) -> Result<String> {
        let variable = self.expression(80)?;
        match variable.node.kind {
            Kind::Variable { name, .. } if !variable.filtered => {
                self.bound.push(name.clone());
                Ok(name)
            }
            _ => {
                let message =
                    format!("S0214: the right side of {sign} must be a variable such as $x");
                Err(ParseError::new(variable.node.position, message))
            }
        }
    }

    /// `a@$x`
    pub(super) fn focus(&mut self, mut left: Box<Node>, position: usize) -> Result<Parsed> {
        let name = self.binding_name("@")?;
        let step = last_step(&mut left);
        if !step.stages.is_empty() || !step.predicates.is_empty() {
            return Err(ParseError::new(
                position,
                "S0215: @ must stand before the filters of its step",
            ));
        }
        if matches!(step.kind, Kind::Sort(_)) {
            return Err(ParseError::new(
                position,
                "S0216: @ must stand before the order of its step",
            ));
        }
        step.focus = Some(name);
        step.tuple = true;
        Ok(Parsed {
            node: left,
            written: Written::Focus,
            filtered: false,
        })
    }

    /// `a#$i`
    pub(super) fn index(&mut self, left: Box<Node>, _position: usize) -> Result<Parsed> {
        let name = self.binding_name("#")?;
        let was_path = matches!(left.kind, Kind::Path { .. });
        let mut path = into_path(left);
        let step = last_step(&mut path);
        if !was_path {
            step.stages.extend(
                std::mem::take(&mut step.predicates)
                    .into_iter()
                    .map(Stage::Filter),
            );
        }
        if step.stages.is_empty() {
            step.index = Some(name);
        } else {
            step.stages.push(Stage::Index(name));
        }
        step.tuple = true;
        Ok(path.into())
    }
}
