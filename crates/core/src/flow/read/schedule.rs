//! `trigger.schedule`: shape only. What its texts mean is `crate::schedule`'s part.

use tidemill_types::duration::DurationText;
use tidemill_types::schedule::{
    CatchUp, CatchUpPolicy, DstPolicy, FoldPolicy, GapPolicy, OverlapPolicy, ScheduleEnd,
    ScheduleSpec, TIMEZONE_DEFAULT,
};

use super::fields::{Object, Reader};

const SCHEDULE_KEYS: &[&str] = &[
    "cron", "every", "anchor", "timezone", "dst", "catchUp", "overlap", "startAt", "end", "jitter",
];
const DST_KEYS: &[&str] = &["gap", "overlap"];
const CATCH_UP_KEYS: &[&str] = &["policy", "window"];
const END_KEYS: &[&str] = &["after", "at"];

const CATCH_UP_CHOICES: &[(&str, CatchUpPolicy)] = &[
    ("one", CatchUpPolicy::One),
    ("all", CatchUpPolicy::All),
    ("none", CatchUpPolicy::None),
];
const OVERLAP_CHOICES: &[(&str, OverlapPolicy)] = &[
    ("allow", OverlapPolicy::Allow),
    ("skip", OverlapPolicy::Skip),
    ("queueOne", OverlapPolicy::QueueOne),
    ("cancelPrevious", OverlapPolicy::CancelPrevious),
];

pub(super) fn read_schedule(reader: &mut Reader, object: &Object<'_>) -> ScheduleSpec {
    reader.refuse_unknown_keys(object, SCHEDULE_KEYS, &[]);
    ScheduleSpec {
        cron: reader.string(object, "cron"),
        every: duration_text(reader, object, "every"),
        anchor: reader.string(object, "anchor"),
        timezone: reader
            .string(object, "timezone")
            .unwrap_or_else(|| TIMEZONE_DEFAULT.to_owned()),
        dst: read_dst(reader, object),
        catch_up: read_catch_up(reader, object),
        overlap: reader
            .choice(object, "overlap", OVERLAP_CHOICES)
            .unwrap_or_default(),
        start_at: reader.string(object, "startAt"),
        end: reader.child_object(object, "end").map(|end| {
            reader.refuse_unknown_keys(&end, END_KEYS, &[]);
            ScheduleEnd {
                after: reader.integer(&end, "after").map(u64::from),
                at: reader.string(&end, "at"),
            }
        }),
        jitter: duration_text(reader, object, "jitter"),
    }
}

fn duration_text(reader: &mut Reader, object: &Object<'_>, key: &str) -> Option<DurationText> {
    reader.duration(object, key).map(DurationText::from)
}

fn read_dst(reader: &mut Reader, object: &Object<'_>) -> DstPolicy {
    let Some(dst) = reader.child_object(object, "dst") else {
        return DstPolicy::default();
    };
    reader.refuse_unknown_keys(&dst, DST_KEYS, &[]);
    let gaps = [("shift", GapPolicy::Shift), ("skip", GapPolicy::Skip)];
    let folds = [
        ("first", FoldPolicy::First),
        ("both", FoldPolicy::Both),
        ("last", FoldPolicy::Last),
    ];
    DstPolicy {
        gap: reader.choice(&dst, "gap", &gaps).unwrap_or_default(),
        overlap: reader.choice(&dst, "overlap", &folds).unwrap_or_default(),
    }
}

/// `catchUp: all`, or in full `catchUp: {policy: all, window: 2h}`.
fn read_catch_up(reader: &mut Reader, object: &Object<'_>) -> CatchUp {
    let Some(value) = object.get("catchUp") else {
        return CatchUp::default();
    };
    if value.is_string() {
        return reader
            .choice(object, "catchUp", CATCH_UP_CHOICES)
            .map(CatchUp::from)
            .unwrap_or_default();
    }
    let Some(catch_up) = reader.child_object(object, "catchUp") else {
        return CatchUp::default();
    };
    reader.refuse_unknown_keys(&catch_up, CATCH_UP_KEYS, &[]);
    let policy = reader
        .choice(&catch_up, "policy", CATCH_UP_CHOICES)
        .unwrap_or_default();
    let mut read = CatchUp::from(policy);
    if let Some(window) = duration_text(reader, &catch_up, "window") {
        read.window = window;
    }
    read
}
