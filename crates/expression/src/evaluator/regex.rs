//! Regular expressions at work: one match after another, each paid for by the text that it may scan.

use indexmap::IndexMap;

use super::{Evaluator, Function};
use crate::error::{EvaluateError, Result};
use crate::pattern::Pattern;
use crate::value::{Text, Value};

/// Bytes of text that the smallest pattern scans for one step.
const SCAN_BYTES_PER_STEP: u64 = 128;

/// One match. Offsets are bytes.
pub(crate) struct Match {
    pub start: usize,
    pub end: usize,
    /// `None`: the group took no part.
    pub groups: Vec<Option<(usize, usize)>>,
}

impl<'a> Evaluator<'a> {
    /// The first match at or after `from`.
    pub(crate) fn find(
        &mut self,
        pattern: &Pattern,
        text: &str,
        from: usize,
    ) -> Result<Option<Match>> {
        let rest = (text.len() - from) as u64;
        self.charge(1 + rest.saturating_mul(pattern.weight) / SCAN_BYTES_PER_STEP)?;
        if pattern.regex.captures_len() == 1 {
            let found = pattern.regex.find_at(text, from);
            return Ok(found.map(|found| Match {
                start: found.start(),
                end: found.end(),
                groups: Vec::new(),
            }));
        }
        let Some(captures) = pattern.regex.captures_at(text, from) else {
            return Ok(None);
        };
        let whole = captures.get(0).expect("group 0 is the match itself");
        self.charge(
            captures.len() as u64 + (whole.len() as u64).saturating_mul(pattern.weight) / 16,
        )?;
        let groups = (1..captures.len()).map(|index| {
            captures
                .get(index)
                .map(|group| (group.start(), group.end()))
        });
        Ok(Some(Match {
            start: whole.start(),
            end: whole.end(),
            groups: groups.collect(),
        }))
    }

    /// All matches, at most `limit`. A later one that is empty is an error: it would never progress.
    pub(crate) fn find_all(
        &mut self,
        pattern: &Pattern,
        text: &str,
        limit: Option<usize>,
    ) -> Result<Vec<Match>> {
        let mut found = Vec::new();
        let mut next = if limit == Some(0) {
            None
        } else {
            self.find(pattern, text, 0)?
        };
        while let Some(one) = next {
            self.charge_elements(1 + one.groups.len())?;
            let end = one.end;
            found.push(one);
            if limit.is_some_and(|limit| found.len() >= limit) {
                break;
            }
            next = self.find_next(pattern, text, end)?;
        }
        Ok(found)
    }

    fn find_next(&mut self, pattern: &Pattern, text: &str, from: usize) -> Result<Option<Match>> {
        if from >= text.len() {
            return Ok(None);
        }
        match self.find(pattern, text, from)? {
            Some(found) if found.start == found.end => {
                let message =
                    "the regular expression matches the empty string, so it never comes to an end";
                Err(EvaluateError::failed("D1004", message))
            }
            found => Ok(found),
        }
    }

    /// A pattern called as a function.
    pub(super) fn first_match(
        &mut self,
        pattern: &'a Pattern,
        arguments: &[Value<'a>],
    ) -> Result<Value<'a>> {
        let Some(Value::String(text)) = arguments.first() else {
            return Err(EvaluateError::failed(
                "T0410",
                "a regular expression is applied to a string",
            ));
        };
        let found = self.find(pattern, text, 0)?;
        self.match_object(pattern, text, found)
    }

    pub(super) fn next_match(
        &mut self,
        pattern: &'a Pattern,
        text: &Text<'a>,
        from: usize,
    ) -> Result<Value<'a>> {
        let found = self.find_next(pattern, text, from)?;
        self.match_object(pattern, text, found)
    }

    fn match_object(
        &mut self,
        pattern: &'a Pattern,
        text: &Text<'a>,
        found: Option<Match>,
    ) -> Result<Value<'a>> {
        let Some(found) = found else {
            return Ok(Value::Undefined);
        };
        let start = text[..found.start].encode_utf16().count();
        self.charge_reading(found.end)?;
        let whole = self.text(text[found.start..found.end].to_owned())?;
        let length = text[found.start..found.end].encode_utf16().count();
        let groups = self.match_groups(text, &found)?;
        let next = self.function(Function::NextMatch {
            pattern,
            text: text.clone(),
            from: found.end,
        })?;
        let mut entries = IndexMap::new();
        entries.insert(Text::Borrowed("match"), whole);
        entries.insert(Text::Borrowed("start"), Value::Number(start as f64));
        entries.insert(
            Text::Borrowed("end"),
            Value::Number((start + length) as f64),
        );
        entries.insert(Text::Borrowed("groups"), groups);
        entries.insert(Text::Borrowed("next"), next);
        self.object(entries)
    }

    pub(crate) fn match_groups(&mut self, text: &str, found: &Match) -> Result<Value<'a>> {
        let mut groups = Vec::with_capacity(found.groups.len());
        for group in &found.groups {
            groups.push(match group {
                Some((start, end)) => self.text(text[*start..*end].to_owned())?,
                None => Value::Undefined,
            });
        }
        self.array(groups)
    }
}
