//! `| pattern | update, delete |`: a copy of the input in which what the pattern finds is changed. Objects
//! are found again by identity, so the copy gives each its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use indexmap::IndexMap;

use super::{Evaluator, FrameId};
use crate::ast::Transform;
use crate::error::{EvaluateError, Result};
use crate::value::{Array, Text, Value};

/// Objects by address. The copy keeps every one of them alive, so no address is used twice.
type Changes<'a> = BTreeMap<usize, Value<'a>>;

impl<'a> Evaluator<'a> {
    pub(super) fn transform(
        &mut self,
        transform: &'a Transform,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        match input {
            Value::Undefined => return Ok(Value::Undefined),
            input if input.is_array() || input.is_object() => {}
            other => {
                let message = format!(
                    "a transform needs an object or an array, it was given {}",
                    other.described()
                );
                return Err(EvaluateError::failed("T0410", message));
            }
        }
        let copy = self.deep_copy(input)?;
        let matches = self.evaluate(&transform.pattern, &copy, frame)?;
        let mut changes = Changes::new();
        if !matches.is_undefined() {
            for found in matches.items() {
                self.charge(1)?;
                self.change(transform, &found, frame, &mut changes)?;
            }
        }
        if changes.is_empty() {
            return Ok(copy);
        }
        self.rebuild(&copy, &changes)
    }

    fn change(
        &mut self,
        transform: &'a Transform,
        found: &Value<'a>,
        frame: FrameId,
        changes: &mut Changes<'a>,
    ) -> Result<()> {
        let address = match found {
            Value::Object(object) => Some(Rc::as_ptr(object) as usize),
            _ => None,
        };
        let current = address
            .and_then(|address| changes.get(&address).cloned())
            .unwrap_or_else(|| found.clone());
        let mut entries = match &current {
            Value::Object(object) => object.entries.clone(),
            _ => IndexMap::new(),
        };
        self.charge_elements(entries.len())?;
        let update = self.evaluate(&transform.update, &current, frame)?;
        if update.is_object() {
            self.charge_elements(update.member_count())?;
            entries.extend(update.members());
        } else if !update.is_undefined() {
            let message = format!(
                "the update of a transform must be an object, it is {}",
                update.described()
            );
            return Err(EvaluateError::failed("T2011", message));
        }
        if let Some(delete) = &transform.delete {
            // What is to be deleted is decided on the updated object.
            let updated = self.object(entries.clone())?;
            let names = self.evaluate(delete, &updated, frame)?;
            if !names.is_undefined() {
                for name in names.items() {
                    let Some(name) = name.as_str() else {
                        let message = "what a transform deletes must be a name or a list of names";
                        return Err(EvaluateError::failed("T2012", message));
                    };
                    self.charge(1 + entries.len() as u64)?;
                    entries.shift_remove(name);
                }
            }
        }
        if let Some(address) = address {
            let changed = self.object(entries)?;
            changes.insert(address, changed);
        }
        Ok(())
    }

    /// A copy in which no two objects are the same one.
    pub(crate) fn deep_copy(&mut self, value: &Value<'a>) -> Result<Value<'a>> {
        self.enter()?;
        let copy = if value.is_array() {
            let mut items = Vec::with_capacity(value.len());
            for item in value.items() {
                items.push(self.deep_copy(&item)?);
            }
            self.array(items)?
        } else if value.is_object() {
            let mut entries: IndexMap<Text<'a>, Value<'a>> =
                IndexMap::with_capacity(value.member_count());
            for (name, member) in value.members() {
                let member = self.deep_copy(&member)?;
                entries.insert(name, member);
            }
            self.object(entries)?
        } else if value.is_function() {
            // As in the reference, which copies by way of JSON text.
            Value::String(Text::Borrowed(""))
        } else {
            value.clone()
        };
        self.leave();
        Ok(copy)
    }

    /// The copy with every changed object replaced. A change that contains its own object never ends: the
    /// limit on depth stops it.
    fn rebuild(&mut self, value: &Value<'a>, changes: &Changes<'a>) -> Result<Value<'a>> {
        self.enter()?;
        let rebuilt = match value {
            Value::Array(array) => {
                let mut items = Vec::with_capacity(array.items.len());
                for item in &array.items {
                    items.push(self.rebuild(item, changes)?);
                }
                let plain = self.plain(items)?;
                Value::Array(Rc::new(Array {
                    items: plain.items,
                    depth: plain.depth,
                    ..(**array).clone_flags()
                }))
            }
            Value::Object(object) => {
                let address = Rc::as_ptr(object) as usize;
                let source = match changes.get(&address) {
                    Some(Value::Object(changed)) => Rc::clone(changed),
                    _ => Rc::clone(object),
                };
                let mut entries = IndexMap::with_capacity(source.entries.len());
                for (name, member) in &source.entries {
                    let member = self.rebuild(member, changes)?;
                    entries.insert(name.clone(), member);
                }
                self.object(entries)?
            }
            other => other.clone(),
        };
        self.leave();
        Ok(rebuilt)
    }
}
