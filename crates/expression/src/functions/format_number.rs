//! `$formatNumber`: the decimal pictures of XPath.

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::number;
use crate::value::Value;

/// Longest picture, in characters. It bounds every loop below.
const PICTURE_MAX: usize = 100;

/// The characters that have a meaning in a picture.
struct Symbols {
    decimal: char,
    grouping: char,
    exponent: char,
    minus: String,
    percent: String,
    per_mille: String,
    zero: char,
    digit: char,
    pattern: char,
}

impl Symbols {
    fn new(options: &Value<'_>) -> Self {
        let text = |name: &str, default: &str| {
            options
                .member(name)
                .as_str()
                .filter(|text| !text.is_empty())
                .unwrap_or(default)
                .to_owned()
        };
        let one = |name: &str, default: &str| {
            text(name, default)
                .chars()
                .next()
                .expect("empty texts are left out")
        };
        Self {
            decimal: one("decimal-separator", "."),
            grouping: one("grouping-separator", ","),
            exponent: one("exponent-separator", "e"),
            minus: text("minus-sign", "-"),
            percent: text("percent", "%"),
            per_mille: text("per-mille", "\u{2030}"),
            zero: one("zero-digit", "0"),
            digit: one("digit", "#"),
            pattern: one("pattern-separator", ";"),
        }
    }

    fn is_decimal_digit(&self, character: char) -> bool {
        (self.zero as u32..self.zero as u32 + 10).contains(&(character as u32))
    }

    fn is_digit(&self, character: char) -> bool {
        self.is_decimal_digit(character) || character == self.digit
    }

    fn is_active(&self, character: char) -> bool {
        self.is_digit(character)
            || [self.decimal, self.exponent, self.grouping, self.pattern].contains(&character)
    }
}

/// One of the up to two pictures, analysed.
#[derive(Clone)]
struct Picture {
    text: String,
    prefix: String,
    suffix: String,
    grouping: Vec<usize>,
    /// Distance between grouping separators, if it is the same everywhere.
    regular_grouping: usize,
    fraction_grouping: Vec<usize>,
    integer_min: usize,
    scaling: usize,
    fraction_min: usize,
    fraction_max: usize,
    exponent_min: usize,
}

pub(super) fn format_number<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Some(value) = arguments.get(0).as_number() else {
        return Ok(Value::Undefined);
    };
    let symbols = Symbols::new(&arguments.get(2));
    let picture = arguments.get(1);
    let picture = picture.as_str().unwrap_or("");
    if picture.chars().count() > PICTURE_MAX {
        let message =
            format!("the picture of $formatNumber() can have at most {PICTURE_MAX} characters");
        return Err(EvaluateError::failed("TX1004", message));
    }
    evaluator.charge(PICTURE_MAX as u64)?;
    let mut pictures = Vec::new();
    for part in picture.split(symbols.pattern) {
        pictures.push(analyse(part, &symbols)?);
    }
    let chosen = match pictures.as_slice() {
        [only] if value < 0.0 => Picture {
            prefix: format!("{}{}", symbols.minus, only.prefix),
            ..only.clone()
        },
        [only] => only.clone(),
        [positive, negative] => {
            if value >= 0.0 {
                positive.clone()
            } else {
                negative.clone()
            }
        }
        _ => return Err(invalid("D3080", "must have at most two parts")),
    };
    let text = render(value, &chosen, &symbols);
    evaluator.text(text)
}

fn invalid(code: &'static str, reason: &str) -> EvaluateError {
    EvaluateError::failed(code, format!("the picture of $formatNumber() {reason}"))
}

fn count(characters: &[char], accept: impl Fn(char) -> bool) -> usize {
    characters
        .iter()
        .filter(|character| accept(**character))
        .count()
}

