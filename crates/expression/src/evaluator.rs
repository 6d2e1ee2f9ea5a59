//! Walks the tree. Owns the budget, the call frames and the function objects of one evaluation; whatever
//! loops, allocates or recurses below this module asks the budget first. Must never read a clock.

mod budget;
mod call;
mod group;
mod operators;
mod output;
mod path;
mod regex;
mod sort;
mod transform;

use std::rc::Rc;

use serde_json::Value as Json;

use crate::ast::{Kind, Lambda, Node, Stage, Transform, Tree};
use crate::error::{EvaluateError, Result};
use crate::limits::{FRAME_BYTES, Limits};
use crate::pattern::Pattern;
use crate::value::{Array, Text, Tuple, Value};
pub(crate) use call::Arguments;
pub(crate) use regex::Match;

/// Index of a call frame in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

#[derive(Debug)]
struct Frame<'a> {
    parent: Option<FrameId>,
    names: Vec<(&'a str, Value<'a>)>,
}

/// A function that the expression made.
#[derive(Debug, Clone)]
pub(crate) enum Function<'a> {
    Lambda {
        lambda: &'a Lambda,
        input: Value<'a>,
        frame: FrameId,
    },
    /// Arguments bound so far; `None` is still open.
    Partial {
        procedure: Value<'a>,
        arguments: Vec<Option<Value<'a>>>,
    },
    /// `first ~> second`
    Chain { first: Value<'a>, second: Value<'a> },
    Transform {
        transform: &'a Transform,
        frame: FrameId,
    },
    /// The `next` of a match: goes on from a byte offset.
    NextMatch {
        pattern: &'a Pattern,
        text: Text<'a>,
        from: usize,
    },
}

pub(crate) struct Evaluator<'a> {
    tree: &'a Tree,
    limits: &'a Limits,
    steps: u64,
    memory: usize,
    depth: u32,
    frames: Vec<Frame<'a>>,
    functions: Vec<Function<'a>>,
}

/// Evaluates `tree` and gives the result as JSON.
pub(crate) fn run(
    tree: &Tree,
    input: &Json,
    bindings: &[(&str, &Json)],
    limits: &Limits,
) -> Result<Option<Json>> {
    let mut evaluator = Evaluator::new(tree, limits);
    let value = evaluator.root(input, bindings)?;
    evaluator.result(&value)
}

/// Evaluates `tree` and wants true or false.
pub(crate) fn run_condition(
    tree: &Tree,
    input: &Json,
    bindings: &[(&str, &Json)],
    limits: &Limits,
) -> Result<bool> {
    let mut evaluator = Evaluator::new(tree, limits);
    match evaluator.root(input, bindings)? {
        Value::Bool(flag) => Ok(flag),
        other => Err(EvaluateError::NotBoolean { got: other.kind() }),
    }
}

impl<'a> Evaluator<'a> {
    fn new(tree: &'a Tree, limits: &'a Limits) -> Self {
        Self {
            tree,
            limits,
            steps: limits.steps,
            memory: limits.memory_bytes,
            depth: 0,
            frames: Vec::new(),
            functions: Vec::new(),
        }
    }

