//! Paths: steps, filters, wildcards, and the tuples that carry variables from step to step.

use std::rc::Rc;

use super::{Evaluator, FrameId, check_value_depth, operators, stages};
use crate::ast::{Kind, Node, Stage};
use crate::error::Result;
use crate::limits::ELEMENT_BYTES;
use crate::value::{Tuple, Value};

impl<'a> Evaluator<'a> {
    pub(super) fn path(
        &mut self,
        node: &'a Node,
        steps: &'a [Node],
        keep_singleton: bool,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        if let Some(value) = self.plain_names(node, steps, keep_singleton, input)? {
            return Ok(value);
        }
        // A path that starts with a variable is absolute: its input is one item, whatever it is.
        let absolute = matches!(
            steps.first(),
            Some(Node {
                kind: Kind::Variable { .. },
                ..
            })
        );
        let mut sequence = if input.is_array() && !absolute {
            input.clone()
        } else {
            self.wrap(input)?
        };
        let mut tuples: Option<Vec<Tuple<'a>>> = None;
        let mut in_tuples = false;
        for (index, step) in steps.iter().enumerate() {
            in_tuples |= step.tuple;
            let result = if index == 0 && step.constructed {
                self.evaluate(step, &sequence, frame)?
            } else if in_tuples {
                tuples = Some(self.tuple_step(step, &sequence, tuples, frame)?);
                continue;
            } else {
                self.step(step, &sequence, frame, index + 1 == steps.len())?
            };
            let ended = result.is_undefined() || (result.is_array() && result.len() == 0);
            // A step that only binds a variable leaves the context as it is.
            if step.focus.is_none() {
                sequence = result;
            }
            if ended && !in_tuples {
                break;
            }
        }
        let mut result = sequence;
        if in_tuples {
            let tuples = tuples.unwrap_or_default();
            if node.tuple || node.group.is_some() {
                let stream = Rc::new(tuples);
                if let Some(group) = &node.group {
                    return self.group(group, &Value::Tuples(stream), frame);
                }
                return Ok(Value::Tuples(stream));
            }
            result = self.sequence(tuples.into_iter().map(|tuple| tuple.context).collect())?;
        }
        if keep_singleton && let Value::Array(array) = &mut result {
            if array.constructed && !array.sequence {
                result = self.wrap(&result)?;
            }
            if let Value::Array(array) = &mut result {
                Rc::make_mut(array).keep_singleton = true;
            }
        }
        if let Some(group) = &node.group {
            return self.group(group, &result, frame);
        }
        Ok(result)
    }

