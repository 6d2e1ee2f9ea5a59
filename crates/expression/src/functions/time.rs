//! Times as ISO 8601 text and as milliseconds since 1970. Pictures are not supported.

use crate::error::{EvaluateError, Result};
use crate::evaluator::{Arguments, Evaluator};
use crate::value::Value;

const DAY_MS: i64 = 86_400_000;
/// The range of JavaScript's dates: 100 million days either side of 1970.
const MILLIS_MAX: f64 = 8.64e15;

pub(super) fn now<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    refuse_picture(&arguments, 0)?;
    let now = current(evaluator)?;
    evaluator.text(format_iso(now))
}

pub(super) fn millis<'a>(
    evaluator: &mut Evaluator<'a>,
    _arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    Ok(Value::Number(current(evaluator)? as f64))
}

fn current(evaluator: &Evaluator<'_>) -> Result<i64> {
    evaluator
        .now_ms()
        .ok_or_else(|| EvaluateError::failed("TX1002", "the current time is not available here"))
}

fn refuse_picture(arguments: &Arguments<'_>, first: usize) -> Result<()> {
    if arguments
        .all()
        .iter()
        .skip(first)
        .any(|argument| !argument.is_undefined())
    {
        let message = "date pictures and time zones are not supported, only ISO 8601 in UTC";
        return Err(EvaluateError::failed("TX1003", message));
    }
    Ok(())
}

pub(super) fn from_millis<'a>(
    evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Some(millis) = arguments.get(0).as_number() else {
        return Ok(Value::Undefined);
    };
    refuse_picture(&arguments, 1)?;
    if millis.is_nan() || millis.abs() > MILLIS_MAX {
        return Err(EvaluateError::failed(
            "D3110",
            "the number of milliseconds is out of the range of dates",
        ));
    }
    evaluator.text(format_iso(millis.trunc() as i64))
}

pub(super) fn to_millis<'a>(
    _evaluator: &mut Evaluator<'a>,
    arguments: Arguments<'a>,
) -> Result<Value<'a>> {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::Undefined);
    };
    refuse_picture(&arguments, 1)?;
    let millis = parse_iso(&text).ok_or_else(|| {
        EvaluateError::failed(
            "D3110",
            "the argument of $toMillis() must be an ISO 8601 timestamp",
        )
    })?;
    Ok(Value::Number(millis as f64))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn format_iso(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        rest % 1_000
    )
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `YYYY[-MM[-DD]][Thh:mm:ss[.fff]][Z|±hh[:]mm]`; a time without a zone is UTC.
fn parse_iso(text: &str) -> Option<i64> {
    let mut rest = text;
    let digits = |rest: &mut &str, count: usize| -> Option<i64> {
        let (head, tail) = rest.split_at_checked(count)?;
        if !head.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *rest = tail;
        head.parse().ok()
    };
    let year = digits(&mut rest, 4)?;
    let (mut month, mut day) = (1, 1);
    if let Some(after) = rest.strip_prefix('-') {
        rest = after;
        month = digits(&mut rest, 2)?;
        if let Some(after) = rest.strip_prefix('-') {
            rest = after;
            day = digits(&mut rest, 2)?;
        }
    }
    let (mut time, mut offset) = (0, 0);
    if let Some(after) = rest.strip_prefix('T') {
        rest = after;
        let hour = digits(&mut rest, 2)?;
        rest = rest.strip_prefix(':')?;
        let minute = digits(&mut rest, 2)?;
        rest = rest.strip_prefix(':')?;
        let second = digits(&mut rest, 2)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        time = ((hour * 60 + minute) * 60 + second) * 1_000;
        if let Some(after) = rest.strip_prefix('.') {
            let count = after.bytes().take_while(u8::is_ascii_digit).count();
            let fraction = &after[..count];
            let kept: i64 = format!("{:0<3}", fraction.get(..3).unwrap_or(fraction))
                .parse()
                .ok()?;
            if count == 0 {
                return None;
            }
            time += kept;
            rest = &after[count..];
        }
        if let Some(after) = rest.strip_prefix('Z') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix(['+', '-']) {
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            rest = after;
            let hours = digits(&mut rest, 2)?;
            rest = rest.strip_prefix(':').unwrap_or(rest);
            let minutes = digits(&mut rest, 2)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            offset = sign * (hours * 60 + minutes) * 60_000;
        }
    }
    if !rest.is_empty()
        || !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
    {
        return None;
    }
    Some(days_from_civil(year, month, day) * DAY_MS + time - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_iso() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_iso(millis), text);
            assert_eq!(parse_iso(text), Some(millis), "{text}");
        }
        assert_eq!(
            parse_iso("2000-01-01T02:00:00+02:00"),
            Some(946_684_800_000)
        );
        assert_eq!(parse_iso("2000"), Some(946_684_800_000));
        for text in [
            "",
            "20",
            "2000-13",
            "2001-02-29",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:00",
            "2000-01-01x",
            "２０００",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }
}
