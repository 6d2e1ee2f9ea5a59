//! Cron expressions: text to sets of values, with their Unix meaning.
//!
//! Owns the grammar and what each field means. It knows no calendar beyond the longest length of
//! each month, and no time zone. Every bad field is reported, by name and with what it allows.
//!
//! The choices, where cron implementations differ:
//! - a day-of-month or day-of-week field is *restricted* when it leaves a value out. So `*/1` and
//!   `1-31` restrict nothing, and `*/2` does, although it is written with an asterisk;
//! - both restricted means either (Unix), one restricted means that one;
//! - `N/S` means from N to the field's last value in steps of S;
//! - weekdays go from 0 to 7, both of them Sunday, and a range may end in `SUN` (`SAT-SUN` is 6-7);
//! - a step may be as large as the number of values (`*/60` is once an hour), not larger;
//! - a *schedule of steps* has `*` or `/` in its seconds, minutes or hours: it keeps a rate, where
//!   others keep a time of day (see `schedule.rs` for what follows from that).

use tidemill_types::limits::CRON_EXPRESSION_BYTES_MAX;

/// What is allowed, for messages about the number of fields.
const FIELDS_ALLOWED: &str = "allowed are 5 (minute, hour, day of month, month, day of week), \
                              or 6 with seconds in front";

/// One field of an expression: its name, its values and the names of values.
struct FieldKind {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of the values from `first` on.
    value_names: &'static [&'static str],
    /// `?` may stand for `*`.
    question_mark: bool,
}

const SECONDS: FieldKind = FieldKind::plain("second", 0, 59);
const MINUTES: FieldKind = FieldKind::plain("minute", 0, 59);
const HOURS: FieldKind = FieldKind::plain("hour", 0, 23);
const DAYS_OF_MONTH: FieldKind = FieldKind {
    question_mark: true,
    ..FieldKind::plain("day of month", 1, 31)
};
const MONTHS: FieldKind = FieldKind {
    value_names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
    ..FieldKind::plain("month", 1, 12)
};
/// 7 is Sunday again; it is folded into 0 after parsing.
const DAYS_OF_WEEK: FieldKind = FieldKind {
    value_names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    question_mark: true,
    ..FieldKind::plain("day of week", 0, 7)
};
const SUNDAY_AGAIN: u32 = 7;

/// Days of each month, February with its leap day.
const MONTH_LENGTHS_MAX: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The values that a field allows: bit N for value N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueSet(u64);

impl ValueSet {
    const EMPTY: Self = Self(0);

    fn range(first: u32, last: u32) -> Self {
        (first..=last).fold(Self::EMPTY, |set, value| set.with(value))
    }

    fn with(self, value: u32) -> Self {
        Self(self.0 | 1 << value)
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `value` is in the set.
    pub(super) fn contains(self, value: u32) -> bool {
        self.0 & (1 << value) != 0
    }

    /// The values, ascending.
    pub(super) fn values(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |value| self.contains(*value))
    }
}

/// A checked cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expression {
    pub(super) seconds: ValueSet,
    pub(super) minutes: ValueSet,
    pub(super) hours: ValueSet,
    pub(super) days_of_month: ValueSet,
    pub(super) months: ValueSet,
    /// 0 is Sunday, 6 Saturday.
    pub(super) days_of_week: ValueSet,
    /// It keeps a rate rather than a time of day.
    pub(super) is_steps: bool,
}

impl Expression {
    /// Reads an expression; on failure, every problem that it has.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<String>> {
        if text.len() > CRON_EXPRESSION_BYTES_MAX {
            return Err(vec![format!(
                "{} bytes are too long for a cron expression; at most {CRON_EXPRESSION_BYTES_MAX}",
                text.len()
            )]);
        }
        let text = text.trim();
        let text = if text.starts_with('@') {
            nickname(text).map_err(|problem| vec![problem])?
        } else {
            text
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [second, minute, hour, day_of_month, month, day_of_week] = match fields[..] {
            [minute, hour, day_of_month, month, day_of_week] => {
                ["0", minute, hour, day_of_month, month, day_of_week]
            }
            [second, minute, hour, day_of_month, month, day_of_week] => {
                [second, minute, hour, day_of_month, month, day_of_week]
            }
            [_, _, _, _, _, _, _] => {
                return Err(vec![format!(
                    "7 fields: a year is not supported, seconds minutes hours day-of-month month \
                     day-of-week at most; {FIELDS_ALLOWED}"
                )]);
            }
            _ => return Err(vec![format!("{} fields; {FIELDS_ALLOWED}", fields.len())]),
        };

        let mut problems = Vec::new();
        let mut read = |kind: &FieldKind, text: &str| {
            kind.parse(text).unwrap_or_else(|problem| {
                problems.push(problem);
                ValueSet::EMPTY
            })
        };
        let expression = Self {
            seconds: read(&SECONDS, second),
            minutes: read(&MINUTES, minute),
            hours: read(&HOURS, hour),
            days_of_month: read(&DAYS_OF_MONTH, day_of_month),
            months: read(&MONTHS, month),
            days_of_week: fold_sunday(read(&DAYS_OF_WEEK, day_of_week)),
            is_steps: [second, minute, hour]
                .iter()
                .any(|field| field.contains(['*', '/'])),
        };
        if problems.is_empty() && !expression.can_fire() {
            problems.push(format!(
                "can never fire: no month in the month field ({month}) has a day in the \
                 day-of-month field ({day_of_month})"
            ));
        }
        if problems.is_empty() {
            Ok(expression)
        } else {
            Err(problems)
        }
    }

