//! Sorting with comparisons that may fail: a merge sort, stable, that stops at the first error.

use std::cmp::Ordering;
use std::rc::Rc;

use super::operators::compare_text;
use super::{Evaluator, FrameId};
use crate::ast::SortTerm;
use crate::error::{EvaluateError, Result};
use crate::value::Value;

/// Whether the first index belongs after the second.
type Comparison<'f, 'a> = dyn FnMut(&mut Evaluator<'a>, usize, usize) -> Result<bool> + 'f;

impl<'a> Evaluator<'a> {
    /// `^(…)`
    pub(super) fn sort_by_terms(
        &mut self,
        terms: &'a [SortTerm],
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let count = input.len();
        if count <= 1 {
            return Ok(input.clone());
        }
        // Each term is evaluated once for each item, and only when an order depends on it.
        self.charge_elements(count.saturating_mul(terms.len()))?;
        let mut keys: Vec<Option<Value<'a>>> = vec![None; count * terms.len()];
        let order = self.merge_sort(count, &mut |evaluator, left, right| {
            for (index, term) in terms.iter().enumerate() {
                for item in [left, right] {
                    if keys[item * terms.len() + index].is_none() {
                        keys[item * terms.len() + index] =
                            Some(evaluator.sort_key(term, input, item, frame)?);
                    }
                }
                let key = |item: usize| {
                    keys[item * terms.len() + index]
                        .as_ref()
                        .expect("evaluated just above")
                };
                let order = evaluator.sort_order(key(left), key(right), term.descending)?;
                if order != Ordering::Equal {
                    return Ok(order == Ordering::Greater);
                }
            }
            Ok(false)
        })?;
        self.pick(input, &order)
    }

    fn sort_key(
        &mut self,
        term: &'a SortTerm,
        input: &Value<'a>,
        item: usize,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        let mark = self.mark();
        let inner = match input {
            Value::Tuples(tuples) => self.frame_of_tuple(frame, &tuples[item])?,
            _ => frame,
        };
        let key = self.evaluate(&term.expression, &input.item(item), inner)?;
        self.release(mark);
        Ok(key)
    }

    fn sort_order(
        &mut self,
        left: &Value<'a>,
        right: &Value<'a>,
        descending: bool,
    ) -> Result<Ordering> {
        // Nothing comes last, whatever the direction.
        match (left.is_undefined(), right.is_undefined()) {
            (true, true) => return Ok(Ordering::Equal),
            (true, false) => return Ok(Ordering::Greater),
            (false, true) => return Ok(Ordering::Less),
            (false, false) => {}
        }
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => {
                self.charge_reading(left.len().min(right.len()))?;
                compare_text(left, right)
            }
            (left, right) => match (left.as_number(), right.as_number()) {
                (Some(left), Some(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
                (left_number, right_number) => {
                    let sortable = |value: &Value<'_>, number: Option<f64>| {
                        number.is_some() || value.as_str().is_some()
                    };
                    if sortable(left, left_number) && sortable(right, right_number) {
                        let message = format!(
                            "cannot order {} and {}",
                            left.described(),
                            right.described()
                        );
                        return Err(EvaluateError::failed("T2007", message));
                    }
                    return Err(EvaluateError::failed(
                        "T2008",
                        "an order-by expression must give a number or a string",
                    ));
                }
            },
        };
        Ok(if descending { order.reverse() } else { order })
    }

    /// The items of `input` in this order, which must name each of them once.
    pub(crate) fn pick(&mut self, input: &Value<'a>, order: &[usize]) -> Result<Value<'a>> {
        self.charge_elements(order.len())?;
        if let Value::Tuples(tuples) = input {
            return Ok(Value::Tuples(Rc::new(
                order.iter().map(|index| tuples[*index].clone()).collect(),
            )));
        }
        self.array(order.iter().map(|index| input.item(*index)).collect())
    }

    /// The order of `0..count`.
    pub(crate) fn merge_sort(
        &mut self,
        count: usize,
        after: &mut Comparison<'_, 'a>,
    ) -> Result<Vec<usize>> {
        self.charge_elements(count)?;
        let mut order: Vec<usize> = (0..count).collect();
        let mut width = 1;
        while width < count {
            let mut merged = Vec::with_capacity(count);
            for start in (0..count).step_by(width * 2) {
                let middle = (start + width).min(count);
                let end = (start + width * 2).min(count);
                let (mut left, mut right) = (start, middle);
                while left < middle && right < end {
                    self.charge(1)?;
                    if after(self, order[left], order[right])? {
                        merged.push(order[right]);
                        right += 1;
                    } else {
                        merged.push(order[left]);
                        left += 1;
                    }
                }
                merged.extend_from_slice(&order[left..middle]);
                merged.extend_from_slice(&order[right..end]);
            }
            self.charge(count as u64 / 8)?;
            order = merged;
            width *= 2;
        }
        Ok(order)
    }
}
