//! The schedule of a flow as its document says it: `trigger.schedule` of `flow-model.md`.
//!
//! Owns the nouns and their defaults. It decides nothing: cron expressions, zone names, durations
//! and instants are texts here, and `tidemill_core::schedule` checks them all at once, each problem
//! with its JSON pointer. Only shapes (unknown keys, unknown choices) are refused while reading.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::duration::DurationText;

/// How long after its due time a missed occurrence is still caught up, unless the flow says so.
pub const CATCH_UP_WINDOW_DEFAULT: &str = "1h";

/// The time zone of a schedule that names none.
pub const TIMEZONE_DEFAULT: &str = "UTC";

/// When a flow starts by itself. Exactly one of `cron` and `every` must be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// 5 fields (minute, hour, day of month, month, day of week) with their Unix meaning, 6 with
    /// seconds in front, or a nickname such as `@daily`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A fixed interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationText>,
    /// An instant (RFC 3339) from which `every` counts in both directions; the Unix epoch by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
    /// IANA name of the zone in which `cron` is read.
    #[serde(default = "timezone_default")]
    pub timezone: String,
    /// What happens where local time jumps.
    #[serde(default)]
    pub dst: DstPolicy,
    /// What happens to occurrences that fell due while nothing could fire.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// What happens when the previous execution still runs.
    #[serde(default)]
    pub overlap: OverlapPolicy,
    /// No occurrence before this instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<String>,
    /// When the schedule ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ScheduleEnd>,
    /// Each firing is late by a fixed part of this, different from occurrence to occurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<DurationText>,
}

impl ScheduleSpec {
    /// A schedule of one cron expression, everything else at its default.
    pub fn from_cron(cron: impl Into<String>) -> Self {
        Self {
            cron: Some(cron.into()),
            ..Self::empty()
        }
    }

    /// A schedule of one interval, everything else at its default.
    pub fn from_every(every: impl Into<DurationText>) -> Self {
        Self {
            every: Some(every.into()),
            ..Self::empty()
        }
    }

    /// The same schedule, read in another time zone.
    pub fn in_timezone(mut self, timezone: impl Into<String>) -> Self {
        self.timezone = timezone.into();
        self
    }

    fn empty() -> Self {
        Self {
            cron: None,
            every: None,
            anchor: None,
            timezone: timezone_default(),
            dst: DstPolicy::default(),
            catch_up: CatchUp::default(),
            overlap: OverlapPolicy::default(),
            start_at: None,
            end: None,
            jitter: None,
        }
    }
}

fn timezone_default() -> String {
    TIMEZONE_DEFAULT.to_owned()
}

/// What happens where local time jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DstPolicy {
    /// A local time that does not exist.
    #[serde(default)]
    pub gap: GapPolicy,
    /// A local time that exists twice.
    #[serde(default)]
    pub overlap: FoldPolicy,
}

/// What happens at a local time that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GapPolicy {
    /// Fire at the first instant after the gap.
    #[default]
    Shift,
    /// Do not fire.
    Skip,
}

/// Which of the two instants of a repeated local time fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FoldPolicy {
    /// The earlier one.
    #[default]
    First,
    /// Each of them.
    Both,
    /// The later one.
    Last,
}

/// What happens when the previous execution still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OverlapPolicy {
    /// Start beside it.
    #[default]
    Allow,
    /// Do not start.
    Skip,
    /// Start when it has ended; at most one waits.
    QueueOne,
    /// Cancel it and start.
    CancelPrevious,
}

/// When a schedule ends: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleEnd {
    /// After so many firings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// No occurrence after this instant (RFC 3339); one exactly at it still fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Which of the occurrences that fell due while nothing could fire are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatchUpPolicy {
    /// One late firing for all of them.
    #[default]
    One,
    /// Each of them.
    All,
    /// None of them.
    None,
}

/// What happens to occurrences that fell due while nothing could fire.
///
/// Written in full as `{policy: all, window: 2h}`, or as the policy alone: `all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Which of them fire.
    pub policy: CatchUpPolicy,
    /// Older ones than this never fire.
    pub window: DurationText,
}

