//! What holds for every schedule, time zone and instant.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;
use tidemill_core::schedule::{Occurrence, OccurrenceNote, Schedule};
use tidemill_types::schedule::{FoldPolicy, GapPolicy, ScheduleSpec};

use super::compile;

/// A field as text together with the values that it allows, made side by side: no parser involved.
#[derive(Debug, Clone)]
struct Field {
    text: String,
    values: Vec<u32>,
}

fn any_field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let values = (low..=high).collect();
    prop_oneof![
        2 => Just(Field { text: "*".to_owned(), values }),
        2 => (low..=high).prop_map(|value| Field { text: value.to_string(), values: vec![value] }),
        1 => (low..=high, low..=high).prop_map(|(a, b)| Field {
            text: format!("{}-{}", a.min(b), a.max(b)),
            values: (a.min(b)..=a.max(b)).collect(),
        }),
        1 => (1..=high - low).prop_map(move |step| Field {
            text: format!("*/{step}"),
            values: (low..=high).step_by(step as usize).collect(),
        }),
        1 => prop::collection::btree_set(low..=high, 2..5).prop_map(|set| {
            let values: Vec<u32> = set.into_iter().collect();
            let texts: Vec<String> = values.iter().map(u32::to_string).collect();
            Field { text: texts.join(","), values }
        }),
    ]
}

#[derive(Debug, Clone)]
struct Fields {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Fields {
    fn text(&self) -> String {
        let fields = [
            &self.second,
            &self.minute,
            &self.hour,
            &self.day,
            &self.month,
            &self.weekday,
        ];
        fields.map(|field| field.text.as_str()).join(" ")
    }

    fn match_day(&self, local: NaiveDateTime) -> bool {
        let day = self.day.values.contains(&local.day());
        let weekday = self
            .weekday
            .values
            .contains(&local.weekday().num_days_from_sunday());
        let is_either = self.day.values.len() < 31 && self.weekday.values.len() < 7;
        self.month.values.contains(&local.month())
            && if is_either {
                day || weekday
            } else {
                day && weekday
            }
    }

