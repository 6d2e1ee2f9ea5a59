//! Regular expressions, matched in linear time. JavaScript's syntax is translated where the `regex` crate
//! differs; what needs backtracking (look-around, back-references) is refused when the source is parsed.

use regex::{Regex, RegexBuilder};

use crate::error::ParseError;
use crate::limits::{REGEX_BYTES_MAX, REGEX_CACHE_BYTES_MAX};

/// Compiled sizes tried, smallest first: the first that suffices says how much work a byte of text can be.
const SIZES: [usize; 3] = [4 * 1024, 16 * 1024, REGEX_BYTES_MAX];

#[derive(Debug)]
pub(crate) struct Pattern {
    pub regex: Regex,
    /// Steps for 16 bytes of text, from the compiled size.
    pub weight: u64,
}

impl Pattern {
    pub fn compile(source: &str, flags: &str, position: usize) -> Result<Self, ParseError> {
        let translated = translate(source);
        let mut failure = None;
        for size in SIZES {
            let built = RegexBuilder::new(&translated)
                .case_insensitive(flags.contains('i'))
                .multi_line(flags.contains('m'))
                .nest_limit(64)
                .size_limit(size)
                .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
                .build();
            match built {
                Ok(regex) => {
                    return Ok(Self {
                        regex,
                        weight: (size / SIZES[0]) as u64,
                    });
                }
                Err(error @ regex::Error::CompiledTooBig(_)) => failure = Some(error),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let reason = failure.map_or_else(String::new, |error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large once compiled".to_owned(),
            other => other.to_string(),
        });
        Err(ParseError::new(
            position,
            format!("TX0005: the regular expression is not supported: {reason}"),
        ))
    }
}

/// JavaScript's `\d`, `\w` and `\b` mean ASCII, and its classes know no nesting and no set operations.
fn translate(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut characters = source.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('d') if in_class => result.push_str("0-9"),
                Some('d') => result.push_str("[0-9]"),
                Some('D') => result.push_str("[^0-9]"),
                Some('w') if in_class => result.push_str("0-9A-Za-z_"),
                Some('w') => result.push_str("[0-9A-Za-z_]"),
                Some('W') => result.push_str("[^0-9A-Za-z_]"),
                Some('b') if in_class => result.push_str("\\x08"),
                Some('b') => result.push_str("(?-u:\\b)"),
                Some(other @ ('<' | '>')) => result.push(other),
                Some(other) => {
                    result.push('\\');
                    result.push(other);
                }
                None => result.push('\\'),
            },
            '[' if in_class => result.push_str("\\["),
            '[' => {
                in_class = true;
                result.push('[');
                if characters.peek() == Some(&'^') {
                    characters.next();
                    result.push('^');
                }
            }
            ']' => {
                in_class = false;
                result.push(']');
            }
            '&' | '~' if in_class => {
                result.push('\\');
                result.push(character);
            }
            '-' if in_class && characters.peek() == Some(&'-') => result.push_str("\\-"),
            other => result.push(other),
        }
    }
    result
}
