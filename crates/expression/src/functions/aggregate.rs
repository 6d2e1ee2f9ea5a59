//! `$sum`, `$count`, `$max`, `$min`, `$average`.

use crate::error::Result;
use crate::evaluator::{Arguments, Evaluator};
use crate::value::Value;

/// The numbers of the first argument; the signature has checked that they are numbers.
fn numbers(evaluator: &mut Evaluator<'_>, arguments: &Arguments<'_>) -> Result<Option<Vec<f64>>> {
    let list = arguments.get(0);
    if list.is_undefined() {
        return Ok(None);
    }
    evaluator.charge_elements(list.len())?;
    Ok(Some(
        list.items().filter_map(|item| item.as_number()).collect(),
    ))
}

pub(super) fn sum<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let numbers = numbers(evaluator, &arguments)?;
    Ok(numbers.map_or(Value::Undefined, |numbers| {
        Value::Number(numbers.iter().fold(0.0, |sum, number| sum + number))
    }))
}

pub(super) fn count<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let list = arguments.get(0);
    Ok(Value::Number(if list.is_undefined() {
        0.0
    } else {
        list.len() as f64
    }))
}

pub(super) fn max<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let numbers = numbers(evaluator, &arguments)?;
    Ok(numbers
        .and_then(|numbers| numbers.into_iter().reduce(f64::max))
        .map_or(Value::Undefined, Value::Number))
}

pub(super) fn min<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let numbers = numbers(evaluator, &arguments)?;
    Ok(numbers
        .and_then(|numbers| numbers.into_iter().reduce(f64::min))
        .map_or(Value::Undefined, Value::Number))
}

pub(super) fn average<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    Ok(match numbers(evaluator, &arguments)? {
        Some(numbers) if !numbers.is_empty() => Value::Number(
            numbers.iter().fold(0.0, |sum, number| sum + number) / numbers.len() as f64,
        ),
        _ => Value::Undefined,
    })
}