impl Default for CatchUp {
    fn default() -> Self {
        CatchUpPolicy::default().into()
    }
}

impl From<CatchUpPolicy> for CatchUp {
    fn from(policy: CatchUpPolicy) -> Self {
        Self {
            policy,
            window: window_default(),
        }
    }
}

fn window_default() -> DurationText {
    CATCH_UP_WINDOW_DEFAULT.into()
}

impl<'de> Deserialize<'de> for CatchUp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Full {
            #[serde(default)]
            policy: CatchUpPolicy,
            #[serde(default = "window_default")]
            window: DurationText,
        }

        // Not `#[serde(untagged)]`: that would hide which key or word is wrong.
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CatchUp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one, all, none, or an object with policy and window")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<CatchUp, E> {
                let word = de::value::StrDeserializer::<E>::new(word);
                CatchUpPolicy::deserialize(word).map(CatchUp::from)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CatchUp, A::Error> {
                let full = Full::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(CatchUp {
                    policy: full.policy,
                    window: full.window,
                })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Result<ScheduleSpec, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_flow_model() {
        let spec = read(json!({"cron": "@daily"})).expect("reads");
        assert_eq!(spec, ScheduleSpec::from_cron("@daily"));
        assert_eq!(
            serde_json::to_value(&spec).expect("writes"),
            json!({
                "cron": "@daily",
                "timezone": "UTC",
                "dst": {"gap": "shift", "overlap": "first"},
                "catchUp": {"policy": "one", "window": "1h"},
                "overlap": "allow",
            })
        );
    }

    #[test]
    fn everything_written_comes_back() {
        let value = json!({
            "cron": "0 8 * * 1-5",
            "every": "5m",
            "anchor": "2026-01-01T00:00:00Z",
            "timezone": "Europe/Berlin",
            "dst": {"gap": "skip", "overlap": "last"},
            "catchUp": {"policy": "all", "window": "2h"},
            "overlap": "cancelPrevious",
            "startAt": "2026-01-01T00:00:00Z",
            "end": {"at": "2027-01-01T00:00:00Z"},
            "jitter": "250ms",
        });
        let spec = read(value.clone()).expect("reads");
        assert_eq!(serde_json::to_value(&spec).expect("writes"), value);
    }

    #[test]
    fn catch_up_is_a_word_or_an_object() {
        let catch_up = |value| read(json!({"every": "1m", "catchUp": value})).map(|s| s.catch_up);
        assert_eq!(catch_up(json!("all")), Ok(CatchUpPolicy::All.into()));
        assert_eq!(
            catch_up(json!({"policy": "all"})),
            Ok(CatchUpPolicy::All.into())
        );
        assert_eq!(
            catch_up(json!({"window": "5m"})),
            Ok(CatchUp {
                policy: CatchUpPolicy::One,
                window: "5m".into()
            })
        );
        for (value, part) in [
            (json!("some"), "`one`, `all`, `none`"),
            (json!({"policy": "some"}), "`one`, `all`, `none`"),
            (json!({"windows": "5m"}), "`policy` or `window`"),
            (json!(3), "one, all, none, or an object"),
            (json!(null), "one, all, none, or an object"),
        ] {
            let message = catch_up(value.clone()).expect_err("refused");
            assert!(message.contains(part), "{value}: {message}");
        }
    }

    #[test]
    fn unknown_keys_and_words_are_refused_by_name() {
        for (value, part) in [
            (json!({"corn": "@daily"}), "corn"),
            (json!({"cron": "@daily", "dst": {"gaps": "skip"}}), "gaps"),
            (
                json!({"cron": "@daily", "dst": {"gap": "first"}}),
                "`shift` or `skip`",
            ),
            (json!({"cron": "@daily", "overlap": "queue"}), "queueOne"),
            (json!({"cron": "@daily", "end": {"until": "x"}}), "until"),
            (json!({"cron": "@daily", "end": {"after": -1}}), "-1"),
        ] {
            let message = read(value.clone()).expect_err("refused");
            assert!(message.contains(part), "{value}: {message}");
        }
    }
}