    /// Whether the day of month leaves days out.
    pub(super) fn restricts_days_of_month(&self) -> bool {
        self.days_of_month != ValueSet::range(1, 31)
    }

    /// Whether the day of week leaves days out.
    pub(super) fn restricts_days_of_week(&self) -> bool {
        self.days_of_week != ValueSet::range(0, 6)
    }

    /// Whether it fires in each hour of each day.
    pub(super) fn is_every_hour(&self) -> bool {
        self.hours == ValueSet::range(0, 23)
            && self.months == ValueSet::range(1, 12)
            && !self.restricts_days_of_month()
            && !self.restricts_days_of_week()
    }

    /// Each weekday comes in each month, so only a day of month alone can ask for what never comes.
    fn can_fire(&self) -> bool {
        self.restricts_days_of_week()
            || (1..).zip(MONTH_LENGTHS_MAX).any(|(month, length)| {
                self.months.contains(month)
                    && (1..=length).any(|day| self.days_of_month.contains(day))
            })
    }
}

/// What a nickname stands for.
fn nickname(text: &str) -> Result<&'static str, String> {
    match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(format!(
            "{text:?} is not a known nickname; allowed are @yearly, @annually, @monthly, @weekly, \
             @daily, @midnight and @hourly"
        )),
    }
}

fn fold_sunday(days: ValueSet) -> ValueSet {
    if days.contains(SUNDAY_AGAIN) {
        ValueSet(days.0 & !(1 << SUNDAY_AGAIN)).with(0)
    } else {
        days
    }
}

impl FieldKind {
    const fn plain(name: &'static str, first: u32, last: u32) -> Self {
        Self {
            name,
            first,
            last,
            value_names: &[],
            question_mark: false,
        }
    }

    fn parse(&self, text: &str) -> Result<ValueSet, String> {
        if text == "?" && self.question_mark {
            return Ok(ValueSet::range(self.first, self.last));
        }
        text.split(',').try_fold(ValueSet::EMPTY, |set, item| {
            Ok(set.union(self.parse_item(item)?))
        })
    }

    /// One item of a list: `*`, a value or a range, each with or without a step.
    fn parse_item(&self, item: &str) -> Result<ValueSet, String> {
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(self.parse_step(step, item)?)),
            None => (item, None),
        };
        let (from, to) = if base == "*" {
            (self.first, self.last)
        } else if let Some((from, to)) = base.split_once('-') {
            let from = self.parse_value(from, item)?;
            // Sunday is 0, but as the end of a range it is the one after Saturday.
            let to = if to.eq_ignore_ascii_case("SUN") && from > 0 && self.last == SUNDAY_AGAIN {
                SUNDAY_AGAIN
            } else {
                self.parse_value(to, item)?
            };
            if from > to {
                return Err(self.problem(&format!("the range {base} is reversed")));
            }
            (from, to)
        } else {
            let value = self.parse_value(base, item)?;
            (value, if step.is_some() { self.last } else { value })
        };
        Ok((from..=to)
            .step_by(step.unwrap_or(1))
            .fold(ValueSet::EMPTY, ValueSet::with))
    }

    fn parse_step(&self, step: &str, item: &str) -> Result<usize, String> {
        let count = self.count();
        match parse_number(step) {
            None => Err(self.problem(&format!("{step:?} in {item:?} is not a step"))),
            Some(0) => Err(self.problem(&format!(
                "a step of 0 in {item:?} never advances; allowed are steps from 1 to {count}"
            ))),
            Some(step) if step > count => Err(self.problem(&format!(
                "the step {step} in {item:?} is longer than the field; allowed are steps from 1 to {count}"
            ))),
            Some(step) => Ok(step as usize),
        }
    }

    fn parse_value(&self, text: &str, item: &str) -> Result<u32, String> {
        if let Some(value) = (self.first..)
            .zip(self.value_names)
            .find_map(|(value, name)| name.eq_ignore_ascii_case(text).then_some(value))
        {
            return Ok(value);
        }
        match parse_number(text) {
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            Some(_) => Err(self.problem(&format!("{text} is out of range"))),
            None if text.is_empty() => {
                Err(self.problem(&format!("a value is missing in {item:?}")))
            }
            None if is_quartz(text) => {
                Err(self.problem(&format!("{text:?} is not supported (L, W and # are not)")))
            }
            None => Err(self.problem(&format!("{text:?} is not a value"))),
        }
    }

    /// How many values there are; Sunday counts once.
    fn count(&self) -> u32 {
        let sunday_again = u32::from(self.last == SUNDAY_AGAIN);
        self.last - self.first + 1 - sunday_again
    }

    fn problem(&self, what: &str) -> String {
        let names = match self.value_names {
            [first, .., last] => format!(" or {first}-{last}"),
            _ => String::new(),
        };
        format!(
            "{}: {what}; values are {}-{}{names}",
            self.name, self.first, self.last
        )
    }
}

