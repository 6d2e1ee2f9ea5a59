//! The registry of ids.
//!
//! Binary form: 16 bytes, big-endian, so that byte order is the order of creation: 6 bytes of
//! milliseconds since the Unix epoch, 2 bytes of partition, 8 bytes of entropy. Text form: a prefix
//! and 26 characters of Crockford's base 32 (as in ULID), which sorts as the bytes do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A group of the cluster: 0 is the catalog, 1..=P hold what runs.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionId(pub u16);

impl PartitionId {
    /// Group 0: what people define.
    pub const CATALOG: Self = Self(0);

    /// True for group 0.
    #[must_use]
    pub const fn is_catalog(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member of the cluster; chosen by the operator, never 0, never reused for another machine's data.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is no {kind} id: expected {prefix} followed by 26 characters of 0-9 and a-z without i, l, o, u"
)]
pub struct IdError {
    kind: &'static str,
    prefix: &'static str,
    text: String,
}

/// How much of a wrong id an error repeats.
const SHOWN_CHARS_MAX: usize = 64;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// The value of each character; what is none has more bits than a digit.
const DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        digits[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    digits
};
/// Characters after the first two, in two halves: as many bits as fit a word.
const HALF_LEN: usize = 12;
const HALF_BITS: usize = 5 * HALF_LEN;

/// Writes a text of a bounded length in one piece: ids are written and read for each task and start.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    fn put(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    fn put_number(&mut self, number: u32) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    fn put_base32(&mut self, bytes: [u8; 16]) {
        let value = u128::from_be_bytes(bytes);
        let mut text = [0_u8; TEXT_LEN];
        // 26 characters carry 130 bits: the first has only the top 3 bits of the value.
        let top = (value >> (2 * HALF_BITS)) as usize;
        text[0] = ALPHABET[top >> 5];
        text[1] = ALPHABET[top & 31];
        let mut halves = [(value >> HALF_BITS) as u64, value as u64].into_iter();
        for half in text[2..].chunks_exact_mut(HALF_LEN) {
            let mut rest = halves.next().unwrap_or_default();
            for c in half.iter_mut().rev() {
                *c = ALPHABET[(rest & 31) as usize];
                rest >>= 5;
            }
        }
        self.put(&text);
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.bytes[..self.len]).map_err(|_| fmt::Error)?)
    }
}

fn read_base32(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; TEXT_LEN] = text.as_bytes().try_into().ok()?;
    // The first character of 26 may use 3 of its 5 bits only: above '7' the value overflows.
    if text[0] > b'7' {
        return None;
    }
    let mut seen = 0;
    let mut word = |characters: &[u8]| {
        characters.iter().fold(0_u64, |word, c| {
            let digit = DIGITS[usize::from(*c)];
            seen |= digit;
            word << 5 | u64::from(digit & 31)
        })
    };
    let top = u128::from(word(&text[..2]));
    let high = u128::from(word(&text[2..2 + HALF_LEN]));
    let low = u128::from(word(&text[2 + HALF_LEN..]));
    let value = top << (2 * HALF_BITS) | high << HALF_BITS | low;
    (seen < 32).then_some(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Builds an id that sorts by `at_ms`, lives in `partition` and is made unique by `entropy`.
            #[must_use]
            pub fn new(at_ms: i64, partition: PartitionId, entropy: u64) -> Self {
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&at_ms.max(0).to_be_bytes()[2..]);
                bytes[6..8].copy_from_slice(&partition.0.to_be_bytes());
                bytes[8..].copy_from_slice(&entropy.to_be_bytes());
                Self(bytes)
            }

            /// The partition in which the thing lives.
            #[must_use]
            pub fn partition(self) -> PartitionId {
                PartitionId(u16::from_be_bytes([self.0[6], self.0[7]]))
            }

            /// What makes it unique among those that were made in the same millisecond.
            #[must_use]
            pub fn entropy(self) -> u64 {
                let [.., a, b, c, d, e, f, g, h] = self.0;
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }

            /// When it was made, in milliseconds since the Unix epoch.
            #[must_use]
            pub fn created_ms(self) -> i64 {
                let mut bytes = [0; 8];
                bytes[2..].copy_from_slice(&self.0[..6]);
                i64::from_be_bytes(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = Text::<{ $prefix.len() + TEXT_LEN }>::new();
                text.put($prefix.as_bytes());
                text.put_base32(self.0);
                text.write(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix).and_then(read_base32).map(Self).ok_or_else(|| IdError {
                    kind: $kind,
                    prefix: $prefix,
                    text: text.chars().take(SHOWN_CHARS_MAX).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A flow. Its partition is the *home*: there its trigger is armed and its executions run.
    FlowId, "flow", "flw_"
);
id!(
    /// An execution of a flow.
    ExecutionId, "execution", "exe_"
);

/// One run of one node on one message, within an execution: its number, counted from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct StepId {
    /// The execution.
    pub execution: ExecutionId,
    /// The step's number in it.
    pub step: u32,
}

/// Characters of a task's id at the most.
const TASK_LEN_MAX: usize = ExecutionId::PREFIX.len() + TEXT_LEN + 2 * (1 + 10);

impl StepId {
    fn text(self) -> Text<TASK_LEN_MAX> {
        let mut text = Text::new();
        text.put(ExecutionId::PREFIX.as_bytes());
        text.put_base32(self.execution.0);
        text.put(b"/");
        text.put_number(self.step);
        text
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().write(f)
    }
}

/// One attempt of a step, as it is given to a worker.
///
/// The attempt number is the fencing token of the lease: it grows with every lease of the step, and
/// a completion that names an older one changes nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TaskId {
    /// The step.
    pub step: StepId,
    /// Counted from 1.
    pub attempt: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.step.text();
        text.put(b"/");
        text.put_number(self.attempt);
        text.write(f)
    }
}