fn analyse(picture: &str, symbols: &Symbols) -> Result<Picture> {
    let characters: Vec<char> = picture.chars().collect();
    let marks_number =
        |character: &char| symbols.is_active(*character) && *character != symbols.exponent;
    let first = characters.iter().position(marks_number);
    let last = characters.iter().rposition(marks_number);
    // Without any active character everything is the active part, which is then refused.
    let start = first.unwrap_or(0);
    let end = last.map_or(characters.len(), |last| last + 1);
    let active = &characters[start..end];
    let exponent_at = active
        .iter()
        .position(|character| *character == symbols.exponent);
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&active[..at], Some(&active[at + 1..])),
        None => (active, None),
    };
    let decimal_at = mantissa
        .iter()
        .position(|character| *character == symbols.decimal);
    let (integer, fraction) = match decimal_at {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    validate(
        picture,
        &characters,
        symbols,
        active,
        mantissa,
        integer,
        fraction,
        exponent,
    )?;

    let decimal_digit = |character| symbols.is_decimal_digit(character);
    let any_digit = |character| symbols.is_digit(character);
    let is_grouping = |character: &char| *character == symbols.grouping;
    let grouping: Vec<usize> = (0..integer.len())
        .filter(|at| is_grouping(&integer[*at]))
        .map(|at| count(&integer[at..], any_digit))
        .collect();
    let fraction_grouping = (0..fraction.len())
        .filter(|at| is_grouping(&fraction[*at]))
        .map(|at| count(&fraction[..at], any_digit))
        .collect();
    let mut integer_min = count(integer, decimal_digit);
    let scaling = integer_min;
    let mut fraction_min = count(fraction, decimal_digit);
    let mut fraction_max = count(fraction, any_digit);
    if integer_min == 0 && fraction_max == 0 {
        if exponent.is_some() {
            (fraction_min, fraction_max) = (1, 1);
        } else {
            integer_min = 1;
        }
    }
    if exponent.is_some() && integer_min == 0 && integer.contains(&symbols.digit) {
        integer_min = 1;
    }
    if integer_min == 0 && fraction_min == 0 {
        fraction_min = 1;
    }
    Ok(Picture {
        text: picture.to_owned(),
        prefix: characters[..start].iter().collect(),
        suffix: characters[end..].iter().collect(),
        regular_grouping: regular(&grouping),
        grouping,
        fraction_grouping,
        integer_min,
        scaling,
        fraction_min,
        fraction_max,
        exponent_min: exponent.map_or(0, |exponent| count(exponent, decimal_digit)),
    })
}

#[allow(clippy::too_many_arguments)]
fn validate(
    picture: &str,
    characters: &[char],
    symbols: &Symbols,
    active: &[char],
    mantissa: &[char],
    integer: &[char],
    fraction: &[char],
    exponent: Option<&[char]>,
) -> Result<()> {
    let occurrences = |wanted: &str| picture.matches(wanted).count();
    let (percents, per_milles) = (
        occurrences(&symbols.percent),
        occurrences(&symbols.per_mille),
    );
    let decimal_digit = |character: &char| symbols.is_decimal_digit(*character);
    let is_optional = |character: &char| *character == symbols.digit;
    let digit_before_optional = integer
        .iter()
        .position(is_optional)
        .is_some_and(|at| integer[..at].iter().any(decimal_digit));
    let digit_after_optional = fraction
        .iter()
        .rposition(is_optional)
        .is_some_and(|at| fraction[at..].iter().any(decimal_digit));
    let beside_decimal = characters.windows(2).any(|pair| {
        pair == [symbols.decimal, symbols.grouping] || pair == [symbols.grouping, symbols.decimal]
    });
    let has_decimal = characters.contains(&symbols.decimal);
    let rules = [
        (
            count(characters, |character| character == symbols.decimal) > 1,
            "D3081",
            "has more than one decimal separator",
        ),
        (percents > 1, "D3082", "has more than one percent sign"),
        (per_milles > 1, "D3083", "has more than one per-mille sign"),
        (
            percents > 0 && per_milles > 0,
            "D3084",
            "has both a percent and a per-mille sign",
        ),
        (
            count(mantissa, |character| symbols.is_digit(character)) == 0,
            "D3085",
            "has no digit",
        ),
        (
            active
                .iter()
                .any(|character| !symbols.is_active(*character)),
            "D3086",
            "has other text between digits",
        ),
        (
            has_decimal && beside_decimal,
            "D3087",
            "has a grouping separator beside the decimal separator",
        ),
        (
            !has_decimal && integer.last() == Some(&symbols.grouping),
            "D3088",
            "ends in a grouping separator",
        ),
        (
            characters
                .windows(2)
                .any(|pair| pair == [symbols.grouping, symbols.grouping]),
            "D3089",
            "has two grouping separators side by side",
        ),
        (
            digit_before_optional,
            "D3090",
            "has a digit before an optional digit in the integer part",
        ),
        (
            digit_after_optional,
            "D3091",
            "has a digit after an optional digit in the fraction",
        ),
        (
            exponent.is_some_and(|exponent| !exponent.is_empty()) && percents + per_milles > 0,
            "D3092",
            "has both an exponent and a percent or per-mille sign",
        ),
        (
            exponent
                .is_some_and(|exponent| exponent.is_empty() || !exponent.iter().all(decimal_digit)),
            "D3093",
            "must have only digits in its exponent",
        ),
    ];
    // As in the reference, the last rule that is broken is the one reported.
    match rules.into_iter().rev().find(|(broken, _, _)| *broken) {
        Some((_, code, reason)) => Err(invalid(code, reason)),
        None => Ok(()),
    }
}

