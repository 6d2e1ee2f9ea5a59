//! Operators between two values, truth, equality and order.

use std::cmp::Ordering;
use std::rc::Rc;

use super::{Evaluator, FrameId};
use crate::ast::{Kind, Node, Operator};
use crate::error::{EvaluateError, Result};
use crate::value::Value;

/// Longest range, whatever the fuel: the reference implementation's limit.
const RANGE_MAX: f64 = 1e7;

/// The number, if this is one. An infinite one is an error wherever it is used.
pub(crate) fn finite(value: &Value<'_>) -> Result<Option<f64>> {
    match value.as_number() {
        Some(number) if number.is_nan() => Ok(None),
        Some(number) if number.is_infinite() => {
            Err(EvaluateError::failed("D1001", "number out of range"))
        }
        number => Ok(number),
    }
}

/// Order of text by UTF-16 units, as JavaScript compares.
pub(crate) fn compare_text(left: &str, right: &str) -> Ordering {
    if left.is_ascii() || right.is_ascii() {
        return left.cmp(right);
    }
    left.encode_utf16().cmp(right.encode_utf16())
}

impl<'a> Evaluator<'a> {
    /// A chain of operators is walked, not recursed into: `a & b & …` may be long.
    pub(super) fn binary(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let mut chain = Vec::new();
        let mut first = node;
        while let Kind::Binary {
            operator,
            left,
            right,
        } = &first.kind
        {
            chain.push((*operator, &**right));
            first = left;
            if !first.predicates.is_empty() || first.group.is_some() || first.keep_array {
                break;
            }
        }
        let mut value = self.evaluate(first, input, frame)?;
        for (operator, right) in chain.into_iter().rev() {
            self.charge(1)?;
            value = match operator {
                Operator::And => {
                    Value::Bool(self.truth(&value)? && self.evaluate_truth(right, input, frame)?)
                }
                Operator::Or => {
                    Value::Bool(self.truth(&value)? || self.evaluate_truth(right, input, frame)?)
                }
                _ => {
                    let right = self.evaluate(right, input, frame)?;
                    self.operate(operator, &value, &right)?
                }
            };
        }
        Ok(value)
    }

