//! `$contains`, `$match`, `$replace`, `$split`: by plain text or by regular expression.

use indexmap::IndexMap;

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator, Match};
use crate::pattern::Pattern;
use crate::value::{Text, Value};

/// The regular expression, where one is wanted. Matchers written as functions are not supported.
fn pattern<'a>(value: &Value<'a>) -> Result<&'a Pattern> {
    match value {
        Value::Pattern(pattern) => Ok(pattern),
        other => {
            let message = format!(
                "a string or a regular expression is wanted here, this is {}",
                other.described()
            );
            Err(EvaluateError::failed("T1010", message))
        }
    }
}

/// The optional limit on the number of matches.
fn limit(value: &Value<'_>, code: &'static str) -> Result<Option<usize>> {
    match value.as_number() {
        None => Ok(None),
        Some(number) if number < 0.0 => Err(EvaluateError::failed(
            code,
            "the limit must not be negative",
        )),
        // A count is compared with the limit, so a fraction allows one more.
        Some(number) => Ok(Some(number.ceil() as usize)),
    }
}

pub(super) fn contains<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    Ok(match arguments.get(1) {
        Value::Undefined => Value::Undefined,
        Value::String(part) => {
            evaluator.charge_reading(text.len())?;
            Value::Bool(text.contains(&*part))
        }
        other => {
            let pattern = pattern(&other)?;
            Value::Bool(evaluator.find(pattern, &text, 0)?.is_some())
        }
    })
}

pub(super) fn find_matches<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    let limit = limit(&arguments.get(2), "D3040")?;
    let found = evaluator.find_all(pattern(&arguments.get(1))?, &text, limit)?;
    evaluator.charge_reading(text.len())?;
    // Positions count UTF-16 units, as JavaScript's do.
    let (mut bytes, mut units) = (0, 0);
    let mut results = Vec::with_capacity(found.len());
    for one in found {
        units += text[bytes..one.start].encode_utf16().count();
        bytes = one.start;
        let whole = evaluator.text(text[one.start..one.end].to_owned())?;
        let groups = evaluator.match_groups(&text, &one)?;
        results.push(evaluator.object(IndexMap::from([
            (Text::Borrowed("match"), whole),
            (Text::Borrowed("index"), Value::Number(units as f64)),
            (Text::Borrowed("groups"), groups),
        ]))?);
    }
    evaluator.sequence(results)
}

pub(super) fn replace<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    let (wanted, replacement) = (arguments.get(1), arguments.get(2));
    if wanted.as_str() == Some("") {
        return Err(EvaluateError::failed(
            "D3010",
            "the second argument of $replace() must not be empty",
        ));
    }
    let limit = limit(&arguments.get(3), "D3011")?;
    if let Value::String(wanted) = &wanted {
        return replace_text(evaluator, &text, wanted, &replacement, limit);
    }
    let found = evaluator.find_all(pattern(&wanted)?, &text, limit)?;
    evaluator.charge_text(text.len())?;
    let mut result = String::new();
    let mut position = 0;
    for one in found {
        result.push_str(&text[position..one.start]);
        position = one.end;
        match &replacement {
            Value::String(template) => substitute(evaluator, template, &text, &one, &mut result)?,
            function => {
                let found = match_for_function(evaluator, &text, &one)?;
                let replaced = evaluator.apply(function, vec![found], &Value::Null)?;
                let Some(replaced) = replaced.as_str() else {
                    let message = format!(
                        "the function gave {} as a replacement, not a string",
                        replaced.described()
                    );
                    return Err(EvaluateError::failed("D3012", message));
                };
                evaluator.charge_text(replaced.len())?;
                result.push_str(replaced);
            }
        }
    }
    result.push_str(&text[position..]);
    Ok(Value::text(result))
}

