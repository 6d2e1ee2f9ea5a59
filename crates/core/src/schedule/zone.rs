//! Time zones: names to rules, and what a local time means under them.
//!
//! Owns every use of `chrono-tz`. Its tables end in the last years of this century; after them
//! each zone keeps its last offset.

use chrono::{MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

/// Most single-letter edits between an unknown zone and the one suggested in its place.
const SUGGESTION_EDITS_MAX: usize = 3;

/// Longest zone name looked at for a suggestion; the longest of all names has 32 bytes.
const ZONE_NAME_BYTES_MAX: usize = 64;

/// The instants, in seconds since the Unix epoch, that a local time stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It exists once.
    Once(i64),
    /// It exists twice: local time was put back.
    Twice(Fold),
    /// It does not exist: local time was put forward.
    Never(Gap),
}

/// A stretch of local time that happens twice: from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) start: NaiveDateTime,
    pub(super) end: NaiveDateTime,
    /// Offsets east of UTC, in seconds, before and after the clock is put back.
    offset_before: i64,
    offset_after: i64,
}

impl Fold {
    /// The earlier instant of a local time in the fold.
    pub(super) fn first(&self, local: NaiveDateTime) -> i64 {
        local.and_utc().timestamp() - self.offset_before
    }

    /// The later one.
    pub(super) fn second(&self, local: NaiveDateTime) -> i64 {
        local.and_utc().timestamp() - self.offset_after
    }
}

/// A stretch of local time that does not happen: up to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// First local time after the gap.
    pub(super) end: NaiveDateTime,
    /// The instant at which the clock is put forward, and shows `end`.
    pub(super) at: i64,
}

/// Finds a zone by its exact IANA name; on failure, the problem with a suggestion if one is near.
pub(super) fn find(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        let shown: String = name.chars().take(ZONE_NAME_BYTES_MAX).collect();
        let suggestion = suggest(name)
            .map(|zone| format!("; did you mean {zone}?"))
            .unwrap_or_default();
        format!(
            "{shown:?} is not a known time zone; allowed are IANA names such as UTC or \
             Europe/Berlin{suggestion}"
        )
    })
}

/// The local time at an instant in seconds since the Unix epoch, if the calendar reaches that far.
pub(super) fn local_at(zone: Tz, at: i64) -> Option<NaiveDateTime> {
    let utc = chrono::DateTime::from_timestamp(at, 0)?.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
    utc.checked_add_signed(TimeDelta::seconds(offset.into()))
}

/// What a local time means.
pub(super) fn meaning(zone: Tz, local: NaiveDateTime) -> Meaning {
    let as_if_utc = local.and_utc().timestamp();
    match zone.offset_from_local_datetime(&local) {
        MappedLocalTime::Single(offset) => {
            Meaning::Once(as_if_utc - i64::from(offset.fix().local_minus_utc()))
        }
        MappedLocalTime::Ambiguous(before, after) => {
            let offset_before = i64::from(before.fix().local_minus_utc());
            let offset_after = i64::from(after.fix().local_minus_utc());
            let put_back_at = transition(zone, as_if_utc - offset_before, as_if_utc - offset_after);
            let local = |offset| local_of(put_back_at + offset);
            Meaning::Twice(Fold {
                start: local(offset_after),
                end: local(offset_before),
                offset_before,
                offset_after,
            })
        }
        MappedLocalTime::None => Meaning::Never(gap(zone, local)),
    }
}

fn gap(zone: Tz, local: NaiveDateTime) -> Gap {
    let end = GapInfo::new(&local, &zone)
        .and_then(|gap| gap.end)
        .expect("a gap has an end: a test looks at each one of every zone");
    Gap {
        end: end.naive_local(),
        at: end.timestamp(),
    }
}

