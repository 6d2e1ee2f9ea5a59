//! How often something may happen: `500/s`, `100/m`.

use std::{fmt, time::Duration};

use tidemill_types::limits::WEBHOOK_RATE_MAX;

const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];

/// So many in so long, evenly, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In how long.
    pub per: Duration,
    /// How many at once.
    pub burst: u32,
}

impl Rate {
    /// Reads one; none for `none`.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim() == "none" {
            return Ok(None);
        }
        let allowed = || {
            format!(
                "not a rate: write none, or a number and a unit, such as 500/s, 100/m or 5/h, at most {WEBHOOK_RATE_MAX}"
            )
        };
        let (number, unit) = text.trim().split_once('/').ok_or_else(allowed)?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, seconds) = unit.ok_or_else(allowed)?;
        let requests = number.parse().ok();
        let requests = requests
            .filter(|requests| (1..=WEBHOOK_RATE_MAX).contains(requests))
            .ok_or_else(allowed)?;
        Ok(Some(Self {
            requests,
            per: Duration::from_secs(*seconds),
            burst: requests,
        }))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        let unit = UNITS.iter().find(|(_, length)| *length == seconds);
        let (unit, _) = unit.unwrap_or(&UNITS[0]);
        write!(f, "{}/{unit}", self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        for text in ["500/s", "1/m", "1000000/h"] {
            let rate = Rate::parse(text).expect("a rate").expect("one");
            assert_eq!(rate.to_string(), text);
            assert_eq!(rate.burst, rate.requests);
        }
        assert_eq!(Rate::parse("none"), Ok(None));
        for text in [
            "",
            "5",
            "5/",
            "/s",
            "0/s",
            "-1/s",
            "5/d",
            "1000001/s",
            "1.5/s",
        ] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }
}
