//! Values to JSON: as the result (`serde_json`), and as text (`$string`, `&`). Both count as they go, since
//! a small value that shares its parts can be a huge text.

use std::borrow::Cow;

use serde_json::{Map, Number, Value as Json};

use super::Evaluator;
use crate::error::{EvaluateError, Result};
use crate::limits::{ELEMENT_BYTES, ENTRY_BYTES, OBJECT_BYTES, VALUE_DEPTH_MAX};
use crate::number;
use crate::value::Value;

/// Integers up to this size are written without a fraction.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

impl<'a> Evaluator<'a> {
    /// The result as JSON; `None` is JSONata's nothing.
    pub(super) fn result(&mut self, value: &Value<'a>) -> Result<Option<Json>> {
        if value.is_undefined() {
            return Ok(None);
        }
        let mut left = self.limits.output_bytes;
        self.json(value, &mut left, 0).map(Some)
    }

    fn spend(&self, left: &mut usize, bytes: usize) -> Result<()> {
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(EvaluateError::OutputLimit {
                limit: self.limits.output_bytes,
            }),
        }
    }

    fn json(&mut self, value: &Value<'a>, left: &mut usize, depth: u32) -> Result<Json> {
        if depth > VALUE_DEPTH_MAX {
            return Err(EvaluateError::DepthLimit);
        }
        Ok(match value {
            Value::Undefined | Value::Null => {
                self.spend(left, 5)?;
                Json::Null
            }
            Value::Bool(flag) => {
                self.spend(left, 5)?;
                Json::Bool(*flag)
            }
            Value::Number(number) => {
                let number = json_number(*number)?;
                self.spend(left, number_bytes(&number))?;
                Json::Number(number)
            }
            Value::Exact(number) => {
                self.spend(left, number_bytes(number))?;
                Json::Number((*number).clone())
            }
            Value::String(text) => {
                self.spend(left, text.len() + 3)?;
                Json::String(text.to_string())
            }
            Value::JsonArray(_) | Value::Array(_) | Value::Tuples(_) => {
                self.spend(left, 3)?;
                self.charge_memory(value.len().saturating_mul(ELEMENT_BYTES))?;
                let mut items = Vec::new();
                for item in value.items() {
                    items.push(self.json(&item, left, depth + 1)?);
                }
                Json::Array(items)
            }
            Value::JsonObject(_) | Value::Object(_) => {
                self.spend(left, 3)?;
                // Many small objects weigh far more than their text.
                let weight = value.member_count().saturating_mul(ENTRY_BYTES);
                self.charge_memory(OBJECT_BYTES.saturating_add(weight))?;
                let mut entries = Map::new();
                for (name, member) in value.members() {
                    self.spend(left, name.len() + 3)?;
                    let member = self.json(&member, left, depth + 1)?;
                    entries.insert(name.to_string(), member);
                }
                Json::Object(entries)
            }
            Value::Builtin(_) | Value::Function(_) | Value::Pattern(_) => {
                return Err(EvaluateError::failed(
                    "TX1001",
                    "the result is or contains a function",
                ));
            }
        })
    }

    /// As `$string`: text stays itself, nothing stays nothing.
    pub(crate) fn stringify<'v>(
        &mut self,
        value: &'v Value<'a>,
        pretty: bool,
    ) -> Result<Option<Cow<'v, str>>> {
        Ok(match value {
            Value::Undefined => None,
            Value::String(text) => Some(Cow::Borrowed(&**text)),
            Value::Builtin(_) | Value::Function(_) | Value::Pattern(_) => Some(Cow::Borrowed("")),
            Value::Number(number) if !number.is_finite() => {
                return Err(EvaluateError::failed(
                    "D3001",
                    "a number out of range cannot be written as a string",
                ));
            }
            Value::Array(array) if array.outer_wrapper => {
                let mut text = String::new();
                self.write(&value.item(0), &mut text, pretty, 0)?;
                Some(Cow::Owned(text))
            }
            other => {
                let mut text = String::new();
                self.write(other, &mut text, pretty, 0)?;
                Some(Cow::Owned(text))
            }
        })
    }

    fn write(
        &mut self,
        value: &Value<'a>,
        text: &mut String,
        pretty: bool,
        level: usize,
    ) -> Result<()> {
        self.enter()?;
        let before = text.len();
        match value {
            Value::Undefined | Value::Null => text.push_str("null"),
            Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => {
                if !number.is_finite() {
                    return Err(EvaluateError::failed("D1001", "number out of range"));
                }
                text.push_str(&number::to_text(number::to_precision_15(*number)));
            }
            Value::Exact(number) => text.push_str(&number.to_string()),
            Value::String(string) => {
                self.charge_text(string.len())?;
                write_string(string, text);
            }
            Value::Builtin(_) | Value::Function(_) | Value::Pattern(_) => text.push_str("\"\""),
            Value::JsonArray(_) | Value::Array(_) | Value::Tuples(_) => {
                text.push('[');
                for (index, item) in value.items().enumerate() {
                    self.separate(text, index, pretty, level)?;
                    self.write(&item, text, pretty, level + 1)?;
                }
                finish(text, value.len(), pretty, level);
                text.push(']');
            }
            Value::JsonObject(_) | Value::Object(_) => {
                text.push('{');
                let mut written = 0;
                for (name, member) in value.members() {
                    if member.is_undefined() {
                        continue;
                    }
                    self.separate(text, written, pretty, level)?;
                    written += 1;
                    self.charge_text(name.len())?;
                    write_string(&name, text);
                    text.push_str(if pretty { ": " } else { ":" });
                    self.write(&member, text, pretty, level + 1)?;
                }
                finish(text, written, pretty, level);
                text.push('}');
            }
        }
        if !value.is_array() && !value.is_object() {
            self.charge_memory(text.len() - before)?;
        }
        self.leave();
        Ok(())
    }

    fn separate(
        &mut self,
        text: &mut String,
        index: usize,
        pretty: bool,
        level: usize,
    ) -> Result<()> {
        if index > 0 {
            text.push(',');
        }
        if pretty {
            self.charge_text(level * 2 + 3)?;
            indent(text, level + 1);
        }
        self.charge_memory(2)
    }
}

fn finish(text: &mut String, count: usize, pretty: bool, level: usize) {
    if pretty && count > 0 {
        indent(text, level);
    }
}

fn indent(text: &mut String, level: usize) {
    text.push('\n');
    for _ in 0..level {
        text.push_str("  ");
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push_str(&serde_json::to_string(string).expect("text is always valid JSON"));
}

fn json_number(number: f64) -> Result<Number> {
    if number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or_else(|| EvaluateError::failed("D1001", "number out of range"))
}

fn number_bytes(number: &Number) -> usize {
    if number.is_f64() {
        return 20;
    }
    let size = number
        .as_i64()
        .map_or_else(|| number.as_u64().unwrap_or(0), i64::unsigned_abs);
    size.checked_ilog10().unwrap_or(0) as usize + 3
}