fn replace_text<'a>(
    evaluator: &mut Evaluator<'a>,
    text: &str,
    wanted: &str,
    replacement: &Value<'a>,
    limit: Option<usize>,
) -> Result<Value<'a>> {
    evaluator.charge_text(text.len())?;
    let mut result = String::new();
    let mut position = 0;
    for (start, _) in text.match_indices(wanted).take(limit.unwrap_or(usize::MAX)) {
        evaluator.charge(1)?;
        let Some(replacement) = replacement.as_str() else {
            let message = format!(
                "the replacement must be a string, it is {}",
                replacement.described()
            );
            return Err(EvaluateError::failed("D3012", message));
        };
        evaluator.charge_text(replacement.len())?;
        result.push_str(&text[position..start]);
        result.push_str(replacement);
        position = start + wanted.len();
    }
    result.push_str(&text[position..]);
    Ok(Value::text(result))
}

/// The match as a replacing function sees it.
fn match_for_function<'a>(
    evaluator: &mut Evaluator<'a>,
    text: &str,
    found: &Match,
) -> Result<Value<'a>> {
    evaluator.charge_reading(found.end)?;
    let start = text[..found.start].encode_utf16().count();
    let length = text[found.start..found.end].encode_utf16().count();
    let whole = evaluator.text(text[found.start..found.end].to_owned())?;
    let groups = evaluator.match_groups(text, found)?;
    evaluator.object(IndexMap::from([
        (Text::Borrowed("match"), whole),
        (Text::Borrowed("start"), Value::Number(start as f64)),
        (
            Text::Borrowed("end"),
            Value::Number((start + length) as f64),
        ),
        (Text::Borrowed("groups"), groups),
    ]))
}

/// Fills `$0`, `$1`, … and `$$` of a replacement template.
fn substitute(
    evaluator: &mut Evaluator<'_>,
    template: &str,
    text: &str,
    found: &Match,
    result: &mut String,
) -> Result<()> {
    let count = found.groups.len();
    let digits_max = if count == 0 {
        1
    } else {
        count.ilog10() as usize + 1
    };
    let mut rest = template;
    evaluator.charge_text(template.len())?;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('0') {
            evaluator.charge_text(found.end - found.start)?;
            result.push_str(&text[found.start..found.end]);
            rest = after;
            continue;
        }
        let mut digits = rest
            .bytes()
            .take(digits_max)
            .take_while(u8::is_ascii_digit)
            .count();
        let mut index = rest[..digits].parse::<usize>().unwrap_or(0);
        if digits == digits_max && digits_max > 1 && index > count {
            digits -= 1;
            index = rest[..digits].parse().unwrap_or(0);
        }
        if digits == 0 {
            result.push('$');
            continue;
        }
        if let Some(Some((start, end))) = found.groups.get(index.wrapping_sub(1)) {
            evaluator.charge_text(end - start)?;
            result.push_str(&text[*start..*end]);
        }
        rest = &rest[digits..];
    }
    result.push_str(rest);
    Ok(())
}

pub(super) fn split<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    let limit = limit(&arguments.get(2), "D3020")?;
    evaluator.charge_reading(text.len())?;
    let mut parts = Vec::new();
    match arguments.get(1) {
        Value::String(separator) => {
            // JavaScript cuts a fractional limit off where a count below it would go on.
            let most = arguments
                .get(2)
                .as_number()
                .map_or(usize::MAX, |number| number.trunc() as usize);
            if separator.is_empty() {
                for character in text.chars().take(most) {
                    evaluator.charge_elements(1)?;
                    parts.push(evaluator.text(character.to_string())?);
                }
            } else {
                for part in text.split(&*separator).take(most) {
                    evaluator.charge_elements(1)?;
                    parts.push(evaluator.text(part.to_owned())?);
                }
            }
        }
        Value::Undefined if limit != Some(0) => parts.push(Value::String(text)),
        Value::Undefined => {}
        other => {
            let pattern = pattern(&other)?;
            let found = evaluator.find_all(pattern, &text, limit)?;
            let mut position = 0;
            let full = limit.is_some_and(|limit| found.len() >= limit);
            for one in found {
                parts.push(evaluator.text(text[position..one.start].to_owned())?);
                position = one.end;
            }
            if !full {
                parts.push(evaluator.text(text[position..].to_owned())?);
            }
        }
    }
    evaluator.array(parts)
}