fn regular(positions: &[usize]) -> usize {
    let Some(&first) = positions.first() else {
        return 0;
    };
    let factor = positions
        .iter()
        .fold(first, |factor, position| gcd(factor, *position));
    let complete = (1..=positions.len()).all(|index| positions.contains(&(index * factor)));
    if complete { factor } else { 0 }
}

fn gcd(left: usize, right: usize) -> usize {
    if right == 0 {
        left
    } else {
        gcd(right, left % right)
    }
}

fn render(value: f64, picture: &Picture, symbols: &Symbols) -> String {
    let mut mantissa = if picture.text.contains(&symbols.percent) {
        value * 100.0
    } else if picture.text.contains(&symbols.per_mille) {
        value * 1000.0
    } else {
        value
    };
    let mut exponent = None;
    if picture.exponent_min > 0 {
        let most = 10_f64.powi(picture.scaling as i32);
        let least = 10_f64.powi(picture.scaling as i32 - 1);
        let mut power = 0;
        if mantissa != 0.0 && mantissa.is_finite() {
            while mantissa.abs() < least {
                mantissa *= 10.0;
                power -= 1;
            }
            while mantissa.abs() > most {
                mantissa /= 10.0;
                power += 1;
            }
        }
        exponent = Some(power);
    }
    let rounded = number::round(mantissa, picture.fraction_max as i32);
    let fixed = format!("{:.*}", picture.fraction_max, rounded.abs());
    let (integer, fraction) = fixed.split_once('.').unwrap_or((&fixed, ""));
    let integer = integer.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let mut integer: Vec<char> = format!("{integer:0>width$}", width = picture.integer_min)
        .chars()
        .collect();
    let mut fraction: Vec<char> = format!("{fraction:0<width$}", width = picture.fraction_min)
        .chars()
        .collect();

    let separators = integer
        .len()
        .saturating_sub(1)
        .checked_div(picture.regular_grouping);
    if let Some(groups) = separators {
        for group in 1..=groups {
            let at = integer.len() - group * picture.regular_grouping - (group - 1);
            integer.insert(at, symbols.grouping);
        }
    } else {
        let digits = integer.len();
        let mut positions = picture.grouping.clone();
        positions.sort_unstable();
        for (inserted, position) in positions
            .into_iter()
            .filter(|position| *position <= digits)
            .enumerate()
        {
            let at = integer.len() - position - inserted;
            integer.insert(at, symbols.grouping);
        }
    }
    for (inserted, position) in picture.fraction_grouping.iter().enumerate() {
        let at = position + inserted;
        if at <= fraction.len() {
            fraction.insert(at, symbols.grouping);
        }
    }
    let mut text: String = integer.into_iter().collect();
    if !fraction.is_empty() && picture.text.contains(symbols.decimal) {
        text.push(symbols.decimal);
        text.extend(fraction);
    }
    if let Some(exponent) = exponent {
        text.push(symbols.exponent);
        if exponent < 0 {
            text.push_str(&symbols.minus);
        }
        text.push_str(&format!(
            "{:0>width$}",
            i32::abs(exponent),
            width = picture.exponent_min
        ));
    }
    let text: String = text
        .chars()
        .map(|character| digit_of_family(character, symbols))
        .collect();
    format!("{}{text}{}", picture.prefix, picture.suffix)
}

fn digit_of_family(character: char, symbols: &Symbols) -> char {
    match character.to_digit(10) {
        Some(digit) if symbols.zero != '0' => {
            char::from_u32(symbols.zero as u32 + digit).unwrap_or(character)
        }
        _ => character,
    }
}