/// The first instant after `before`, up to `after`, whose offset is not that of `before`.
fn transition(zone: Tz, before: i64, after: i64) -> i64 {
    let offset = |at: i64| zone.offset_from_utc_datetime(&local_of(at)).fix();
    let offset_before = offset(before);
    let (mut before, mut after) = (before, after);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset(middle) == offset_before {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

/// Seconds since the Unix epoch as a date and time of their own.
fn local_of(seconds: i64) -> NaiveDateTime {
    chrono::DateTime::from_timestamp(seconds, 0)
        .expect("within a day of a time in the calendar's years")
        .naive_utc()
}

/// The known zone nearest to `name`, if it is near.
fn suggest(name: &str) -> Option<&'static str> {
    if name.len() > ZONE_NAME_BYTES_MAX {
        return None;
    }
    let wanted = normalized(name);
    let (edits, zone) = TZ_VARIANTS
        .iter()
        .map(|zone| (edits(&wanted, &normalized(zone.name())), zone.name()))
        // A city alone is a common slip: `Berlin` is one edit from Europe/Berlin.
        .chain(TZ_VARIANTS.iter().filter_map(|zone| {
            let (_, city) = zone.name().rsplit_once('/')?;
            Some((1 + edits(&wanted, &normalized(city)), zone.name()))
        }))
        .min()?;
    // A short name is near to everything.
    (edits <= SUGGESTION_EDITS_MAX && edits * 3 <= wanted.len()).then_some(zone)
}

fn normalized(name: &str) -> Vec<u8> {
    name.bytes()
        .map(|byte| match byte {
            b' ' | b'-' => b'_',
            byte => byte.to_ascii_lowercase(),
        })
        .collect()
}

/// Levenshtein distance.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").expect(text)
    }

    #[test]
    fn unknown_zones_are_refused_with_a_near_one() {
        for (name, part) in [
            ("Europe/Berln", "did you mean Europe/Berlin?"),
            ("europe/berlin", "did you mean Europe/Berlin?"),
            ("Berlin", "did you mean Europe/Berlin?"),
            ("America/New York", "did you mean America/New_York?"),
            ("utc", "did you mean UTC?"),
        ] {
            let problem = find(name).expect_err(name);
            assert!(problem.contains(part), "{name}: {problem}");
        }
        for name in ["", "x", "Middle-earth/Hobbiton", &"Europe/".repeat(100)] {
            let problem = find(name).expect_err(name);
            assert!(problem.contains("IANA names"), "{name}: {problem}");
            assert!(!problem.contains("did you mean"), "{name}: {problem}");
        }
    }

    #[test]
    fn a_gap_and_a_fold_have_their_edges() {
        let berlin = find("Europe/Berlin").expect("known");
        assert_eq!(
            meaning(berlin, local("2026-03-29T02:30:00")),
            Meaning::Never(Gap {
                end: local("2026-03-29T03:00:00"),
                at: 1_774_746_000,
            })
        );
        let Meaning::Twice(fold) = meaning(berlin, local("2026-10-25T02:30:00")) else {
            panic!("exists twice");
        };
        assert_eq!(fold.start, local("2026-10-25T02:00:00"));
        assert_eq!(fold.end, local("2026-10-25T03:00:00"));
        assert_eq!(fold.second(fold.start), fold.first(fold.end));
    }

    /// Looks at the transitions of every zone in every year of the calendar: each gap has an end
    /// that exists once, each fold lies on one transition, and no local time is lost between.
    #[test]
    fn every_transition_of_every_zone_is_understood() {
        const STEP: i64 = 4 * 86_400;
        let (mut gaps, mut folds) = (0, 0);
        for zone in TZ_VARIANTS {
            let offset = |at| {
                let local = local_at(zone, at).expect("in the calendar");
                local.and_utc().timestamp() - at
            };
            // From 1969-12-30 to 2101-01-02.
            let mut at = -2 * 86_400;
            while at < 4_133_980_800 {
                let (before, after) = (offset(at), offset(at + STEP));
                if before != after {
                    let changed = transition(zone, at, at + STEP);
                    let (before, after) = (offset(changed - 1), offset(changed));
                    let (low, high) = (before.min(after), before.max(after));
                    for seconds in [low, (low + high) / 2, high - 1] {
                        match meaning(zone, local_of(changed + seconds)) {
                            Meaning::Never(gap) => {
                                gaps += 1;
                                assert!(after > before, "{zone} {changed}");
                                assert_eq!(gap.at, changed, "{zone}");
                                assert_eq!(gap.end, local_of(changed + after), "{zone}");
                                assert_eq!(
                                    meaning(zone, gap.end),
                                    Meaning::Once(changed),
                                    "{zone}"
                                );
                            }
                            Meaning::Twice(fold) => {
                                folds += 1;
                                assert!(after < before, "{zone} {changed}");
                                assert_eq!(fold.start, local_of(changed + after), "{zone}");
                                assert_eq!(fold.end, local_of(changed + before), "{zone}");
                            }
                            Meaning::Once(_) => panic!("{zone} {changed}: neither gap nor fold"),
                        }
                    }
                }
                at += STEP;
            }
        }
        assert!(
            gaps > 50_000 && folds > 50_000,
            "{gaps} gaps, {folds} folds"
        );
    }
}
