//! Forms and queries: `a[b]=1` nests, `a=1&a=2`, `a[]=1` and `a[0]=1` make arrays.
//!
//! The rules are those of the `qs` library, which is what OIH's callers know, but nothing is dropped in
//! silence: what is too deep or too much is refused.

use serde_json::{Map, Value};
use tidemill_types::limits::{WEBHOOK_DEPTH_MAX, WEBHOOK_FORM_FIELDS_MAX, WEBHOOK_FORM_INDEX_MAX};

use super::WebhookError;

/// The object that a form is. `part` names what is read, for messages.
pub(super) fn parse(text: &str, part: &str) -> Result<Value, WebhookError> {
    let bad = |reason: String| WebhookError::Bad(format!("the {part} is not a form: {reason}"));
    let mut root = Map::new();
    let fields = text.split('&').filter(|field| !field.is_empty());
    for (count, field) in fields.enumerate() {
        if count >= WEBHOOK_FORM_FIELDS_MAX {
            return Err(bad(format!(
                "it has more than {WEBHOOK_FORM_FIELDS_MAX} fields"
            )));
        }
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let key = decoded(key).map_err(bad)?;
        let value = decoded(value).map_err(bad)?;
        let (first, rest) = path_of(&key);
        if rest.len() >= WEBHOOK_DEPTH_MAX {
            return Err(bad(format!(
                "a key is deeper than {WEBHOOK_DEPTH_MAX} levels"
            )));
        }
        insert(root.entry(first).or_insert(Value::Null), &rest, value);
    }
    for value in root.values_mut() {
        make_arrays(value);
    }
    Ok(Value::Object(root))
}

/// A key's first part and those in brackets. A key whose brackets do not match has one part.
fn path_of(key: &str) -> (&str, Vec<&str>) {
    let whole = (key, Vec::new());
    let Some((mut first, mut rest)) = key
        .split_once('[')
        .map(|(first, _)| key.split_at(first.len()))
    else {
        return whole;
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let Some((part, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        else {
            return whole;
        };
        parts.push(part);
        rest = after;
    }
    if first.is_empty() {
        first = parts.remove(0);
    }
    (first, parts)
}

/// Adds a text below a value. Null is a place where nothing is yet: forms have no nulls.
fn insert(place: &mut Value, path: &[&str], text: String) {
    let Some((part, rest)) = path.split_first() else {
        match place {
            Value::Null => *place = Value::String(text),
            taken => list_of(taken).push(Value::String(text)),
        }
        return;
    };
    if place.is_null() && !part.is_empty() {
        *place = Value::Object(Map::new());
    }
    let place = match place {
        Value::Object(members) if !part.is_empty() => members.entry(*part).or_insert(Value::Null),
        // `a[]=1`, or a part of what is a text or a list already (`a=1&a[b]=2`): one more item.
        other => {
            let items = list_of(other);
            let item = match part.parse::<usize>() {
                _ if part.is_empty() => Value::Null,
                Ok(_) => Value::Null,
                Err(_) => Value::Object(Map::from_iter([((*part).to_owned(), Value::Null)])),
            };
            items.push(item);
            let item = items.last_mut().expect("just pushed");
            match item {
                Value::Object(members) => members.get_mut(*part).expect("just made"),
                empty => empty,
            }
        }
    };
    insert(place, rest, text);
}

/// The value as a list, itself the first item unless it is one or nothing.
fn list_of(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        let first = value.take();
        *value = Value::Array(if first.is_null() {
            Vec::new()
        } else {
            vec![first]
        });
    }
    value.as_array_mut().expect("made an array above")
}

/// Objects whose keys are all small indices are arrays, in the order of the indices.
fn make_arrays(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(make_arrays);
            let indices: Option<Vec<usize>> = members.keys().map(|key| index(key)).collect();
            if let Some(indices) = indices {
                let members = std::mem::take(members);
                let mut items: Vec<(usize, Value)> = indices
                    .into_iter()
                    .zip(members.into_iter().map(|(_, item)| item))
                    .collect();
                items.sort_by_key(|(index, _)| *index);
                *value = items.into_iter().map(|(_, item)| item).collect();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_arrays),
        _ => {}
    }
}

fn index(key: &str) -> Option<usize> {
    let is_plain = key == "0" || !key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit());
    let index = key.parse().ok().filter(|_| is_plain)?;
    (index <= WEBHOOK_FORM_INDEX_MAX).then_some(index)
}

/// Plus signs are blanks, `%xx` bytes; a `%` without two digits stands for itself, as in browsers.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = || {
            let [high, low, ..] = after else { return None };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        };
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match escaped() {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