    fn matches(&self, local: NaiveDateTime) -> bool {
        self.second.values.contains(&local.second())
            && self.minute.values.contains(&local.minute())
            && self.hour.values.contains(&local.hour())
            && self.match_day(local)
    }
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let seconds = prop_oneof![
        3 => Just(Field { text: "0".to_owned(), values: vec![0] }),
        1 => any_field(0, 59),
    ];
    (
        seconds,
        any_field(0, 59),
        any_field(0, 23),
        any_field(1, 31),
        any_field(1, 12),
        any_field(0, 6),
    )
        .prop_map(|(second, minute, hour, day, month, weekday)| Fields {
            second,
            minute,
            hour,
            day,
            month,
            weekday,
        })
}

fn any_zone() -> impl Strategy<Value = Tz> {
    prop_oneof![
        1 => prop::sample::select(&TZ_VARIANTS[..]),
        1 => prop::sample::select(vec![
            Tz::Europe__Berlin,
            Tz::America__New_York,
            Tz::Australia__Lord_Howe,
            Tz::Asia__Beirut,
            Tz::Africa__Casablanca,
        ]),
    ]
}

fn any_schedule() -> impl Strategy<Value = (Fields, Tz, Schedule)> {
    let gap = prop_oneof![Just(GapPolicy::Shift), Just(GapPolicy::Skip)];
    let fold = prop_oneof![
        Just(FoldPolicy::First),
        Just(FoldPolicy::Both),
        Just(FoldPolicy::Last)
    ];
    (any_fields(), any_zone(), gap, fold).prop_filter_map(
        "can never fire",
        |(fields, zone, gap, fold)| {
            let mut spec = ScheduleSpec::from_cron(fields.text()).in_timezone(zone.name());
            spec.dst.gap = gap;
            spec.dst.overlap = fold;
            let schedule = Schedule::compile(&spec).ok()?;
            Some((fields, zone, schedule))
        },
    )
}

/// Instants in 1970 to 2100, every second one in the hours in which European and American clocks jump.
fn any_instant() -> impl Strategy<Value = i64> {
    prop_oneof![
        0..4_102_444_800_000_i64,
        (
            1971..2100_i32,
            prop::sample::select(vec![3_u32, 4, 9, 10, 11]),
            1..=30_u32,
            -20_000_000..20_000_000_i64
        )
            .prop_map(|(year, month, day, around)| {
                let day = chrono::NaiveDate::from_ymd_opt(year, month, day).expect("a day");
                day.and_time(chrono::NaiveTime::MIN)
                    .and_utc()
                    .timestamp_millis()
                    + around
            }),
    ]
}

fn key(occurrence: &Occurrence) -> (i64, NaiveDateTime) {
    (occurrence.at_ms, occurrence.nominal)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn next_after_is_strictly_increasing_and_agrees_with_preview(
        (_, _, schedule) in any_schedule(),
        from_ms in any_instant(),
    ) {
        let preview = schedule.preview(from_ms, 40);
        for pair in preview.windows(2) {
            prop_assert!(key(&pair[0]) < key(&pair[1]), "{pair:?}");
        }
        let mut at_ms = from_ms;
        for expected in preview.iter().filter(|one| one.fires) {
            let next = schedule.next_after(at_ms).expect("the preview has one");
            prop_assert!(next.at_ms > at_ms);
            prop_assert_eq!(&next, expected);
            at_ms = next.at_ms;
        }
    }

    #[test]
    fn the_order_is_the_same_from_wherever_it_is_asked(
        (_, _, schedule) in any_schedule(),
        from_ms in any_instant(),
        later_ms in 0..100_000_000_i64,
    ) {
        let all = schedule.preview(from_ms, 60);
        let Some(last) = all.last() else { return Ok(()) };
        let later_ms = (from_ms + later_ms).min(last.at_ms - 1);
        let expected: Vec<_> = all.iter().filter(|one| one.at_ms > later_ms).copied().collect();
        prop_assert_eq!(schedule.preview(later_ms, expected.len()), expected);
    }

    #[test]
    fn every_occurrence_matches_the_fields_and_its_note(
        (fields, zone, schedule) in any_schedule(),
        from_ms in any_instant(),
    ) {
        for one in schedule.preview(from_ms, 20) {
            prop_assert!(fields.matches(one.nominal), "{one:?}");
            let at = DateTime::from_timestamp_millis(one.at_ms).expect("in the calendar");
            let local = zone.from_utc_datetime(&at.naive_utc()).naive_local();
            match one.note {
                None => {
                    prop_assert!(one.fires);
                    prop_assert_eq!(local, one.nominal);
                    let instants = zone.from_local_datetime(&one.nominal);
                    prop_assert_eq!(instants.single().map(|at| at.timestamp_millis()), Some(one.at_ms));
                }
                Some(OccurrenceNote::FirstOfTwo) => {
                    let instant = zone.from_local_datetime(&one.nominal).earliest();
                    prop_assert_eq!(instant.map(|at| at.timestamp_millis()), Some(one.at_ms));
                }
                Some(OccurrenceNote::SecondOfTwo) => {
                    let instant = zone.from_local_datetime(&one.nominal).latest();
                    prop_assert_eq!(instant.map(|at| at.timestamp_millis()), Some(one.at_ms));
                }
                Some(_) => {
                    let instants = zone.from_local_datetime(&one.nominal);
                    prop_assert!(instants.earliest().is_none());
                    prop_assert!(local > one.nominal);
                    let before = at - chrono::TimeDelta::seconds(1);
                    let before = zone.from_utc_datetime(&before.naive_utc()).naive_local();
                    prop_assert!(before < one.nominal);
                }
            }
        }
    }

    #[test]
    fn any_cron_text_is_answered(text in "[0-9*/,\\-?@A-Za-z ]{0,40}", zone in prop_oneof![30 => "UTC", 1 => "[A-Za-z/_]{0,20}"]) {
        let spec = ScheduleSpec::from_cron(text).in_timezone(zone);
        if let Err(problems) = Schedule::compile(&spec) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn intervals_are_regular(
        every in 100..100_000_000_i64,
        anchor in 0..4_102_444_800_i64,
        from_ms in any_instant(),
    ) {
        let mut spec = ScheduleSpec::from_every(format!("{every}ms").as_str());
        let anchor = DateTime::from_timestamp(anchor, 0).expect("in the calendar");
        spec.anchor = Some(anchor.to_rfc3339());
        let schedule = compile(&spec);
        let next = schedule.next_after(from_ms).expect("goes on");
        prop_assert!(next.at_ms > from_ms && next.at_ms - every <= from_ms);
        prop_assert_eq!((next.at_ms - anchor.timestamp_millis()).rem_euclid(every), 0);
        let then = schedule.next_after(next.at_ms).expect("goes on");
        prop_assert_eq!(then.at_ms - next.at_ms, every);
    }
}

proptest! {
    // Each case looks at 21,600 seconds.
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nothing is missing: six hours, looked at second by second, hold no matching local time that
    /// the schedule does not know.
    #[test]
    fn no_matching_instant_is_missing(
        (fields, zone, schedule) in any_schedule(),
        from_ms in any_instant(),
    ) {
        let from = from_ms.div_euclid(1000);
        let to = from + 6 * 3600;
        let mut known = schedule
            .occurrences_after(from * 1000 - 1)
            .take_while(|one| one.at_ms < to * 1000)
            .map(|one| one.nominal)
            .collect::<Vec<_>>();
        known.sort();
        for at in from..to {
            let utc = DateTime::from_timestamp(at, 0).expect("in the calendar").naive_utc();
            let local = zone.from_utc_datetime(&utc).naive_local();
            if local.second() != 0 && fields.second.values == [0] {
                continue;
            }
            if fields.matches(local) && local.year() <= 2100 && local.year() >= 1970 {
                let is_known = known.binary_search(&local).is_ok();
                // Of two instants the policy may want the other one, outside of what was asked for.
                let is_once = zone.from_local_datetime(&local).single().is_some();
                prop_assert!(is_known || !is_once, "{local} at {utc}");
            }
        }
    }
}
