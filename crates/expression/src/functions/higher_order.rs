//! Functions that take functions.

use indexmap::IndexMap;

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::value::{Text, Value};

/// Calls `function` with as many of value, key and whole as it takes.
fn call<'a>(
    evaluator: &mut Evaluator<'a>,
    function: &Value<'a>,
    value: Value<'a>,
    key: Value<'a>,
    whole: &Value<'a>,
) -> Result<Value<'a>> {
    let arguments = match evaluator.arity(function) {
        0 | 1 => vec![value],
        2 => vec![value, key],
        _ => vec![value, key, whole.clone()],
    };
    evaluator.apply(function, arguments, &Value::Null)
}

fn position<'a>(index: usize) -> Value<'a> {
    Value::Number(index as f64)
}

pub(super) fn map<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (list, function) = (arguments.get(0), arguments.get(1));
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut results = Vec::new();
    for (index, item) in list.items().enumerate() {
        let result = call(evaluator, &function, item, position(index), &list)?;
        if !result.is_undefined() {
            results.push(result);
        }
    }
    evaluator.sequence(results)
}

pub(super) fn filter<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (list, function) = (arguments.get(0), arguments.get(1));
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut kept = Vec::new();
    for (index, item) in list.items().enumerate() {
        let verdict = call(evaluator, &function, item.clone(), position(index), &list)?;
        if evaluator.truth(&verdict)? {
            kept.push(item);
        }
    }
    evaluator.sequence(kept)
}

pub(super) fn single<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (list, function) = (arguments.get(0), arguments.get(1));
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut found = None;
    for (index, item) in list.items().enumerate() {
        evaluator.charge(1)?;
        let matches = if function.is_undefined() {
            true
        } else {
            let verdict = call(evaluator, &function, item.clone(), position(index), &list)?;
            evaluator.truth(&verdict)?
        };
        if matches && found.replace(item).is_some() {
            return Err(EvaluateError::failed(
                "D3138",
                "$single() expected exactly one result, it found more",
            ));
        }
    }
    found.ok_or_else(|| {
        EvaluateError::failed(
            "D3139",
            "$single() expected exactly one result, it found none",
        )
    })
}

pub(super) fn reduce<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (list, function, start) = (arguments.get(0), arguments.get(1), arguments.get(2));
    if list.is_undefined() {
        return Ok(Value::Undefined);
    }
    let arity = evaluator.arity(&function);
    if arity < 2 {
        let message = "the function given to $reduce() must take at least two arguments";
        return Err(EvaluateError::failed("D3050", message));
    }
    let (mut result, first) = if start.is_undefined() && list.len() > 0 {
        (list.item(0), 1)
    } else {
        (start, 0)
    };
    for index in first..list.len() {
        let mut values = vec![result, list.item(index)];
        if arity >= 3 {
            values.push(position(index));
        }
        if arity >= 4 {
            values.push(list.clone());
        }
        result = evaluator.apply(&function, values, &Value::Null)?;
    }
    Ok(result)
}

pub(super) fn each<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (object, function) = (arguments.get(0), arguments.get(1));
    let mut results = Vec::new();
    evaluator.charge_elements(object.member_count())?;
    for (name, member) in object.members() {
        let result = call(evaluator, &function, member, Value::String(name), &object)?;
        if !result.is_undefined() {
            results.push(result);
        }
    }
    evaluator.sequence(results)
}

pub(super) fn sift<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (object, function) = (arguments.get(0), arguments.get(1));
    let mut kept: IndexMap<Text<'a>, Value<'a>> = IndexMap::new();
    evaluator.charge_elements(object.member_count())?;
    for (name, member) in object.members() {
        let verdict = call(
            evaluator,
            &function,
            member.clone(),
            Value::String(name.clone()),
            &object,
        )?;
        if evaluator.truth(&verdict)? {
            kept.insert(name, member);
        }
    }
    if kept.is_empty() {
        Ok(Value::Undefined)
    } else {
        evaluator.object(kept)
    }
}

pub(super) fn sort<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let (list, function) = (arguments.get(0), arguments.get(1));
    if list.is_undefined() || list.len() <= 1 {
        return Ok(list);
    }
    if function.is_undefined() {
        evaluator.charge_elements(list.len())?;
        let numbers = list.items().all(|item| item.as_number().is_some());
        if !numbers && !list.items().all(|item| item.as_str().is_some()) {
            let message =
                "without a function, only a list of numbers or a list of strings can be sorted";
            return Err(EvaluateError::failed("D3070", message));
        }
    }
    let order = evaluator.merge_sort(list.len(), &mut |evaluator, left, right| {
        let (left, right) = (list.item(left), list.item(right));
        if !function.is_undefined() {
            let verdict = evaluator.apply(&function, vec![left, right], &Value::Null)?;
            return evaluator.truth(&verdict);
        }
        evaluator.is_greater(&left, &right)
    })?;
    evaluator.pick(&list, &order)
}
