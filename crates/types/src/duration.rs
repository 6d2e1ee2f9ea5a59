//! Durations as documents write them: `500ms`, `30s`, `5m`, `1h30m`, `7d`.
//!
//! Owns the one grammar for them, here because schedules need it as well as flows. It sets no limits (each
//! user of a duration has its own) and never guesses a unit: a bare number is refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Unit names with their length in milliseconds, longest first, as they are written.
const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A length of time in whole milliseconds, read from and written as text with units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowDuration {
    /// The length in milliseconds.
    pub ms: u64,
}

impl FlowDuration {
    /// A duration of so many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        FlowDuration { ms }
    }
}

/// The text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not of the form number, unit, number, unit ...
    #[error(
        "not a duration: write whole numbers with units from longest to shortest, such as 500ms, 30s, 5m, 1h30m or 7d"
    )]
    Malformed,
    /// More milliseconds than 64 bits hold.
    #[error("duration too long")]
    TooLong,
}

impl FromStr for FlowDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(DurationError::Malformed);
        }
        let mut total: u64 = 0;
        // Each unit at most once and in falling order: `1s1h` is more likely a slip than meant.
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            if number.is_empty() {
                return Err(DurationError::Malformed);
            }
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let Some((_, unit_ms)) = units.find(|(name, _)| *name == unit) else {
                return Err(DurationError::Malformed);
            };
            // Only digits: this fails on overflow alone.
            let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
            total = number
                .checked_mul(*unit_ms)
                .and_then(|ms| total.checked_add(ms))
                .ok_or(DurationError::TooLong)?;
            rest = after;
        }
        Ok(FlowDuration { ms: total })
    }
}

impl fmt::Display for FlowDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (name, unit_ms) in UNITS {
            if rest >= unit_ms {
                write!(f, "{}{name}", rest / unit_ms)?;
                rest %= unit_ms;
            }
        }
        Ok(())
    }
}

impl Serialize for FlowDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration as its author wrote it, not yet checked.
///
/// Documents that serde reads hold this rather than [`FlowDuration`], so that validation can report a bad
/// duration by its path beside every other problem, where serde would stop at the first one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationText(String);

impl DurationText {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The duration that the text means.
    pub fn parse(&self) -> Result<FlowDuration, DurationError> {
        self.0.parse()
    }
}

impl From<&str> for DurationText {
    fn from(text: &str) -> Self {
        DurationText(text.to_owned())
    }
}

impl From<FlowDuration> for DurationText {
    fn from(duration: FlowDuration) -> Self {
        DurationText(duration.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("1m500ms", 60_500),
            (" 0s ", 0),
        ] {
            assert_eq!(text.parse(), Ok(FlowDuration::from_ms(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_unclear() {
        for text in [
            "", " ", "5", "s", "5x", "5 m", "1.5s", "-1s", "1s1h", "1s1s", "1M", "5m,", "٣s",
        ] {
            assert_eq!(
                text.parse::<FlowDuration>(),
                Err(DurationError::Malformed),
                "{text}"
            );
        }
        for text in [
            "99999999999999999999s",
            "18446744073709551615w",
            "18446744073709551615s1ms",
        ] {
            assert_eq!(
                text.parse::<FlowDuration>(),
                Err(DurationError::TooLong),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn written_and_read_again_is_the_same(ms: u64) {
            let duration = FlowDuration::from_ms(ms);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<FlowDuration>();
        }
    }
}