    /// The common path, names only through objects only, without a sequence for each step. `None` says that
    /// the general way must be taken.
    fn plain_names(
        &mut self,
        node: &'a Node,
        steps: &'a [Node],
        keep_singleton: bool,
        input: &Value<'a>,
    ) -> Result<Option<Value<'a>>> {
        if keep_singleton || node.group.is_some() || node.tuple {
            return Ok(None);
        }
        let mut value = input.clone();
        for step in steps {
            let Kind::Name(name) = &step.kind else {
                return Ok(None);
            };
            if !step.stages.is_empty()
                || step.tuple
                || step.keep_array
                || !step.predicates.is_empty()
            {
                return Ok(None);
            }
            if value.is_array() {
                return Ok(None);
            }
            self.charge(1)?;
            value = value.member(name);
        }
        // Functions and sequences take the general way; a plain array of the input is given as it is.
        Ok(match value {
            Value::Array(_) | Value::Tuples(_) => None,
            value => Some(value),
        })
    }

    /// A sequence of one.
    pub(super) fn wrap(&mut self, value: &Value<'a>) -> Result<Value<'a>> {
        self.sequence(vec![value.clone()])
    }

    fn step(
        &mut self,
        step: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
        last: bool,
    ) -> Result<Value<'a>> {
        if matches!(step.kind, Kind::Sort(_)) {
            let mut sorted = self.evaluate_sort(step, input, frame)?;
            for stage in stages(step) {
                if let Stage::Filter(predicate) = stage {
                    sorted = self.filter(predicate, &sorted, frame)?;
                }
            }
            return Ok(sorted);
        }
        let mut results = Vec::new();
        for index in 0..input.len() {
            self.charge(1)?;
            let mut value = self.evaluate(step, &input.item(index), frame)?;
            for stage in stages(step) {
                if let Stage::Filter(predicate) = stage {
                    value = self.filter(predicate, &value, frame)?;
                }
            }
            if !value.is_undefined() {
                results.push(value);
            }
        }
        if last
            && let [only] = results.as_slice()
            && only.is_array()
            && !only.is_sequence()
        {
            return Ok(only.clone());
        }
        let mut flat = Vec::with_capacity(results.len());
        for value in results {
            match &value {
                Value::Array(array) if array.constructed => flat.push(value),
                value if value.is_array() => {
                    self.charge_elements(value.len())?;
                    flat.extend(value.items());
                }
                _ => flat.push(value),
            }
        }
        self.sequence(flat)
    }

    /// A sort as a step, without the settling of sequences that [`Self::evaluate`] does.
    fn evaluate_sort(
        &mut self,
        step: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        match &step.kind {
            Kind::Sort(terms) => self.sort_by_terms(terms, input, frame),
            _ => self.evaluate(step, input, frame),
        }
    }

    fn tuple_step(
        &mut self,
        step: &'a Node,
        input: &Value<'a>,
        tuples: Option<Vec<Tuple<'a>>>,
        frame: FrameId,
    ) -> Result<Vec<Tuple<'a>>> {
        let result = if matches!(step.kind, Kind::Sort(_)) {
            match tuples {
                Some(tuples) => {
                    match self.evaluate_sort(step, &Value::Tuples(Rc::new(tuples)), frame)? {
                        Value::Tuples(sorted) => Rc::unwrap_or_clone(sorted),
                        _ => Vec::new(),
                    }
                }
                None => {
                    let sorted = self.evaluate_sort(step, input, frame)?;
                    let mut result = Vec::with_capacity(sorted.len());
                    for (position, context) in sorted.items().enumerate() {
                        let mut tuple = Tuple {
                            context,
                            names: Vec::new(),
                        };
                        if let Some(name) = &step.index {
                            tuple.set(name, Value::Number(position as f64));
                        }
                        result.push(tuple);
                    }
                    self.charge_elements(result.len())?;
                    result
                }
            }
        } else {
            let tuples = match tuples {
                Some(tuples) => tuples,
                None => input
                    .items()
                    .map(|context| Tuple {
                        context,
                        names: Vec::new(),
                    })
                    .collect(),
            };
            self.expand(step, tuples, frame)?
        };
        self.tuple_stages(step, result, frame)
    }

    /// One tuple for each result of the step on each tuple.
    fn expand(
        &mut self,
        step: &'a Node,
        tuples: Vec<Tuple<'a>>,
        frame: FrameId,
    ) -> Result<Vec<Tuple<'a>>> {
        let mut expanded = Vec::new();
        for tuple in tuples {
            let mark = self.mark();
            let inner = self.frame_of_tuple(frame, &tuple)?;
            let results = self.evaluate(step, &tuple.context, inner)?;
            self.release(mark);
            if let Value::Tuples(stream) = &results {
                for below in stream.iter() {
                    let mut next = tuple.clone();
                    next.context = below.context.clone();
                    for (name, value) in &below.names {
                        next.set(name, value.clone());
                    }
                    self.push_tuple(&mut expanded, next)?;
                }
                continue;
            }
            if results.is_undefined() {
                continue;
            }
            for (position, item) in results.items().enumerate() {
                let mut next = tuple.clone();
                match &step.focus {
                    Some(name) => next.set(name, item),
                    None => next.context = item,
                }
                if let Some(name) = &step.index {
                    next.set(name, Value::Number(position as f64));
                }
                if let Some(slot) = step.ancestor {
                    let tree = self.tree;
                    next.set(&tree.labels[slot], tuple.context.clone());
                }
                self.push_tuple(&mut expanded, next)?;
            }
        }
        Ok(expanded)
    }

    fn push_tuple(&mut self, tuples: &mut Vec<Tuple<'a>>, tuple: Tuple<'a>) -> Result<()> {
        self.charge(1 + tuple.names.len() as u64)?;
        self.charge_memory((tuple.names.len() + 1) * 2 * ELEMENT_BYTES)?;
        check_value_depth(tuple.context.depth() + 1)?;
        tuples.push(tuple);
        Ok(())
    }

    fn tuple_stages(
        &mut self,
        step: &'a Node,
        tuples: Vec<Tuple<'a>>,
        frame: FrameId,
    ) -> Result<Vec<Tuple<'a>>> {
        let mut tuples = tuples;
        for stage in stages(step) {
            match stage {
                Stage::Filter(predicate) => {
                    tuples = self.filter_tuples(predicate, tuples, frame)?
                }
                Stage::Index(name) => {
                    self.charge_elements(tuples.len())?;
                    for (position, tuple) in tuples.iter_mut().enumerate() {
                        tuple.set(name, Value::Number(position as f64));
                    }
                }
            }
        }
        Ok(tuples)
    }

    fn filter_tuples(
        &mut self,
        predicate: &'a Node,
        tuples: Vec<Tuple<'a>>,
        frame: FrameId,
    ) -> Result<Vec<Tuple<'a>>> {
        let count = tuples.len();
        if let Kind::Number(number) = predicate.kind {
            let kept = position(number, count).and_then(|index| tuples.into_iter().nth(index));
            return Ok(kept.into_iter().collect());
        }
        let mut kept = Vec::new();
        for (index, tuple) in tuples.into_iter().enumerate() {
            self.charge(1)?;
            let mark = self.mark();
            let inner = self.frame_of_tuple(frame, &tuple)?;
            let verdict = self.evaluate(predicate, &tuple.context, inner)?;
            self.release(mark);
            for _ in 0..self.verdict(&verdict, index, count)? {
                self.push_tuple(&mut kept, tuple.clone())?;
            }
        }
        Ok(kept)
    }

    /// Keeps the items that `predicate` selects, by truth or by position.
    pub(super) fn filter(
        &mut self,
        predicate: &'a Node,
        input: &Value<'a>,
        frame: FrameId,
    ) -> Result<Value<'a>> {
        if let Value::Tuples(tuples) = input {
            let kept = self.filter_tuples(predicate, tuples.to_vec(), frame)?;
            return Ok(Value::Tuples(Rc::new(kept)));
        }
        // Nothing is a list of one nothing: the predicate is still evaluated, as in the reference.
        let count = input.len();
        if let Kind::Number(number) = predicate.kind {
            let item = position(number, count).map_or(Value::Undefined, |index| input.item(index));
            return match item {
                Value::Undefined => self.sequence(Vec::new()),
                item if item.is_array() => Ok(item),
                item => self.sequence(vec![item]),
            };
        }
        let mut kept = Vec::new();
        for index in 0..count {
            self.charge(1)?;
            let item = input.item(index);
            let verdict = self.evaluate(predicate, &item, frame)?;
            for _ in 0..self.verdict(&verdict, index, count)? {
                kept.push(item.clone());
            }
        }
        self.sequence(kept)
    }

    /// How often the item at `index` is kept: numbers select positions, anything else is a truth value.
    fn verdict(&mut self, verdict: &Value<'a>, index: usize, count: usize) -> Result<usize> {
        if let Some(number) = operators::finite(verdict)? {
            return Ok(usize::from(position(number, count) == Some(index)));
        }
        if verdict.is_array() {
            self.charge(verdict.len() as u64)?;
            let mut selected = 0;
            let mut all_numbers = true;
            for item in verdict.items() {
                match operators::finite(&item)? {
                    Some(number) => selected += usize::from(position(number, count) == Some(index)),
                    None => all_numbers = false,
                }
            }
            if all_numbers {
                self.charge_elements(selected)?;
                return Ok(selected);
            }
        }
        Ok(usize::from(self.truth(verdict)?))
    }

    /// The member `name`, of each item when `input` is an array.
    pub(crate) fn lookup(&mut self, input: &Value<'a>, name: &str) -> Result<Value<'a>> {
        if !input.is_array() {
            return Ok(input.member(name));
        }
        let mut found = Vec::new();
        self.lookup_into(input, name, &mut found)?;
        self.sequence(found)
    }

    fn lookup_into(
        &mut self,
        input: &Value<'a>,
        name: &str,
        found: &mut Vec<Value<'a>>,
    ) -> Result<()> {
        self.enter()?;
        for item in input.items() {
            self.charge(1)?;
            if item.is_array() {
                self.lookup_into(&item, name, found)?;
                continue;
            }
            match item.member(name) {
                Value::Undefined => {}
                value if value.is_array() => {
                    self.charge_elements(value.len())?;
                    found.extend(value.items());
                }
                value => found.push(value),
            }
        }
        self.leave();
        Ok(())
    }

    /// `*`
    pub(super) fn wildcard(&mut self, input: &Value<'a>) -> Result<Value<'a>> {
        let input = match input {
            Value::Array(array) if array.outer_wrapper && !array.items.is_empty() => input.item(0),
            _ => input.clone(),
        };
        let mut found = Vec::new();
        let mut plain = false;
        // The members of an array are its items.
        let members: Vec<Value<'a>> = if input.is_array() {
            self.charge_elements(input.len())?;
            input.items().collect()
        } else {
            self.charge_elements(input.member_count())?;
            input
                .members()
                .into_iter()
                .map(|(_, value)| value)
                .collect()
        };
        for value in members {
            if value.is_array() {
                // Appending makes a plain array of the sequence, which therefore stays one.
                plain = true;
                self.flatten(&value, &mut found)?;
            } else {
                found.push(value);
            }
        }
        if plain {
            self.array(found)
        } else {
            self.sequence(found)
        }
    }

    fn flatten(&mut self, value: &Value<'a>, found: &mut Vec<Value<'a>>) -> Result<()> {
        self.enter()?;
        self.charge_elements(value.len())?;
        for item in value.items() {
            if item.is_array() {
                self.flatten(&item, found)?;
            } else {
                found.push(item);
            }
        }
        self.leave();
        Ok(())
    }

    /// `**`
    pub(super) fn descendants(&mut self, input: &Value<'a>) -> Result<Value<'a>> {
        if input.is_undefined() {
            return Ok(Value::Undefined);
        }
        let mut found = Vec::new();
        self.descend(input, &mut found)?;
        match found.as_slice() {
            [only] => Ok(only.clone()),
            _ => self.sequence(found),
        }
    }

    fn descend(&mut self, value: &Value<'a>, found: &mut Vec<Value<'a>>) -> Result<()> {
        self.enter()?;
        self.charge_memory(ELEMENT_BYTES)?;
        if value.is_array() {
            for item in value.items() {
                self.descend(&item, found)?;
            }
        } else {
            found.push(value.clone());
            self.charge(value.member_count() as u64)?;
            for (_, member) in value.members() {
                self.descend(&member, found)?;
            }
        }
        self.leave();
        Ok(())
    }
}

/// The index that a number in a filter selects: rounded down, negative counts from the end.
fn position(number: f64, count: usize) -> Option<usize> {
    let index = number.floor();
    let index = if index < 0.0 {
        index + count as f64
    } else {
        index
    };
    (index >= 0.0 && index < count as f64).then_some(index as usize)
}