    fn root(&mut self, input: &'a Json, bindings: &[(&'a str, &'a Json)]) -> Result<Value<'a>> {
        let input = Value::from_json(input);
        let mut names: Vec<(&'a str, Value<'a>)> = bindings
            .iter()
            .map(|(name, value)| (*name, Value::from_json(value)))
            .collect();
        names.push(("$", input.clone()));
        self.frames.push(Frame {
            parent: None,
            names,
        });
        // An input that is an array is one input, not many.
        let context = match &input {
            Value::JsonArray(_) => Value::Array(Rc::new(Array {
                depth: 2,
                items: vec![input],
                sequence: true,
                outer_wrapper: true,
                ..Array::default()
            })),
            _ => input,
        };
        let tree = self.tree;
        self.evaluate(&tree.root, &context, FrameId(0))
    }

    /// Evaluates one node in the context `input`.
    pub(crate) fn evaluate(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        self.enter()?;
        let mut value = self.dispatch(node, input, frame)?;
        for predicate in &node.predicates {
            value = self.filter(predicate, &value, frame)?;
        }
        if let Some(group) = &node.group
            && !matches!(node.kind, Kind::Path { .. })
        {
            value = self.group(group, &value, frame)?;
        }
        self.leave();
        Ok(settle(value, node.keep_array))
    }

    fn dispatch(&mut self, node: &'a Node, input: &Value<'a>, frame: FrameId) -> Result<Value<'a>> {
        match &node.kind {
            Kind::Path {
                steps,
                keep_singleton,
            } => self.path(node, steps, *keep_singleton, input, frame),
            Kind::Name(name) => self.lookup(input, name),
            Kind::String(text) => Ok(Value::String(Text::Borrowed(text))),
            Kind::Number(number) => Ok(Value::Number(*number)),
            Kind::Bool(flag) => Ok(Value::Bool(*flag)),
            Kind::Null => Ok(Value::Null),
            Kind::Wildcard => self.wildcard(input),
            Kind::Descendant => self.descendants(input),
            Kind::Parent(slot) => {
                let tree = self.tree;
                self.variable(&tree.labels[*slot], frame)
            }
            Kind::Variable { name, builtin } => match (name.as_str(), builtin) {
                ("", _) => Ok(match input {
                    Value::Array(array) if array.outer_wrapper => input.item(0),
                    _ => input.clone(),
                }),
                (name, Some(builtin)) => match self.variable_if_bound(name, frame)? {
                    Some(value) => Ok(value),
                    None => Ok(Value::Builtin(builtin)),
                },
                (name, None) => self.variable(name, frame),
            },
            Kind::Regex(pattern) => Ok(Value::Pattern(pattern)),
            Kind::Binary { .. } => self.binary(node, input, frame),
            Kind::Negate(operand) => match self.evaluate(operand, input, frame)? {
                Value::Undefined => Ok(Value::Undefined),
                value => match operators::finite(&value)? {
                    Some(number) => Ok(Value::Number(-number)),
                    None => Err(EvaluateError::failed(
                        "D1002",
                        format!("- needs a number, this is {}", value.described()),
                    )),
                },
            },
            Kind::Array(items) => self.construct_array(node, items, input, frame),
            Kind::Object(group) => self.group(group, input, frame),
            Kind::Call { .. } => self.call(node, input, frame, None),
            Kind::Partial {
                procedure,
                arguments,
            } => self.partial(procedure, arguments, input, frame),
            Kind::Lambda(lambda) => self.function(Function::Lambda {
                lambda,
                input: input.clone(),
                frame,
            }),
            Kind::Condition { .. } => self.condition(node, input, frame),
            Kind::Elvis { left, right } => {
                let value = self.evaluate(left, input, frame)?;
                if self.truth(&value)? {
                    Ok(value)
                } else {
                    self.evaluate(right, input, frame)
                }
            }
            Kind::Coalesce { left, right } => match self.evaluate(left, input, frame)? {
                Value::Undefined => self.evaluate(right, input, frame),
                value => Ok(value),
            },
            Kind::Block(expressions) => {
                let mark = self.mark();
                let inner = self.push_frame(frame)?;
                let mut value = Value::Undefined;
                for expression in expressions {
                    value = self.evaluate(expression, input, inner)?;
                }
                self.release(mark);
                Ok(value)
            }
            Kind::Bind { name, value } => {
                let value = self.evaluate(value, input, frame)?;
                self.bind(frame, name, value.clone())?;
                Ok(value)
            }
            Kind::Apply { left, right } => self.apply_operator(left, right, input, frame),
            Kind::Transform(transform) => self.function(Function::Transform { transform, frame }),
            Kind::Sort(terms) => self.sort_by_terms(terms, input, frame),
        }
    }

    /// Walks a list of cases without recursing into each "otherwise".
    fn condition(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let mut node = node;
        while let Kind::Condition {
            condition,
            then,
            otherwise,
        } = &node.kind
        {
            self.charge(1)?;
            let flag = self.evaluate(condition, input, frame)?;
            node = match (self.truth(&flag)?, otherwise) {
                (true, _) => return self.evaluate(then, input, frame),
                (false, Some(otherwise)) => otherwise,
                (false, None) => return Ok(Value::Undefined),
            };
            if !node.predicates.is_empty() || node.group.is_some() || node.keep_array {
                break;
            }
        }
        self.evaluate(node, input, frame)
    }

    fn construct_array(
        &mut self,
        node: &'a Node,
        items: &'a [Node],
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let mut built = Vec::with_capacity(items.len());
        for item in items {
            let value = self.evaluate(item, input, frame)?;
            match value {
                Value::Undefined => {}
                _ if matches!(item.kind, Kind::Array(_)) => built.push(value),
                value if value.is_array() => {
                    self.charge_elements(value.len())?;
                    built.extend(value.items());
                }
                value => built.push(value),
            }
        }
        let mut array = self.plain(built)?;
        array.constructed = node.constructed;
        Ok(Value::Array(Rc::new(array)))
    }