    fn evaluate_truth(
        &mut self,
        node: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<bool> {
        let value = self.evaluate(node, input, frame)?;
        self.truth(&value)
    }

    fn operate(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<Value<'a>> {
        match operator {
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo => arithmetic(operator, left, right),
            Operator::Equal | Operator::NotEqual => {
                if left.is_undefined() || right.is_undefined() {
                    return Ok(Value::Bool(false));
                }
                Ok(Value::Bool(
                    self.equal(left, right)? == (operator == Operator::Equal),
                ))
            }
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => self.compare(operator, left, right),
            Operator::Concatenate => self.concatenate(left, right),
            Operator::Range => self.range(left, right),
            Operator::In => {
                if left.is_undefined() || right.is_undefined() {
                    return Ok(Value::Bool(false));
                }
                self.charge(right.len() as u64)?;
                let found = right.items().any(|item| same(left, &item));
                Ok(Value::Bool(found))
            }
            Operator::And | Operator::Or => {
                unreachable!("binary() evaluates these, to skip their right side")
            }
        }
    }

    fn concatenate(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
        let left = self.stringify(left, false)?;
        let right = self.stringify(right, false)?;
        let (left, right) = (left.unwrap_or_default(), right.unwrap_or_default());
        self.charge_text(left.len() + right.len())?;
        let mut text = String::with_capacity(left.len() + right.len());
        text.push_str(&left);
        text.push_str(&right);
        Ok(Value::text(text))
    }

    fn compare(
        &mut self,
        operator: Operator,
        left: &Value<'a>,
        right: &Value<'a>,
    ) -> Result<Value<'a>> {
        let comparable = |value: &Value<'_>| {
            matches!(
                value,
                Value::Undefined | Value::String(_) | Value::Number(_) | Value::Exact(_)
            )
        };
        if let Some(wrong) = [left, right].into_iter().find(|value| !comparable(value)) {
            let message = format!(
                "only numbers and strings can be compared, this is {}",
                wrong.described()
            );
            return Err(EvaluateError::failed("T2010", message));
        }
        if left.is_undefined() || right.is_undefined() {
            return Ok(Value::Undefined);
        }
        let order = match (left.as_str(), right.as_str()) {
            (Some(left), Some(right)) => {
                self.charge_reading(left.len().min(right.len()))?;
                Some(compare_text(left, right))
            }
            (None, None) => compare_numbers(left, right),
            _ => {
                let message = format!(
                    "{} cannot be compared with {}",
                    left.described(),
                    right.described()
                );
                return Err(EvaluateError::failed("T2009", message));
            }
        };
        Ok(Value::Bool(match operator {
            Operator::Less => order.is_some_and(Ordering::is_lt),
            Operator::LessOrEqual => order.is_some_and(Ordering::is_le),
            Operator::Greater => order.is_some_and(Ordering::is_gt),
            _ => order.is_some_and(Ordering::is_ge),
        }))
    }

    /// The order of `$sort` without a function.
    pub(crate) fn is_greater(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool> {
        Ok(matches!(
            self.compare(Operator::Greater, left, right)?,
            Value::Bool(true)
        ))
    }

    fn range(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
        for (value, code) in [(left, "T2003"), (right, "T2004")] {
            let integer = value
                .as_number()
                .is_some_and(|number| number.fract() == 0.0);
            if !value.is_undefined() && !integer {
                return Err(EvaluateError::failed(
                    code,
                    "both sides of .. must be integers",
                ));
            }
        }
        let (Some(from), Some(to)) = (left.as_number(), right.as_number()) else {
            return Ok(Value::Undefined);
        };
        if from > to {
            return Ok(Value::Undefined);
        }
        let size = to - from + 1.0;
        if size > RANGE_MAX {
            return Err(EvaluateError::failed(
                "D2014",
                format!("the range has {size} items, at most 1e7 are allowed"),
            ));
        }
        self.charge_elements(size as usize)?;
        let items = (0..size as u64)
            .map(|offset| Value::Number(from + offset as f64))
            .collect();
        self.sequence(items)
    }

    /// Whether the value counts as true. Nothing does not.
    pub(crate) fn truth(&mut self, value: &Value<'a>) -> Result<bool> {
        Ok(match value {
            Value::Undefined
            | Value::Null
            | Value::Builtin(_)
            | Value::Function(_)
            | Value::Pattern(_) => false,
            Value::Bool(flag) => *flag,
            Value::Number(_) | Value::Exact(_) => {
                finite(value)?.is_some_and(|number| number != 0.0)
            }
            Value::String(text) => !text.is_empty(),
            Value::JsonObject(_) | Value::Object(_) => value.member_count() > 0,
            Value::JsonArray(_) | Value::Array(_) | Value::Tuples(_) => {
                self.enter()?;
                let mut any = false;
                for item in value.items() {
                    self.charge(1)?;
                    any |= self.truth(&item)?;
                }
                self.leave();
                any
            }
        })
    }

    /// Deep equality; the order of an object's members does not matter.
    pub(crate) fn equal(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool> {
        self.enter()?;
        let equal = match (left, right) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::String(left), Value::String(right)) => {
                self.charge_reading(left.len().min(right.len()))?;
                left == right
            }
            (left, right) if left.is_array() && right.is_array() => {
                left.len() == right.len() && self.items_equal(left, right)?
            }
            (left, right) if left.is_object() && right.is_object() => {
                left.member_count() == right.member_count() && self.members_equal(left, right)?
            }
            (left, right) => match (left.as_number(), right.as_number()) {
                (Some(_), Some(_)) => compare_numbers(left, right) == Some(Ordering::Equal),
                _ => same(left, right),
            },
        };
        self.leave();
        Ok(equal)
    }

    fn items_equal(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool> {
        for index in 0..left.len() {
            if !self.equal(&left.item(index), &right.item(index))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn members_equal(&mut self, left: &Value<'a>, right: &Value<'a>) -> Result<bool> {
        self.charge(left.member_count() as u64)?;
        for (name, value) in left.members() {
            let other = right.member(&name);
            if other.is_undefined() || !self.equal(&value, &other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Equality of scalars, identity of everything else.
fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::String(left), Value::String(right)) => left == right,
        (Value::JsonArray(left), Value::JsonArray(right)) => std::ptr::eq(*left, *right),
        (Value::JsonObject(left), Value::JsonObject(right)) => std::ptr::eq(*left, *right),
        (Value::Array(left), Value::Array(right)) => Rc::ptr_eq(left, right),
        (Value::Object(left), Value::Object(right)) => Rc::ptr_eq(left, right),
        (Value::Function(left), Value::Function(right)) => left == right,
        (Value::Builtin(left), Value::Builtin(right)) => std::ptr::eq(*left, *right),
        (Value::Pattern(left), Value::Pattern(right)) => std::ptr::eq(*left, *right),
        _ => compare_numbers(left, right) == Some(Ordering::Equal),
    }
}

/// Order of two numbers; integers that a double cannot hold are compared exactly.
fn compare_numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    if let (Value::Exact(left), Value::Exact(right)) = (left, right) {
        let integer = |number: &serde_json::Number| {
            number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from))
        };
        return Some(integer(left)?.cmp(&integer(right)?));
    }
    left.as_number()?.partial_cmp(&right.as_number()?)
}

fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    let side = |value: &Value<'_>, code: &'static str, side: &str| -> Result<Option<f64>> {
        match (value, finite(value)?) {
            (Value::Undefined, _) => Ok(None),
            (_, Some(number)) => Ok(Some(number)),
            (other, None) => {
                let message = format!(
                    "the {side} side of an arithmetic operator must be a number, it is {}",
                    other.described()
                );
                Err(EvaluateError::failed(code, message))
            }
        }
    };
    let (left, right) = (side(left, "T2001", "left")?, side(right, "T2002", "right")?);
    let (Some(left), Some(right)) = (left, right) else {
        return Ok(Value::Undefined);
    };
    Ok(Value::Number(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    }))
}
