//! Objects, and what applies to values of any type.

use indexmap::IndexMap;

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::value::{Text, Value};

pub(super) fn assert<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    if evaluator.truth(&arguments.get(0))? {
        return Ok(Value::Undefined);
    }
    let message = arguments.get(1);
    let message = message.as_str().filter(|message| !message.is_empty());
    Err(EvaluateError::failed(
        "D3141",
        message.unwrap_or("$assert() statement failed"),
    ))
}

pub(super) fn error<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let message = arguments.get(0);
    let message = message.as_str().filter(|message| !message.is_empty());
    Err(EvaluateError::failed(
        "D3137",
        message.unwrap_or("$error() function evaluated"),
    ))
}

pub(super) fn boolean<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match arguments.get(0) {
        Value::Undefined => Ok(Value::Undefined),
        value => Ok(Value::Bool(evaluator.truth(&value)?)),
    }
}

pub(super) fn not<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    match arguments.get(0) {
        Value::Undefined => Ok(Value::Undefined),
        value => Ok(Value::Bool(!evaluator.truth(&value)?)),
    }
}

pub(super) fn exists<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    Ok(Value::Bool(!arguments.get(0).is_undefined()))
}

pub(super) fn kind<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    Ok(match arguments.get(0) {
        Value::Undefined => Value::Undefined,
        value => Value::String(Text::Borrowed(value.kind())),
    })
}

pub(super) fn clone<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    evaluator.deep_copy(&arguments.get(0))
}

pub(super) fn lookup<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let name = arguments.get(1);
    evaluator.lookup(&arguments.get(0), name.as_str().unwrap_or("undefined"))
}

pub(super) fn keys<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let mut names = IndexMap::new();
    collect_keys(evaluator, &arguments.get(0), &mut names)?;
    evaluator.sequence(names.into_keys().map(Value::String).collect())
}

fn collect_keys<'a>(
    evaluator: &mut Evaluator<'a>,
    value: &Value<'a>,
    names: &mut IndexMap<Text<'a>, ()>,
) -> Result<()> {
    evaluator.enter()?;
    if value.is_array() {
        for item in value.items() {
            collect_keys(evaluator, &item, names)?;
        }
    } else {
        evaluator.charge_elements(value.member_count())?;
        names.extend(value.members().into_iter().map(|(name, _)| (name, ())));
    }
    evaluator.leave();
    Ok(())
}

pub(super) fn spread<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    spread_value(evaluator, &arguments.get(0))
}

fn spread_value<'a>(evaluator: &mut Evaluator<'a>, value: &Value<'a>) -> Result<Value<'a>> {
    if value.is_array() {
        evaluator.enter()?;
        let mut parts = Vec::new();
        for item in value.items() {
            parts.push(spread_value(evaluator, &item)?);
        }
        evaluator.leave();
        if parts.is_empty() {
            return evaluator.sequence(parts);
        }
        // Appending to an empty sequence opens even a single array.
        let start = evaluator.array(Vec::new())?;
        parts.insert(0, start);
        return evaluator.append_all(parts);
    }
    if value.is_object() {
        let mut members = Vec::new();
        for (name, member) in value.members() {
            members.push(evaluator.object(IndexMap::from([(name, member)]))?);
        }
        return evaluator.sequence(members);
    }
    Ok(value.clone())
}

pub(super) fn merge<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let list = arguments.get(0);
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut merged: IndexMap<Text<'a>, Value<'a>> = IndexMap::new();
    for item in list.items() {
        evaluator.charge_elements(1 + item.member_count())?;
        merged.extend(item.members());
    }
    evaluator.object(merged)
}