    /// A plain array, paid for.
    pub(crate) fn plain(&mut self, items: Vec<Value<'a>>) -> Result<Array<'a>> {
        self.charge_elements(items.len())?;
        let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
        check_value_depth(depth)?;
        Ok(Array {
            items,
            depth,
            ..Array::default()
        })
    }

    pub(crate) fn array(&mut self, items: Vec<Value<'a>>) -> Result<Value<'a>> {
        Ok(Value::Array(Rc::new(self.plain(items)?)))
    }

    pub(crate) fn sequence(&mut self, items: Vec<Value<'a>>) -> Result<Value<'a>> {
        let mut array = self.plain(items)?;
        array.sequence = true;
        Ok(Value::Array(Rc::new(array)))
    }

    /// A new frame inside `parent`.
    fn push_frame(&mut self, parent: FrameId) -> Result<FrameId> {
        self.charge_memory(FRAME_BYTES)?;
        let id =
            FrameId(u32::try_from(self.frames.len()).expect("memory ends before frame numbers do"));
        self.frames.push(Frame {
            parent: Some(parent),
            names: Vec::new(),
        });
        Ok(id)
    }

    fn frame_of_tuple(&mut self, parent: FrameId, tuple: &Tuple<'a>) -> Result<FrameId> {
        let frame = self.push_frame(parent)?;
        for (name, value) in &tuple.names {
            self.bind(frame, name, value.clone())?;
        }
        Ok(frame)
    }

    /// Remembers how far the arenas reach, to give the frames of a finished call back.
    fn mark(&self) -> (usize, usize) {
        (self.frames.len(), self.functions.len())
    }

    /// Drops the frames since `mark`, unless a function made since may still refer to them.
    fn release(&mut self, mark: (usize, usize)) {
        let (frames, functions) = mark;
        if self.functions.len() == functions && self.frames.len() > frames {
            let names: usize = self.frames[frames..]
                .iter()
                .map(|frame| frame.names.len() + 1)
                .sum();
            self.memory += names * FRAME_BYTES;
            self.frames.truncate(frames);
        }
    }

    fn bind(&mut self, frame: FrameId, name: &'a str, value: Value<'a>) -> Result<()> {
        self.charge(1 + self.frames[frame.0 as usize].names.len() as u64 / 8)?;
        let names = &mut self.frames[frame.0 as usize].names;
        if let Some((_, slot)) = names.iter_mut().find(|(known, _)| *known == name) {
            *slot = value;
            return Ok(());
        }
        names.push((name, value));
        self.charge_memory(FRAME_BYTES)
    }

    fn variable(&mut self, name: &str, frame: FrameId) -> Result<Value<'a>> {
        Ok(self
            .variable_if_bound(name, frame)?
            .unwrap_or(Value::Undefined))
    }

    fn variable_if_bound(&mut self, name: &str, frame: FrameId) -> Result<Option<Value<'a>>> {
        let mut next = Some(frame);
        let mut seen = 0;
        let mut found = None;
        while let Some(id) = next {
            let frame = &self.frames[id.0 as usize];
            seen += 1 + frame.names.len() as u64;
            if let Some((_, value)) = frame.names.iter().find(|(known, _)| *known == name) {
                found = Some(value.clone());
                break;
            }
            next = frame.parent;
        }
        self.charge(seen / 8)?;
        Ok(found)
    }

    pub(crate) fn function(&mut self, function: Function<'a>) -> Result<Value<'a>> {
        self.charge_memory(FRAME_BYTES)?;
        let id =
            u32::try_from(self.functions.len()).expect("memory ends before function numbers do");
        self.functions.push(function);
        Ok(Value::Function(crate::value::FunctionId(id)))
    }

    pub(crate) fn now_ms(&self) -> Option<i64> {
        self.limits.now_ms
    }
}

/// A sequence of one stands for its item, an empty one for nothing.
fn settle(value: Value<'_>, keep_array: bool) -> Value<'_> {
    let Value::Array(mut array) = value else {
        return value;
    };
    if !array.sequence {
        return Value::Array(array);
    }
    if keep_array && !array.keep_singleton {
        Rc::make_mut(&mut array).keep_singleton = true;
    }
    match array.items.as_slice() {
        [] => Value::Undefined,
        [only] if !array.keep_singleton => only.clone(),
        _ => Value::Array(array),
    }
}

fn check_value_depth(depth: u32) -> Result<()> {
    if depth > crate::limits::VALUE_DEPTH_MAX {
        return Err(EvaluateError::DepthLimit);
    }
    Ok(())
}

fn stages(node: &Node) -> &[Stage] {
    &node.stages
}
