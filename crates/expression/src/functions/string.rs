//! Functions of text. Positions and lengths count characters, as the reference does.

use crate::error::Result;
use crate::evaluator::{Arguments, Evaluator};
use crate::value::{Text, Value};

pub(super) fn string<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let value = arguments.get(0);
    if let Value::String(_) = value {
        return Ok(value);
    }
    let pretty = evaluator.truth(&arguments.get(1))?;
    let text = evaluator
        .stringify(&value, pretty)?
        .map(|text| text.into_owned());
    Ok(text.map_or(Value::Undefined, Value::text))
}

/// A part of `text`; no copy when the text is borrowed.
fn part<'a>(
    evaluator: &mut Evaluator<'a>,
    text: &Text<'a>,
    from: usize,
    to: usize,
) -> Result<Value<'a>> {
    match text {
        Text::Borrowed(text) => Ok(Value::String(Text::Borrowed(&text[from..to]))),
        Text::Owned(text) => {
            evaluator.charge_text(to - from)?;
            Ok(Value::text(&text[from..to]))
        }
    }
}

/// An index into a list of `length`, as JavaScript's `slice` reads one.
fn clamp(index: f64, length: usize) -> usize {
    let index = if index.is_nan() { 0.0 } else { index.trunc() };
    let index = if index < 0.0 {
        index + length as f64
    } else {
        index
    };
    index.clamp(0.0, length as f64) as usize
}

fn byte_offset(text: &str, character: usize) -> usize {
    text.char_indices()
        .nth(character)
        .map_or(text.len(), |(offset, _)| offset)
}

pub(super) fn substring<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_reading(text.len())?;
    let length = text.chars().count();
    let mut start = arguments.get(1).as_number().unwrap_or(0.0);
    if length as f64 + start < 0.0 {
        start = 0.0;
    }
    let mut end = length;
    if let Some(count) = arguments.get(2).as_number() {
        if count <= 0.0 {
            return Ok(Value::String(Text::Borrowed("")));
        }
        let last = if start >= 0.0 {
            start + count
        } else {
            length as f64 + start + count
        };
        end = clamp(last, length);
    }
    let start = clamp(start, length);
    if start >= end {
        return Ok(Value::String(Text::Borrowed("")));
    }
    let (from, to) = (byte_offset(&text, start), byte_offset(&text, end));
    part(evaluator, &text, from, to)
}

pub(super) fn substring_before<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_reading(text.len())?;
    let mark = arguments.get(1);
    match text.find(mark.as_str().unwrap_or("undefined")) {
        Some(at) => part(evaluator, &text, 0, at),
        None => Ok(Value::String(text)),
    }
}

pub(super) fn substring_after<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_reading(text.len())?;
    let mark = arguments.get(1);
    let mark = mark.as_str().unwrap_or("undefined");
    match text.find(mark) {
        Some(at) => part(evaluator, &text, at + mark.len(), text.len()),
        None => Ok(Value::String(text)),
    }
}

pub(super) fn lowercase<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match arguments.get(0) {
        Value::String(text) => evaluator.text(text.to_lowercase()),
        _ => Ok(Value::Undefined),
    }
}

pub(super) fn uppercase<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match arguments.get(0) {
        Value::String(text) => evaluator.text(text.to_uppercase()),
        _ => Ok(Value::Undefined),
    }
}

pub(super) fn length<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match arguments.get(0) {
        Value::String(text) => {
            evaluator.charge_reading(text.len())?;
            Ok(Value::Number(text.chars().count() as f64))
        }
        _ => Ok(Value::Undefined),
    }
}

pub(super) fn trim<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    evaluator.charge_text(text.len())?;
    let blank = |character| matches!(character, ' ' | '\t' | '\n' | '\r');
    let mut result = String::with_capacity(text.len());
    for word in text.split(blank).filter(|word| !word.is_empty()) {
        if !result.is_empty() {
            result.push(' ');
        }
        result.push_str(word);
    }
    Ok(Value::text(result))
}

pub(super) fn pad<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    let width = arguments.get(1).as_number().unwrap_or(0.0).trunc();
    let padding = arguments.get(2);
    let padding = padding
        .as_str()
        .filter(|padding| !padding.is_empty())
        .unwrap_or(" ");
    evaluator.charge_reading(text.len())?;
    let missing = width.abs() - text.chars().count() as f64;
    if missing.is_nan() || missing <= 0.0 {
        return Ok(Value::String(text));
    }
    // Paid before it is built: a short expression can ask for any width. The cast saturates.
    let missing = missing as usize;
    evaluator.charge_text(missing.saturating_mul(4).saturating_add(text.len()))?;
    let mut result = String::new();
    if width > 0.0 {
        result.push_str(&text);
    }
    result.extend(padding.chars().cycle().take(missing));
    if width <= 0.0 {
        result.push_str(&text);
    }
    Ok(Value::text(result))
}

pub(super) fn join<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let list = arguments.get(0);
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let separator = arguments.get(1);
    let separator = separator.as_str().unwrap_or("");
    let mut result = String::new();
    for (index, item) in list.items().enumerate() {
        let item = item.as_str().unwrap_or("");
        evaluator.charge(1)?;
        evaluator.charge_text(item.len() + separator.len())?;
        if index > 0 {
            result.push_str(separator);
        }
        result.push_str(item);
    }
    Ok(Value::text(result))
}
