//! From text to JSON values: JSON, YAML, arrays of documents and streams of them.
//!
//! Owns what can go wrong before there is a document: size, syntax, depth, repeated keys, YAML that JSON
//! cannot say. Must never hold more than the limits allow, whatever aliases a text plays with.

mod nesting;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use tidemill_types::limits::{
    FLOW_DOCUMENT_BYTES_MAX, FLOW_DOCUMENT_DEPTH_MAX, FLOW_DOCUMENT_VALUES_MAX,
    FLOW_DOCUMENTS_PER_TEXT_MAX,
};

use super::problem::{Problem, child, code};

/// A document's value and the pointer to it within its text.
pub(super) type Located = (String, Value);

/// The documents of a text, at least one, and what is wrong with them already (keys that are there twice).
pub(super) fn read(text: &str) -> Result<(Vec<Located>, Vec<Problem>), Vec<Problem>> {
    if text.len() > FLOW_DOCUMENT_BYTES_MAX {
        let message = format!(
            "{} bytes long; at most {FLOW_DOCUMENT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(vec![Problem::error("", code::LIMIT, message)]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (values, problems) = read_values(text)?;
    let several = values.len() > 1;
    let mut documents = Vec::new();
    for (position, value) in values.into_iter().enumerate() {
        let pointer = if several {
            child("", position)
        } else {
            String::new()
        };
        match value {
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                documents.extend(items.map(|(position, item)| (child(&pointer, position), item)));
            }
            value => documents.push((pointer, value)),
        }
    }
    if documents.is_empty() {
        return Err(vec![Problem::error(
            "",
            code::EMPTY,
            "there is no flow document in this text",
        )]);
    }
    if documents.len() > FLOW_DOCUMENTS_PER_TEXT_MAX {
        let message = format!(
            "{} flow documents; at most {FLOW_DOCUMENTS_PER_TEXT_MAX} are allowed in one text",
            documents.len()
        );
        return Err(vec![Problem::error("", code::LIMIT, message)]);
    }
    Ok((documents, problems))
}

/// Refuses a value that did not come through [`read`] and passes its limits on depth or count.
pub(super) fn check_size(value: &Value) -> Result<(), Problem> {
    // An own stack: the value may be nested deeper than the thread's stack allows.
    let mut stack = vec![(value, 0)];
    let mut seen = 0;
    while let Some((value, depth)) = stack.pop() {
        seen += 1;
        if depth > FLOW_DOCUMENT_DEPTH_MAX {
            return Err(Problem::error("", code::LIMIT, too_deep()));
        }
        if seen > FLOW_DOCUMENT_VALUES_MAX {
            return Err(Problem::error("", code::LIMIT, too_many_values()));
        }
        match value {
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(map) => stack.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("nested deeper than {FLOW_DOCUMENT_DEPTH_MAX} levels")
}

fn too_many_values() -> String {
    format!("more than {FLOW_DOCUMENT_VALUES_MAX} values (YAML aliases count each time)")
}

/// The values of the documents in a stream, empty documents left out.
fn read_values(text: &str) -> Result<(Vec<Value>, Vec<Problem>), Vec<Problem>> {
    // JSON goes to the JSON parser although YAML contains most of JSON: YAML 1.1 knows no surrogate pairs
    // (`\ud83d\ude00`), and JSON's own messages are the better ones.
    let json_error = if text.trim_start().starts_with(['{', '[']) {
        let mut budget = Budget::default();
        let mut json = serde_json::Deserializer::from_str(text);
        match Seed(&mut budget)
            .deserialize(&mut json)
            .and_then(|value| json.end().map(|()| value))
        {
            Ok(value) => return Ok((vec![value], budget.problems)),
            // A limit is a limit in YAML too, and what is not a matter of syntax parsed as JSON.
            Err(error) if budget.limit_reached || error.is_data() => {
                return budget.fail(error.to_string());
            }
            Err(error) => Some(error.to_string()),
        }
    } else {
        None
    };
    if let Some(message) = nesting::refuse(text) {
        return Err(vec![Problem::error("", code::LIMIT, message)]);
    }
    // Each document's position is the first part of its path, and no level of nesting.
    let mut budget = Budget {
        depth_max: FLOW_DOCUMENT_DEPTH_MAX + 1,
        ..Budget::default()
    };
    let mut values = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        budget.path = vec![values.len().to_string()];
        match Seed(&mut budget).deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => values.push(value),
            Err(error) => {
                let message = match &json_error {
                    Some(json) if !budget.limit_reached => {
                        format!("neither JSON ({json}) nor YAML ({error})")
                    }
                    _ => format!("not YAML: {error}"),
                };
                return budget.fail(message);
            }
        }
        if values.len() > FLOW_DOCUMENTS_PER_TEXT_MAX {
            break;
        }
    }
    // The position of a document is part of a pointer only where there are several.
    if values.len() <= 1 {
        budget.drop_positions();
    }
    Ok((values, budget.problems))
}

/// What reading a text has used up and found so far.
struct Budget {
    depth_max: usize,
    values: usize,
    bytes: usize,
    limit_reached: bool,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            depth_max: FLOW_DOCUMENT_DEPTH_MAX,
            values: 0,
            bytes: 0,
            limit_reached: false,
            path: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Budget {
    fn fail<T>(mut self, message: String) -> Result<T, Vec<Problem>> {
        // The YAML parser's own limit on aliases: 100 for each thing that the text says.
        let limit_reached = self.limit_reached || message.contains("repetition limit exceeded");
        let code = if limit_reached {
            code::LIMIT
        } else {
            code::SYNTAX
        };
        self.problems.push(Problem::error("", code, message));
        Err(self.problems)
    }

    fn drop_positions(&mut self) {
        for problem in &mut self.problems {
            let rest = problem
                .pointer
                .get(1..)
                .and_then(|rest| rest.find('/'))
                .map(|at| at + 1);
            problem.pointer = rest.map_or(String::new(), |at| problem.pointer.split_off(at));
        }
    }

    fn spend<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.values += 1;
        self.bytes += bytes;
        if self.values > FLOW_DOCUMENT_VALUES_MAX {
            self.limit_reached = true;
            return Err(E::custom(too_many_values()));
        }
        // Without aliases a text never holds more bytes of strings than it is long.
        if self.bytes > FLOW_DOCUMENT_BYTES_MAX {
            self.limit_reached = true;
            return Err(E::custom(format!(
                "more than {FLOW_DOCUMENT_BYTES_MAX} bytes of text once YAML aliases are expanded"
            )));
        }
        Ok(())
    }

    /// Goes one level deeper; the caller pops the part from the path again.
    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.path.push(String::new());
        if self.path.len() > self.depth_max {
            self.limit_reached = true;
            return Err(E::custom(too_deep()));
        }
        Ok(())
    }

    fn pointer(&self) -> String {
        self.path
            .iter()
            .fold(String::new(), |pointer, part| child(&pointer, part))
    }
}

