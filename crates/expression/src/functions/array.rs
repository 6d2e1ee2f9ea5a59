//! `$append`, `$reverse`, `$distinct`, `$zip`.

use std::rc::Rc;

use crate::error::Result;
use crate::evaluator::{Arguments, Evaluator};
use crate::value::Value;

pub(super) fn append<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    evaluator.append_all(vec![arguments.get(0), arguments.get(1)])
}

pub(super) fn reverse<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let list = arguments.get(0);
    if list.is_undefined() || list.len() <= 1 {
        return Ok(list);
    }
    let order: Vec<usize> = (0..list.len()).rev().collect();
    evaluator.pick(&list, &order)
}

pub(super) fn distinct<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let list = arguments.get(0);
    if !list.is_array() || list.len() <= 1 {
        return Ok(list);
    }
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in list.items() {
        let mut known = false;
        for other in &kept {
            if evaluator.equal(&item, other)? {
                known = true;
                break;
            }
        }
        if !known {
            kept.push(item);
        }
    }
    let mut array = evaluator.plain(kept)?;
    array.sequence = list.is_sequence();
    Ok(Value::Array(Rc::new(array)))
}

pub(super) fn zip<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let lists = arguments.all();
    // A missing list has no items, so nothing can be zipped with it.
    let length = lists
        .iter()
        .map(|list| if list.is_array() { list.len() } else { 0 })
        .min()
        .unwrap_or(0);
    let mut rows = Vec::new();
    for index in 0..length {
        let row = lists.iter().map(|list| list.item(index)).collect();
        rows.push(evaluator.array(row)?);
    }
    evaluator.array(rows)
}