/// Why a text is not a task id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no task id: expected <execution id>/<step number>/<attempt>")]
pub struct TaskIdError(String);

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let parse = || {
            let mut parts = text.splitn(3, '/');
            let execution = parts.next()?.parse().ok()?;
            let step = parts.next()?.parse().ok()?;
            let attempt = parts.next()?.parse().ok()?;
            Some(Self {
                step: StepId { execution, step },
                attempt,
            })
        };
        parse().ok_or_else(|| TaskIdError(text.chars().take(SHOWN_CHARS_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn carries_its_partition_and_time() {
        let id = ExecutionId::new(1_795_229_999_123, PartitionId(7), 42);
        assert_eq!(id.partition(), PartitionId(7));
        assert_eq!(id.created_ms(), 1_795_229_999_123);
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        let good = FlowId::new(1, PartitionId(1), 1).to_string();
        for bad in [
            "",
            "flw_",
            "exe_00000000000000000000000000",
            "flw_0000000000000000000000000",
            "flw_000000000000000000000000000",
            "flw_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "flw_0000000000000000000000000i",
            &good.to_uppercase(),
        ] {
            let error = bad.parse::<FlowId>().expect_err(bad);
            assert!(error.to_string().contains("flw_"), "{error}");
        }
        assert!("exe_x/1/1".parse::<TaskId>().is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips_and_sorts_as_bytes(a: [u8; 16], b: [u8; 16]) {
            let (a, b) = (ExecutionId(a), ExecutionId(b));
            prop_assert_eq!(a.to_string().parse::<ExecutionId>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn text_is_that_of_the_number(a: [u8; 16]) {
            let value = u128::from_be_bytes(a);
            let digits = (0..TEXT_LEN).rev().map(|place| {
                char::from(ALPHABET[(value >> (5 * place)) as usize & 31])
            });
            prop_assert_eq!(FlowId(a).to_string(), format!("flw_{}", digits.collect::<String>()));
        }

        #[test]
        fn task_ids_round_trip(e: [u8; 16], step: u32, attempt: u32) {
            let id = TaskId { step: StepId { execution: ExecutionId(e), step }, attempt };
            prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
            prop_assert_eq!(id.to_string(), format!("{}/{step}/{attempt}", id.step.execution));
            prop_assert_eq!(id.step.to_string(), format!("{}/{step}", id.step.execution));
        }

        #[test]
        fn any_text_parses_or_is_refused(text: String) {
            let _ = text.parse::<TaskId>();
            let _ = text.parse::<FlowId>();
        }
    }
}