/// Builds a [`Value`] while it counts what it builds, which `Value`'s own `Deserialize` does not.
struct Seed<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Null)
    }

    /// A text without any document.
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::from(value))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Err(E::custom(format!(
            "the number {value} does not fit into 64 bits: quote it to keep it as text"
        )))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Err(E::custom(format!(
            "the number {value} does not fit into 64 bits: quote it to keep it as text"
        )))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(0)?;
        // A null in its place, as serde_json would have it, would be another document.
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("infinity and not-a-number are not allowed"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let budget = self.0;
        budget.spend(0)?;
        let mut items = Vec::new();
        budget.enter()?;
        loop {
            if let Some(part) = budget.path.last_mut() {
                *part = items.len().to_string();
            }
            match seq.next_element_seed(Seed(budget))? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        budget.path.pop();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let budget = self.0;
        budget.spend(0)?;
        let mut map = Map::new();
        budget.enter()?;
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            budget.bytes += key.len();
            if let Some(part) = budget.path.last_mut() {
                part.clone_from(&key);
            }
            if map.contains_key(&key) {
                let message = format!("the key `{key}` is here twice");
                let problem = Problem::error(budget.pointer(), code::DUPLICATE_KEY, message);
                budget.problems.push(problem);
            }
            let value = entries.next_value_seed(Seed(budget))?;
            map.insert(key, value);
        }
        budget.path.pop();
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("YAML tags (`!name`) are not allowed"))
    }
}

/// A key is text, even where YAML would read a number or a boolean: `{1: a}` has the key `"1"`.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}
