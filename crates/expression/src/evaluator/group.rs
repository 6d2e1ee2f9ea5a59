//! Objects: constructors and the grouping of a sequence by key.

use std::rc::Rc;

use indexmap::IndexMap;

use super::{Evaluator, FrameId, check_value_depth};
use crate::ast::Group;
use crate::error::{EvaluateError, Result};
use crate::limits::ENTRY_BYTES;
use crate::value::{Object, Text, Tuple, Value};

/// What fell on one key: the pair of expressions that gave it, and the positions of the items.
struct Members {
    pair: usize,
    items: Vec<usize>,
}

impl<'a> Evaluator<'a> {
    pub(super) fn group(
        &mut self,
        group: &'a Group,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let tuples = match input {
            Value::Tuples(tuples) => Some(Rc::clone(tuples)),
            _ => None,
        };
        // Without any item there is still one group of nothing: a literal object must come out of nothing.
        let count = if tuples.is_some() {
            input.len()
        } else {
            input.len().max(1)
        };
        let mut groups: IndexMap<Text<'a>, Members> = IndexMap::new();
        for index in 0..count {
            let item = input.item(index);
            for (pair, (key, _)) in group.pairs.iter().enumerate() {
                self.charge(1)?;
                let mark = self.mark();
                let inner = match &tuples {
                    Some(tuples) => self.frame_of_tuple(frame, &tuples[index])?,
                    None => frame,
                };
                let name = self.evaluate(key, &item, inner)?;
                self.release(mark);
                let name = match name {
                    Value::String(name) => name,
                    Value::Undefined => continue,
                    other => {
                        let message = format!(
                            "a key of an object must be a string, it is {}",
                            other.described()
                        );
                        return Err(EvaluateError::failed("T1003", message));
                    }
                };
                self.charge_memory(ENTRY_BYTES)?;
                let members = groups.entry(name).or_insert_with(|| Members {
                    pair,
                    items: Vec::new(),
                });
                if members.pair != pair {
                    let message = "two different key expressions of one object gave the same key";
                    return Err(EvaluateError::failed("D1009", message));
                }
                members.items.push(index);
            }
        }
        let mut entries = IndexMap::with_capacity(groups.len());
        for (name, members) in groups {
            let value_expression = &group.pairs[members.pair].1;
            let mark = self.mark();
            let value = match &tuples {
                Some(tuples) => {
                    let tuple = self.reduce_tuples(tuples, &members.items)?;
                    let inner = self.frame_of_tuple(frame, &tuple)?;
                    self.evaluate(value_expression, &tuple.context, inner)?
                }
                None => {
                    let items = members
                        .items
                        .iter()
                        .map(|index| input.item(*index))
                        .collect();
                    let context = self.append_all(items)?;
                    self.evaluate(value_expression, &context, frame)?
                }
            };
            self.release(mark);
            if !value.is_undefined() {
                entries.insert(name, value);
            }
        }
        self.object(entries)
    }

    /// An object, paid for.
    pub(crate) fn object(&mut self, entries: IndexMap<Text<'a>, Value<'a>>) -> Result<Value<'a>> {
        self.charge(entries.len() as u64)?;
        let names: usize = entries.keys().map(|name| name.len()).sum();
        self.charge_memory(
            entries
                .len()
                .saturating_mul(ENTRY_BYTES)
                .saturating_add(names),
        )?;
        let depth = entries.values().map(Value::depth).max().unwrap_or(0) + 1;
        check_value_depth(depth)?;
        Ok(Value::Object(Rc::new(Object { entries, depth })))
    }

    /// `$append` over many: nothing is skipped, arrays are opened, one alone stays what it is.
    pub(crate) fn append_all(&mut self, items: Vec<Value<'a>>) -> Result<Value<'a>> {
        let mut present = items.into_iter().filter(|item| !item.is_undefined());
        let Some(first) = present.next() else {
            return Ok(Value::Undefined);
        };
        let Some(second) = present.next() else {
            return Ok(first);
        };
        let mut flat = Vec::new();
        for item in [first, second].into_iter().chain(present) {
            self.charge_elements(item.len())?;
            flat.extend(item.items());
        }
        self.array(flat)
    }

    fn reduce_tuples(&mut self, tuples: &[Tuple<'a>], indices: &[usize]) -> Result<Tuple<'a>> {
        let contexts = indices
            .iter()
            .map(|index| tuples[*index].context.clone())
            .collect();
        let context = self.append_all(contexts)?;
        let mut names: IndexMap<&'a str, Vec<Value<'a>>> = IndexMap::new();
        for index in indices {
            for (name, value) in &tuples[*index].names {
                self.charge(1)?;
                names.entry(name).or_default().push(value.clone());
            }
        }
        let mut reduced = Tuple {
            context,
            names: Vec::new(),
        };
        for (name, values) in names {
            let value = self.append_all(values)?;
            reduced.names.push((name, value));
        }
        Ok(reduced)
    }
}
