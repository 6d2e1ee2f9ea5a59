//! Calls. A tail call replaces the frame of its caller, so a loop written as recursion needs no depth; it
//! still burns fuel.

use super::{Evaluator, FrameId, Function};
use crate::ast::{Kind, Node};
use crate::error::{EvaluateError, Result};
use crate::limits::ELEMENT_BYTES;
use crate::value::{FunctionId, Value};

/// Arguments of a function of the library.
pub(crate) struct Arguments<'a> {
    values: Vec<Value<'a>>,
}

impl<'a> Arguments<'a> {
    /// The argument at `index`; nothing when it was left out.
    pub fn get(&self, index: usize) -> Value<'a> {
        self.values.get(index).cloned().unwrap_or(Value::Undefined)
    }

    pub fn all(&self) -> &[Value<'a>] {
        &self.values
    }
}

enum Outcome<'a> {
    Value(Value<'a>),
    TailCall {
        procedure: Value<'a>,
        arguments: Vec<Value<'a>>,
    },
}

impl<'a> Evaluator<'a> {
    /// A call as written; `applied` is what `~>` puts in front of the arguments.
    pub(super) fn call(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
        applied: Option<Value<'a>>,
    ) -> Result<Value<'a>> {
        let (procedure, arguments) = self.prepare(node, input, frame, applied)?;
        self.apply(&procedure, arguments, input)
    }

    fn prepare(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
        applied: Option<Value<'a>>,
    ) -> Result<(Value<'a>, Vec<Value<'a>>)> {
        let Kind::Call {
            procedure,
            arguments,
        } = &node.kind
        else {
            unreachable!("only calls are called");
        };
        let function = self.procedure(procedure, input, frame, "T1005", "T1006")?;
        self.charge_memory((arguments.len() + 1) * ELEMENT_BYTES)?;
        let mut values: Vec<Value<'a>> = applied.into_iter().collect();
        for argument in arguments {
            values.push(self.evaluate(argument, input, frame)?);
        }
        Ok((function, values))
    }

    /// What is called, with a hint when only the `$` is missing.
    fn procedure(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
        missing_sign: &'static str,
        no_function: &'static str,
    ) -> Result<Value<'a>> {
        let function = self.evaluate(node, input, frame)?;
        if function.is_function() {
            return Ok(function);
        }
        let name = match &node.kind {
            Kind::Path { steps, .. } => match steps.first().map(|step| &step.kind) {
                Some(Kind::Name(name)) => Some(name),
                _ => None,
            },
            Kind::Variable { name, .. } => {
                let message = format!("${name} is not a function");
                return Err(EvaluateError::failed(no_function, message));
            }
            _ => None,
        };
        if let Some(name) = name
            && function.is_undefined()
            && (crate::functions::find(name).is_some()
                || self.variable_if_bound(name, frame)?.is_some())
        {
            let message = format!("{name} is not a function here, did you mean ${name}?");
            return Err(EvaluateError::failed(missing_sign, message));
        }
        let message = match name {
            Some(name) => format!("{name} is not a function, it is {}", function.described()),
            None => format!(
                "what is called is not a function, it is {}",
                function.described()
            ),
        };
        Err(EvaluateError::failed(no_function, message))
    }

    pub(super) fn apply_operator(
        &mut self,
        left: &'a Node,
        right: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let value = self.evaluate(left, input, frame)?;
        if matches!(right.kind, Kind::Call { .. }) {
            return self.call(right, input, frame, Some(value));
        }
        let function = self.evaluate(right, input, frame)?;
        if !function.is_function() {
            let message = format!(
                "the right side of ~> must be a function, it is {}",
                function.described()
            );
            return Err(EvaluateError::failed("T2006", message));
        }
        if value.is_function() {
            return self.function(Function::Chain {
                first: value,
                second: function,
            });
        }
        self.apply(&function, vec![value], &Value::Null)
    }

    pub(super) fn partial(
        &mut self,
        procedure: &'a Node,
        arguments: &'a [Option<Node>],
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let mut bound = Vec::with_capacity(arguments.len());
        for argument in arguments {
            bound.push(match argument {
                Some(argument) => Some(self.evaluate(argument, input, frame)?),
                None => None,
            });
        }
        let procedure = self.procedure(procedure, input, frame, "T1007", "T1008")?;
        self.charge_memory(arguments.len() * ELEMENT_BYTES)?;
        self.function(Function::Partial {
            procedure,
            arguments: bound,
        })
    }

    /// Calls `procedure`. `input` is the context that fills in arguments left out.
    pub(crate) fn apply(
        &mut self,
        procedure: &Value<'a>,
        arguments: Vec<Value<'a>>,
        input: &Value<'a>,
    ) -> Result<Value<'a>> {
        self.enter()?;
        let mark = self.mark();
        let mut outcome = self.apply_once(procedure, arguments, input)?;
        while let Outcome::TailCall {
            procedure,
            arguments,
        } = outcome
        {
            self.charge(1)?;
            // Nothing refers to the caller's frame any more, unless a closure does.
            self.release(mark);
            outcome = self.apply_once(&procedure, arguments, input)?;
        }
        self.release(mark);
        self.leave();
        match outcome {
            Outcome::Value(value) => Ok(value),
            Outcome::TailCall { .. } => unreachable!("the loop ends on a value"),
        }
    }

    fn apply_once(
        &mut self,
        procedure: &Value<'a>,
        arguments: Vec<Value<'a>>,
        input: &Value<'a>,
    ) -> Result<Outcome<'a>> {
        let id = match procedure {
            Value::Builtin(builtin) => {
                for argument in &arguments {
                    self.charge(argument.len() as u64 / 16)?;
                }
                let values = builtin
                    .signature
                    .apply(&arguments, input)
                    .map_err(|error| named(error, builtin.name))?;
                let value = (builtin.call)(self, Arguments { values })?;
                return Ok(Outcome::Value(value));
            }
            Value::Pattern(pattern) => {
                return Ok(Outcome::Value(self.first_match(pattern, &arguments)?));
            }
            Value::Function(id) => *id,
            other => {
                let message = format!(
                    "what is called is not a function, it is {}",
                    other.described()
                );
                return Err(EvaluateError::failed("T1006", message));
            }
        };
        match self.made(id) {
            Function::Lambda {
                lambda,
                input: context,
                frame,
            } => {
                let arguments = match &lambda.signature {
                    Some(signature) => signature.apply(&arguments, input)?,
                    None => arguments,
                };
                let inner = self.push_frame(frame)?;
                let mut values = arguments.into_iter();
                for parameter in &lambda.parameters {
                    self.bind(inner, parameter, values.next().unwrap_or(Value::Undefined))?;
                }
                self.tail(&lambda.body, &context, inner)
            }
            Function::Partial {
                procedure,
                arguments: bound,
            } => {
                self.charge(bound.len() as u64)?;
                let mut rest = arguments.into_iter();
                let arguments = bound
                    .into_iter()
                    .map(|value| value.or_else(|| rest.next()).unwrap_or(Value::Undefined))
                    .collect();
                Ok(Outcome::TailCall {
                    procedure,
                    arguments,
                })
            }
            Function::Chain { first, second } => {
                let value = self.apply(&first, arguments, &Value::Null)?;
                Ok(Outcome::TailCall {
                    procedure: second,
                    arguments: vec![value],
                })
            }
            Function::Transform { transform, frame } => {
                let input = arguments.into_iter().next().unwrap_or(Value::Undefined);
                Ok(Outcome::Value(self.transform(transform, &input, frame)?))
            }
            Function::NextMatch {
                pattern,
                text,
                from,
            } => Ok(Outcome::Value(self.next_match(pattern, &text, from)?)),
        }
    }

    /// The body of a function: follows conditions and blocks to the call in tail position.
    fn tail(&mut self, body: &'a Node, input: &Value<'a>, frame: FrameId) -> Result<Outcome<'a>> {
        let (mut node, mut frame) = (body, frame);
        loop {
            if !node.predicates.is_empty() || node.group.is_some() {
                return Ok(Outcome::Value(self.evaluate(node, input, frame)?));
            }
            self.charge(1)?;
            match &node.kind {
                Kind::Call { .. } => {
                    let (procedure, arguments) = self.prepare(node, input, frame, None)?;
                    return Ok(Outcome::TailCall {
                        procedure,
                        arguments,
                    });
                }
                Kind::Condition {
                    condition,
                    then,
                    otherwise,
                } => {
                    let flag = self.evaluate(condition, input, frame)?;
                    node = match (self.truth(&flag)?, otherwise) {
                        (true, _) => then,
                        (false, Some(otherwise)) => otherwise,
                        (false, None) => return Ok(Outcome::Value(Value::Undefined)),
                    };
                }
                Kind::Block(expressions) => {
                    let Some((last, before)) = expressions.split_last() else {
                        return Ok(Outcome::Value(Value::Undefined));
                    };
                    frame = self.push_frame(frame)?;
                    for expression in before {
                        self.evaluate(expression, input, frame)?;
                    }
                    node = last;
                }
                _ => return Ok(Outcome::Value(self.evaluate(node, input, frame)?)),
            }
        }
    }

    fn made(&self, id: FunctionId) -> Function<'a> {
        self.functions[id.0 as usize].clone()
    }

    /// How many arguments the function takes.
    pub(crate) fn arity(&self, function: &Value<'a>) -> usize {
        match function {
            Value::Builtin(builtin) => builtin.arity,
            Value::Function(id) => match &self.functions[id.0 as usize] {
                Function::Lambda { lambda, .. } => lambda.parameters.len(),
                Function::Partial { arguments, .. } => {
                    arguments.iter().filter(|bound| bound.is_none()).count()
                }
                Function::NextMatch { .. } => 0,
                Function::Chain { .. } | Function::Transform { .. } => 1,
            },
            _ => 1,
        }
    }
}

fn named(error: EvaluateError, name: &str) -> EvaluateError {
    match error {
        EvaluateError::Failed { code, message } => EvaluateError::Failed {
            code,
            message: format!("${name}: {message}"),
        },
        other => other,
    }
}
