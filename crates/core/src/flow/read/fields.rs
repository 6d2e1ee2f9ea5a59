//! Typed access to the members of JSON objects, where each failure becomes a problem with its pointer.

use serde_json::{Map, Value};
use tidemill_types::flow::FlowDuration;
use tidemill_types::limits::FLOW_PROBLEMS_MAX;

use super::suggest::unknown_key;
use crate::flow::problem::{Problem, child, code};

/// A JSON object and where it stands.
pub(super) struct Object<'v> {
    pub map: &'v Map<String, Value>,
    pub pointer: String,
}

impl<'v> Object<'v> {
    /// The member's value; null counts as not there, as in what OIH exports.
    pub fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The pointer of a member.
    pub fn at(&self, key: &str) -> String {
        child(&self.pointer, key)
    }
}

/// Collects the problems of what is read through it.
#[derive(Default)]
pub(super) struct Reader {
    pub problems: Vec<Problem>,
}

impl Reader {
    pub fn error(&mut self, pointer: String, code: &'static str, message: impl Into<String>) {
        // One more than is reported, so that the report can say that there are more.
        if self.problems.len() <= FLOW_PROBLEMS_MAX {
            self.problems.push(Problem::error(pointer, code, message));
        }
    }

    /// A problem for each key that is in neither list.
    pub fn refuse_unknown_keys(&mut self, object: &Object<'_>, known: &[&str], dropped: &[&str]) {
        for key in object.map.keys() {
            if !known.contains(&key.as_str()) && !dropped.contains(&key.as_str()) {
                self.error(object.at(key), code::UNKNOWN_KEY, unknown_key(key, known));
            }
        }
    }

    pub fn object<'v>(&mut self, value: &'v Value, pointer: String) -> Option<Object<'v>> {
        match value {
            Value::Object(map) => Some(Object { map, pointer }),
            other => {
                self.wrong_type(pointer, "an object", other, "");
                None
            }
        }
    }

    pub fn array<'v>(&mut self, value: &'v Value, pointer: &str) -> Option<&'v Vec<Value>> {
        match value {
            Value::Array(items) => Some(items),
            other => {
                self.wrong_type(pointer.to_owned(), "an array", other, "");
                None
            }
        }
    }

    pub fn required<'v>(&mut self, object: &Object<'v>, key: &str) -> Option<&'v Value> {
        let value = object.get(key);
        if value.is_none() {
            self.error(object.at(key), code::MISSING, format!("`{key}` is missing"));
        }
        value
    }

    pub fn child_object<'v>(&mut self, object: &Object<'v>, key: &str) -> Option<Object<'v>> {
        self.object(object.get(key)?, object.at(key))
    }

    /// A free object, empty where there is none.
    pub fn free_object(&mut self, object: &Object<'_>, key: &str) -> Map<String, Value> {
        self.child_object(object, key)
            .map(|object| object.map.clone())
            .unwrap_or_default()
    }

    pub fn text(&mut self, value: &Value, pointer: String) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            other => {
                let hint = match other {
                    Value::Bool(_) | Value::Number(_) => ": put it in quotes",
                    _ => "",
                };
                self.wrong_type(pointer, "a string", other, hint);
                None
            }
        }
    }

    pub fn string(&mut self, object: &Object<'_>, key: &str) -> Option<String> {
        self.text(object.get(key)?, object.at(key))
    }

    /// Empty where it is missing.
    pub fn required_string(&mut self, object: &Object<'_>, key: &str) -> String {
        self.required(object, key)
            .and_then(|value| self.text(value, object.at(key)))
            .unwrap_or_default()
    }

    pub fn boolean(&mut self, object: &Object<'_>, key: &str) -> Option<bool> {
        match object.get(key)? {
            Value::Bool(value) => Some(*value),
            other => {
                self.wrong_type(object.at(key), "true or false", other, unquote(other));
                None
            }
        }
    }

    /// A whole number; also as `5.0`, which some tools write.
    pub fn integer(&mut self, object: &Object<'_>, key: &str) -> Option<u32> {
        let value = object.get(key)?;
        let Value::Number(number) = value else {
            self.wrong_type(object.at(key), "a whole number", value, unquote(value));
            return None;
        };
        // Exact for every u32, and what is cut off here is refused below.
        let float = number.as_f64().unwrap_or(f64::NAN);
        if float.fract() != 0.0 {
            self.wrong_type(object.at(key), "a whole number", value, "");
            None
        } else if (0.0..=f64::from(u32::MAX)).contains(&float) {
            Some(float as u32)
        } else {
            let message = format!("{number} is out of range");
            self.error(object.at(key), code::OUT_OF_RANGE, message);
            None
        }
    }

    pub fn number(&mut self, object: &Object<'_>, key: &str) -> Option<f64> {
        let value = object.get(key)?;
        let number = value.as_f64();
        if number.is_none() {
            self.wrong_type(object.at(key), "a number", value, unquote(value));
        }
        number
    }

    pub fn duration(&mut self, object: &Object<'_>, key: &str) -> Option<FlowDuration> {
        match object.get(key)? {
            Value::String(text) => match text.parse() {
                Ok(duration) => Some(duration),
                Err(error) => {
                    let message = format!("{}: {error}", quoted(text));
                    self.error(object.at(key), code::INVALID_VALUE, message);
                    None
                }
            },
            other => {
                let hint = match other {
                    Value::Number(_) => ": write its unit too, such as \"30s\"",
                    _ => "",
                };
                self.wrong_type(object.at(key), "a duration such as \"30s\"", other, hint);
                None
            }
        }
    }

    pub fn choice<T: Copy>(
        &mut self,
        object: &Object<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(object, key)?;
        let chosen = choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, choice)| *choice);
        if chosen.is_none() {
            let names: Vec<String> = choices
                .iter()
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            let message = format!("{} is none of {}", quoted(&text), names.join(", "));
            self.error(object.at(key), code::INVALID_VALUE, message);
        }
        chosen
    }

    fn wrong_type(&mut self, pointer: String, expected: &str, value: &Value, hint: &str) {
        let message = format!("must be {expected}, but is {}{hint}", describe(value));
        self.error(pointer, code::WRONG_TYPE, message);
    }
}

fn unquote(value: &Value) -> &'static str {
    if value.is_string() {
        ": write it without quotes"
    } else {
        ""
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) => format!("the string {}", quoted(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The text in quotes, escaped and cut to what a message can carry.
pub fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 40;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
