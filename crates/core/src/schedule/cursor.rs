//! From the local times of a cron expression to instants, in order of the instants.
//!
//! Owns the rules for gaps and folds that `schedule.rs` documents. Local times come in order from
//! the calendar; the order of instants differs from it only inside a fold, which is therefore
//! walked twice: once for the earlier instants of its local times, once for the later ones.

use chrono::{NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use tidemill_types::schedule::{FoldPolicy, GapPolicy};

use super::calendar::Calendar;
use super::occurrence::{Occurrence, OccurrenceNote};
use super::zone::{self, Fold, Gap, Meaning};

/// Seconds since the Unix epoch that surround the calendar's years in every zone: 1969-12-30 and
/// 2101-01-02.
pub(super) const CALENDAR_START: i64 = -2 * 86_400;
pub(super) const CALENDAR_END: i64 = 4_133_980_800;

/// A cron schedule as compiled: its local times, its zone and its rules.
#[derive(Debug, Clone)]
pub(super) struct Cron {
    pub(super) calendar: Calendar,
    pub(super) zone: Tz,
    /// Each instant with a matching local time fires, and no others.
    pub(super) is_steps: bool,
    /// Steps in each hour of each day: a gap takes nothing away from their rate.
    pub(super) is_unbroken: bool,
    pub(super) gap: GapPolicy,
    pub(super) fold: FoldPolicy,
}

/// Which walk through a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    First,
    Second,
}

/// The occurrences of a [`Cron`], in order of their instants.
pub(super) struct Cursor<'a> {
    cron: &'a Cron,
    /// Local times up to this one are done, in this walk.
    local: NaiveDateTime,
    fold: Option<(Fold, Walk)>,
}

impl<'a> Cursor<'a> {
    /// The occurrences strictly after an instant in milliseconds.
    pub(super) fn after(cron: &'a Cron, after_ms: i64) -> Self {
        let at = after_ms
            .div_euclid(1000)
            .clamp(CALENDAR_START, CALENDAR_END);
        let local = zone::local_at(cron.zone, at).expect("clamped to the calendar's years");
        let fold = match zone::meaning(cron.zone, local) {
            Meaning::Twice(fold) if fold.first(local) == at => Some((fold, Walk::First)),
            Meaning::Twice(fold) => Some((fold, Walk::Second)),
            Meaning::Once(_) | Meaning::Never(_) => None,
        };
        Self { cron, local, fold }
    }

    /// The next occurrence in a fold, or `None` when both walks through it are over.
    fn next_in_fold(&mut self, fold: Fold, walk: Walk) -> Option<Occurrence> {
        let policy = self.cron.fold_policy();
        let is_wanted = match walk {
            Walk::First => policy != FoldPolicy::Last,
            Walk::Second => policy != FoldPolicy::First,
        };
        if is_wanted
            && let Some(nominal) = self.cron.calendar.next_after(self.local)
            && nominal < fold.end
        {
            self.local = nominal;
            let (at, note) = match walk {
                Walk::First => (fold.first(nominal), OccurrenceNote::FirstOfTwo),
                Walk::Second => (fold.second(nominal), OccurrenceNote::SecondOfTwo),
            };
            return Some(fires(nominal, at, Some(note)));
        }
        match walk {
            Walk::First => {
                self.local = just_before(fold.start);
                self.fold = Some((fold, Walk::Second));
            }
            Walk::Second => {
                self.local = just_before(fold.end);
                self.fold = None;
            }
        }
        None
    }

    /// What becomes of `nominal`, the next local time, which is in a gap.
    fn in_gap(&mut self, nominal: NaiveDateTime, gap: Gap) -> Option<Occurrence> {
        if self.cron.is_unbroken {
            self.local = just_before(gap.end);
            return None;
        }
        // The first local time of the gap is the one that is reached from outside it.
        let is_first = zone::meaning(self.cron.zone, self.local) != Meaning::Never(gap);
        self.local = nominal;
        let note = if self.cron.is_steps || self.cron.gap == GapPolicy::Skip {
            OccurrenceNote::SkippedByGap
        } else if is_first && !self.cron.calendar.contains(gap.end) {
            OccurrenceNote::ShiftedByGap
        } else {
            OccurrenceNote::MergedByGap
        };
        Some(Occurrence {
            nominal,
            at_ms: gap.at * 1000,
            note: Some(note),
            fires: note == OccurrenceNote::ShiftedByGap,
        })
    }
}

impl Iterator for Cursor<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        loop {
            if let Some((fold, walk)) = self.fold {
                match self.next_in_fold(fold, walk) {
                    Some(occurrence) => return Some(occurrence),
                    None => continue,
                }
            }
            let nominal = self.cron.calendar.next_after(self.local)?;
            match zone::meaning(self.cron.zone, nominal) {
                Meaning::Once(at) => {
                    self.local = nominal;
                    return Some(fires(nominal, at, None));
                }
                // `self.local` stays: it is before the fold, and the walks begin there.
                Meaning::Twice(fold) => self.fold = Some((fold, Walk::First)),
                Meaning::Never(gap) => {
                    if let Some(occurrence) = self.in_gap(nominal, gap) {
                        return Some(occurrence);
                    }
                }
            }
        }
    }
}

impl Cron {
    fn fold_policy(&self) -> FoldPolicy {
        if self.is_steps {
            FoldPolicy::Both
        } else {
            self.fold
        }
    }
}

fn fires(nominal: NaiveDateTime, at: i64, note: Option<OccurrenceNote>) -> Occurrence {
    Occurrence {
        nominal,
        at_ms: at * 1000,
        note,
        fires: true,
    }
}

/// The last second before a local time: the calendar is asked for what comes strictly after.
fn just_before(local: NaiveDateTime) -> NaiveDateTime {
    local - TimeDelta::seconds(1)
}
