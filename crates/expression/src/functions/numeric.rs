//! Functions of numbers.

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::number;
use crate::value::Value;

fn unary<'a>(arguments: &Arguments<'a>, function: impl Fn(f64) -> f64) -> Result<Value<'a>> {
    Ok(arguments
        .get(0)
        .as_number()
        .map_or(Value::Undefined, |number| Value::Number(function(number))))
}

pub(super) fn abs<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    unary(&arguments, f64::abs)
}

pub(super) fn floor<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    unary(&arguments, f64::floor)
}

pub(super) fn ceil<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    unary(&arguments, f64::ceil)
}

pub(super) fn round<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let places = arguments.get(1).as_number().unwrap_or(0.0);
    unary(&arguments, |number| number::round(number, places as i32))
}

pub(super) fn sqrt<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    if arguments
        .get(0)
        .as_number()
        .is_some_and(|number| number < 0.0)
    {
        return Err(EvaluateError::failed(
            "D3060",
            "$sqrt() cannot be applied to a negative number",
        ));
    }
    unary(&arguments, f64::sqrt)
}

pub(super) fn power<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Some(base) = arguments.get(0).as_number() else {
        return Ok(Value::Undefined);
    };
    let result = base.powf(arguments.get(1).as_number().unwrap_or(f64::NAN));
    if !result.is_finite() {
        return Err(EvaluateError::failed(
            "D3061",
            "$power() gave a result that is no number of JSON",
        ));
    }
    Ok(Value::Number(result))
}

pub(super) fn number<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let value = arguments.get(0);
    match &value {
        Value::Undefined | Value::Number(_) | Value::Exact(_) => Ok(value),
        Value::Bool(flag) => Ok(Value::Number(f64::from(u8::from(*flag)))),
        Value::String(text) => {
            evaluator.charge_reading(text.len())?;
            number::parse(text)
                .map(Value::Number)
                .ok_or_else(|| unable("the string is not a number"))
        }
        other => Err(unable(&format!("it is {}", other.described()))),
    }
}

fn unable(reason: &str) -> EvaluateError {
    EvaluateError::failed("D3030", format!("unable to make a number of it: {reason}"))
}

pub(super) fn format_base<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Some(value) = arguments.get(0).as_number() else {
        return Ok(Value::Undefined);
    };
    let value = number::round(value, 0);
    let radix = arguments
        .get(1)
        .as_number()
        .map_or(10.0, |radix| number::round(radix, 0));
    if !(2.0..=36.0).contains(&radix) {
        let message = format!("the radix of $formatBase() must be between 2 and 36, it is {radix}");
        return Err(EvaluateError::failed("D3100", message));
    }
    if radix == 10.0 || !value.is_finite() {
        return evaluator.text(number::to_text(value));
    }
    let radix = radix as u32;
    let mut rest = value.abs();
    let mut digits = Vec::new();
    // At most 1,024 digits: a double is below 2^1024.
    while rest >= 1.0 {
        let digit = (rest % f64::from(radix)) as u32;
        digits.push(char::from_digit(digit, radix).expect("a remainder is a digit"));
        rest = ((rest - f64::from(digit)) / f64::from(radix)).floor();
    }
    if digits.is_empty() {
        digits.push('0');
    }
    if value < 0.0 {
        digits.push('-');
    }
    evaluator.text(digits.into_iter().rev().collect())
}
