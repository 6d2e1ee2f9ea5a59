//! Values with their units: `150ms`, `64MiB`.

use std::time::Duration;

use tidemill_types::duration::FlowDuration;

/// Reads a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<FlowDuration>()
        .map(|duration| Duration::from_millis(duration.ms))
        .map_err(|error| error.to_string())
}

const SIZES: [(&str, u64); 5] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    // Last: the others end in it too.
    ("B", 1),
    ("", 0),
];

/// Reads a number of bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const ALLOWED: &str =
        "not a size: write a whole number with its unit, such as 64MiB (B, KiB, MiB or GiB)";
    let text = text.trim();
    let (name, unit) = SIZES
        .iter()
        .find(|(name, _)| text.ends_with(name))
        .ok_or(ALLOWED)?;
    let number: u64 = text[..text.len() - name.len()]
        .trim_end()
        .parse()
        .map_err(|_| ALLOWED)?;
    if *unit == 0 {
        return Err(ALLOWED.into());
    }
    number
        .checked_mul(*unit)
        .ok_or_else(|| "size too large".into())
}

/// A size as people write it.
pub(super) fn show_bytes(bytes: u64) -> String {
    SIZES
        .iter()
        .filter(|(_, unit)| *unit > 0)
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(name, unit)| format!("{}{name}", bytes / unit),
        )
}

/// A duration as people write it.
pub(super) fn show_duration(duration: Duration) -> String {
    FlowDuration::from_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, want) in [
            ("64MiB", 64 << 20),
            ("1 KiB", 1024),
            ("7B", 7),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "64",
            "MiB",
            "64MB",
            "-1B",
            "1.5MiB",
            "99999999999999GiB",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(show_bytes(64 << 20), "64MiB");
        assert_eq!(show_bytes(1025), "1025B");
        assert_eq!(show_bytes(0), "0B");
    }
}