/// Digits only: `u32::from_str` alone would take a sign.
fn parse_number(text: &str) -> Option<u32> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Beyond u32 is beyond every field too; saturating keeps the message "out of range".
    is_digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// Quartz's day specifiers, such as `L`, `15W`, `LW`, `5L`, `5#2`, `MON#1`.
fn is_quartz(text: &str) -> bool {
    text.contains('#')
        || text
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .bytes()
            .all(|byte| matches!(byte.to_ascii_uppercase(), b'L' | b'W'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(set: ValueSet) -> Vec<u32> {
        set.values().collect()
    }

    fn parse(text: &str) -> Expression {
        Expression::parse(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
    }

    #[test]
    fn fields_have_their_unix_meaning() {
        let expression = parse("*/20 8-10 1,15 JAN-mar Mon-Fri");
        assert_eq!(values(expression.seconds), [0]);
        assert_eq!(values(expression.minutes), [0, 20, 40]);
        assert_eq!(values(expression.hours), [8, 9, 10]);
        assert_eq!(values(expression.days_of_month), [1, 15]);
        assert_eq!(values(expression.months), [1, 2, 3]);
        assert_eq!(values(expression.days_of_week), [1, 2, 3, 4, 5]);
        assert_eq!(values(parse("*/30 * * * * *").seconds), [0, 30]);
        assert_eq!(values(parse("50/4 5-17/6 * * *").minutes), [50, 54, 58]);
        assert_eq!(values(parse("50/4 5-17/6 * * *").hours), [5, 11, 17]);
        assert_eq!(values(parse("*/60 */24 */31 */12 */7").minutes), [0]);
    }

    #[test]
    fn sunday_is_0_and_7() {
        for (field, expected) in [
            ("0", vec![0]),
            ("7", vec![0]),
            ("SUN", vec![0]),
            ("sun-mon", vec![0, 1]),
            ("6-7", vec![0, 6]),
            ("SAT-SUN", vec![0, 6]),
            ("5/1", vec![0, 5, 6]),
            ("*/7", vec![0]),
            ("*/3", vec![0, 3, 6]),
            ("0-7", vec![0, 1, 2, 3, 4, 5, 6]),
            ("?", vec![0, 1, 2, 3, 4, 5, 6]),
        ] {
            let expression = parse(&format!("0 0 * * {field}"));
            assert_eq!(values(expression.days_of_week), expected, "{field}");
        }
    }

    #[test]
    fn nicknames_stand_for_expressions() {
        for (nickname, text) in [
            ("@yearly", "0 0 1 1 *"),
            ("@ANNUALLY", "0 0 1 1 *"),
            ("@monthly", "0 0 1 * *"),
            ("@weekly", "0 0 * * 7"),
            (" @daily ", "0 0 * * *"),
            ("@midnight", "0 0 * * ?"),
            ("@hourly", "0 * * * *"),
        ] {
            assert_eq!(parse(nickname), parse(text), "{nickname}");
        }
    }

    #[test]
    fn steps_and_times_of_day() {
        for (text, is_steps) in [
            ("*/15 * * * *", true),
            ("0 * * * *", true),
            ("*/15 2 * * *", true),
            ("0 0/6 * * *", true),
            ("0 0-12/6 * * *", true),
            ("* 30 2 * * *", true),
            ("0 2 * * *", false),
            ("0,30 1-3 * * *", false),
            ("0 0 */2 */3 */2", false),
        ] {
            assert_eq!(parse(text).is_steps, is_steps, "{text}");
        }
    }

    #[test]
    fn restricted_means_that_values_are_left_out() {
        for (text, month, week) in [
            ("0 0 * * *", false, false),
            ("0 0 ? * ?", false, false),
            ("0 0 */1 * 0-6", false, false),
            ("0 0 1-31 * 1-7", false, false),
            ("0 0 */2 * 1", true, true),
        ] {
            let expression = parse(text);
            assert_eq!(expression.restricts_days_of_month(), month, "{text}");
            assert_eq!(expression.restricts_days_of_week(), week, "{text}");
        }
    }

    #[test]
    fn refusals_name_the_field_and_what_is_allowed() {
        for (text, parts) in [
            ("", &["0 fields", "allowed are 5"][..]),
            ("* * * *", &["4 fields", "seconds in front"]),
            (
                "0 0 0 1 1 * 2026",
                &["7 fields", "year", "seconds minutes hours"],
            ),
            ("1 2 3 4 5 6 7 8", &["8 fields"]),
            ("60 * * * *", &["minute: 60 is out of range", "0-59"]),
            ("60 0 * * * *", &["second: 60"]),
            ("* 24 * * *", &["hour: 24", "0-23"]),
            ("* * 0 * *", &["day of month: 0", "1-31"]),
            ("* * 32 * *", &["day of month: 32"]),
            ("* * * 13 *", &["month: 13", "1-12 or JAN-DEC"]),
            ("* * * * 8", &["day of week: 8", "0-7 or SUN-SAT"]),
            (
                "99999999999 * * * *",
                &["minute: 99999999999 is out of range"],
            ),
            ("*/0 * * * *", &["minute: a step of 0", "from 1 to 60"]),
            ("*/90 * * * *", &["minute: the step 90", "from 1 to 60"]),
            ("* * * * */8", &["day of week: the step 8", "from 1 to 7"]),
            ("*/x * * * *", &["minute: \"x\"", "not a step"]),
            ("1/2/3 * * * *", &["minute: \"2/3\"", "not a step"]),
            ("10-5 * * * *", &["minute: the range 10-5 is reversed"]),
            (
                "* * * * FRI-MON",
                &["day of week: the range FRI-MON is reversed"],
            ),
            ("1,,2 * * * *", &["minute: a value is missing"]),
            ("1, * * * *", &["minute: a value is missing"]),
            ("-5 * * * *", &["minute: a value is missing in \"-5\""]),
            ("+5 * * * *", &["minute: \"+5\" is not a value"]),
            ("? * * * *", &["minute: \"?\" is not a value"]),
            ("MON * * * *", &["minute: \"MON\" is not a value"]),
            (
                "0 0 * * MONDAY",
                &["day of week: \"MONDAY\" is not a value"],
            ),
            (
                "0 0 L * *",
                &["day of month: \"L\" is not supported", "L, W and #"],
            ),
            ("0 0 1W * *", &["day of month: \"1W\" is not supported"]),
            ("0 0 * * 5#2", &["day of week: \"5#2\" is not supported"]),
            ("0 0 * * 5L", &["day of week: \"5L\" is not supported"]),
            ("@reboot", &["@reboot", "@hourly"]),
            ("@daily 5", &["nickname"]),
            ("0 0 31 2 *", &["never fire", "(2)", "(31)"]),
            ("0 0 30,31 FEB *", &["never fire"]),
            ("0 0 31 4,6,9,11 ?", &["never fire"]),
        ] {
            let problems = Expression::parse(text).expect_err(text).join("\n");
            for part in parts {
                assert!(problems.contains(part), "{text}: {problems}");
            }
        }
        let problems = Expression::parse("60 24 * 0 9").expect_err("four bad fields");
        assert_eq!(problems.len(), 4, "{problems:?}");
        let long = format!("{} * * * *", "1,".repeat(CRON_EXPRESSION_BYTES_MAX));
        assert!(Expression::parse(&long).expect_err("long")[0].contains("at most 512"));
    }

    #[test]
    fn what_rarely_fires_can_fire() {
        for text in [
            "0 0 29 2 *",
            "0 0 31 2 1",
            "0 0 30,31 2,4 *",
            "0 0 31 2 */2",
        ] {
            parse(text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = Expression::parse(&text);
        }

        #[test]
        fn any_text_of_the_alphabet_is_answered(text in "[0-9*/,\\-?@A-Za-zLW# ]{0,30}") {
            let _ = Expression::parse(&text);
        }

        #[test]
        fn any_five_items_are_answered(
            items in proptest::collection::vec("[0-9*/,\\-]{1,6}", 5..=6)
        ) {
            if let Ok(expression) = Expression::parse(&items.join(" ")) {
                prop_assert!(expression.minutes.values().count() > 0);
                prop_assert!(expression.days_of_week.values().all(|day| day < 7));
            }
        }
    }
}
