//! Signatures of functions such as `<s-nn?:s>`: which arguments fit, which are filled in from the context.

use crate::error::{EvaluateError, Result};
use crate::value::Value;

/// Most parameters of a signature: matching tries at most as many combinations.
const PARAMETERS_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    One,
    Optional,
    OneOrMore,
}

#[derive(Debug, Clone)]
struct Parameter {
    /// Letters of the types that fit; `m` stands for nothing (a missing value).
    accepts: String,
    array: bool,
    /// Type of an array's items.
    items: Option<char>,
    /// Filled in from the context when it is left out.
    context: bool,
    count: Count,
}

#[derive(Debug, Clone)]
pub(crate) struct Signature {
    parameters: Vec<Parameter>,
}

impl Signature {
    /// Parses `<…>`. The error is a message for the author of the source.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let letters: Vec<char> = text.chars().collect();
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut at = 1;
        while at < letters.len() && letters[at] != ':' && letters[at] != '>' {
            let letter = letters[at];
            match letter {
                's' | 'n' | 'b' | 'l' | 'o' => {
                    parameters.push(parameter(format!("{letter}m"), false))
                }
                'a' => parameters.push(parameter("asnblfom".into(), true)),
                'f' => parameters.push(parameter("f".into(), false)),
                'j' => parameters.push(parameter("asnblom".into(), false)),
                'x' => parameters.push(parameter("asnblfom".into(), false)),
                '(' => {
                    let end = letters[at..]
                        .iter()
                        .position(|letter| *letter == ')')
                        .map(|offset| at + offset);
                    let end =
                        end.ok_or("S0402: a choice of types in a signature has no closing )")?;
                    let choice: String = letters[at + 1..end].iter().collect();
                    if choice.contains('<') {
                        return Err(
                            "S0402: a choice of types in a signature cannot have type parameters"
                                .into(),
                        );
                    }
                    parameters.push(parameter(format!("{choice}m"), false));
                    at = end;
                }
                '<' => {
                    let end = closing(&letters, at)
                        .ok_or("S0401: a type parameter in a signature has no closing >")?;
                    let last = parameters
                        .last_mut()
                        .ok_or("S0401: a signature cannot start with a type parameter")?;
                    if !(last.array || last.accepts == "f") {
                        return Err(
                            "S0401: only `a` and `f` can have a type parameter in a signature"
                                .into(),
                        );
                    }
                    if last.array {
                        last.items = letters.get(at + 1).copied();
                    }
                    at = end;
                }
                '-' | '?' | '+' => {
                    let last = parameters
                        .last_mut()
                        .ok_or("S0401: a signature cannot start with - ? or +")?;
                    match letter {
                        '-' => (last.context, last.count) = (true, Count::Optional),
                        '?' => last.count = Count::Optional,
                        _ => last.count = Count::OneOrMore,
                    }
                }
                other => return Err(format!("S0401: unknown type `{other}` in a signature")),
            }
            // With one repetition at most, finding the fitting counts stays cheap.
            if parameters
                .iter()
                .filter(|parameter| parameter.count == Count::OneOrMore)
                .count()
                > 1
            {
                return Err("TX0004: a signature can have at most one `+`".into());
            }
            if parameters.len() > PARAMETERS_MAX {
                return Err(format!(
                    "TX0004: a signature can have at most {PARAMETERS_MAX} parameters"
                ));
            }
            at += 1;
        }
        Ok(Self { parameters })
    }

    /// Checks `arguments`, wraps single values where an array is wanted, and fills in the context.
    pub fn apply<'a>(
        &self,
        arguments: &[Value<'a>],
        context: &Value<'a>,
    ) -> Result<Vec<Value<'a>>> {
        let letters: Vec<char> = arguments.iter().map(letter).collect();
        let mut counts = vec![0; self.parameters.len()];
        let mut tried = vec![false; (self.parameters.len() + 1) * (letters.len() + 1)];
        if !self.fits(&letters, 0, &mut counts, &mut tried) {
            return Err(self.refusal(&letters));
        }
        let mut accepted = Vec::with_capacity(self.parameters.len());
        let mut next = 0;
        for (parameter, count) in self.parameters.iter().zip(counts) {
            if count == 0 {
                if parameter.context {
                    if !parameter.accepts.contains(letter(context)) {
                        let message = format!(
                            "argument {} is missing, and the context, {}, does not fit",
                            next + 1,
                            context.described()
                        );
                        return Err(EvaluateError::failed("T0411", message));
                    }
                    accepted.push(context.clone());
                } else {
                    accepted.push(Value::Undefined);
                }
                continue;
            }
            for _ in 0..count {
                accepted.push(parameter.accept(&arguments[next], letters[next], next)?);
                next += 1;
            }
        }
        Ok(accepted)
    }

    /// Whether the letters from here on fit the parameters from `index` on, greedily and with going back.
    fn fits(
        &self,
        letters: &[char],
        index: usize,
        counts: &mut [usize],
        tried: &mut [bool],
    ) -> bool {
        let Some(parameter) = self.parameters.get(index) else {
            return letters.is_empty();
        };
        let state = letters.len() * (self.parameters.len() + 1) + index;
        if std::mem::replace(&mut tried[state], true) {
            return false;
        }
        let run = letters
            .iter()
            .take_while(|letter| parameter.accepts.contains(**letter))
            .count();
        let (least, most) = match parameter.count {
            Count::One => (1, 1),
            Count::Optional => (0, 1),
            Count::OneOrMore => (1, run),
        };
        for count in (least..=most.min(run)).rev() {
            counts[index] = count;
            if self.fits(&letters[count..], index + 1, counts, tried) {
                return true;
            }
        }
        false
    }

    fn refusal(&self, letters: &[char]) -> EvaluateError {
        let mut at = 0;
        for parameter in &self.parameters {
            let fits = letters
                .get(at)
                .is_some_and(|letter| parameter.accepts.contains(*letter));
            match (fits, parameter.count) {
                (true, _) => at += 1,
                (false, Count::Optional) => {}
                (false, _) => break,
            }
        }
        let message = if at < letters.len() {
            format!(
                "argument {} has a type that does not fit the function",
                at + 1
            )
        } else {
            format!("argument {} is missing", at + 1)
        };
        EvaluateError::failed("T0410", message)
    }
}

