//! What happened, as a running hash; as text lines too when somebody wants to read it.

use std::fmt::Write as _;

use super::random::mix;

/// See the module.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace, which keeps text when `verbose`.
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self {
            hash: 0,
            lines: verbose.then(Vec::new),
        }
    }

    /// Notes that something happened.
    pub fn note(&mut self, now_ms: u64, what: &str, numbers: &[u64]) {
        self.hash = mix(self.hash ^ now_ms ^ super::random::hash(what.as_bytes()));
        for number in numbers {
            self.hash = mix(self.hash ^ *number).wrapping_add(1);
        }
        if let Some(lines) = &mut self.lines {
            let mut line = format!("{:>9.3} {what}", now_ms as f64 / 1_000.0);
            for number in numbers {
                let _ = write!(line, " {number}");
            }
            lines.push(line);
        }
    }

    /// A line that only people read; made only when somebody does.
    pub fn tell(&mut self, now_ms: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3}   {}", now_ms as f64 / 1_000.0, text()));
        }
    }

    /// The hash of everything noted so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The text, if it was kept.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