impl Parameter {
    fn accept<'a>(&self, argument: &Value<'a>, found: char, index: usize) -> Result<Value<'a>> {
        if !self.array || found == 'm' {
            return Ok(argument.clone());
        }
        if let Some(wanted) = self.items {
            let fits = if found == 'a' {
                argument.items().all(|item| letter(&item) == wanted)
            } else {
                found == wanted
            };
            if !fits {
                let message = format!(
                    "argument {} must be an array of {}",
                    index + 1,
                    plural(wanted)
                );
                return Err(EvaluateError::failed("T0412", message));
            }
        }
        if found == 'a' {
            return Ok(argument.clone());
        }
        let array = crate::value::Array {
            depth: argument.depth() + 1,
            items: vec![argument.clone()],
            ..crate::value::Array::default()
        };
        Ok(Value::Array(std::rc::Rc::new(array)))
    }
}

fn parameter(accepts: String, array: bool) -> Parameter {
    Parameter {
        accepts,
        array,
        items: None,
        context: false,
        count: Count::One,
    }
}

fn closing(letters: &[char], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in letters.iter().enumerate().skip(open) {
        match letter {
            '<' => depth += 1,
            '>' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn letter(value: &Value<'_>) -> char {
    match value {
        Value::Undefined => 'm',
        Value::Null => 'l',
        Value::Bool(_) => 'b',
        Value::Number(_) | Value::Exact(_) => 'n',
        Value::String(_) => 's',
        Value::JsonArray(_) | Value::Array(_) | Value::Tuples(_) => 'a',
        Value::JsonObject(_) | Value::Object(_) => 'o',
        Value::Builtin(_) | Value::Function(_) | Value::Pattern(_) => 'f',
    }
}

fn plural(letter: char) -> &'static str {
    match letter {
        'a' => "arrays",
        'b' => "booleans",
        'f' => "functions",
        'n' => "numbers",
        'o' => "objects",
        's' => "strings",
        _ => "values of the right type",
    }
}
