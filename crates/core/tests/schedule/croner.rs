//! A comparison with `croner`, an independent implementation of cron, over random expressions,
//! zones and starts, half of them within days of a change of the clock.
//!
//! Both must name the same instants. Where croner's rules are others than ours, ours are set so that
//! they mean the same (our rules are options, croner's are not), or the case is one of the classes
//! below, each of which is counted and explained by a choice that our documentation makes.

use chrono::{DateTime, NaiveDate, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};
use croner::{Cron, JobType};
use tidemill_core::schedule::{OccurrenceNote, Schedule};
use tidemill_types::schedule::{FoldPolicy, GapPolicy, ScheduleSpec};

use super::{compile, ms};

const TRIPLES: usize = 30_000;
const FIRINGS_COMPARED: usize = 4;
const SEED: u64 = 0x7169_6465_6d69_6c6c;

/// Zones whose clocks do unusual things; every second triple is in one of them.
const HARD_ZONES: [Tz; 22] = [
    Tz::Africa__Cairo,
    Tz::Africa__Casablanca,
    Tz::America__Asuncion,
    Tz::America__Havana,
    Tz::America__New_York,
    Tz::America__Nuuk,
    Tz::America__Sao_Paulo,
    Tz::America__Scoresbysund,
    Tz::America__St_Johns,
    Tz::Antarctica__Casey,
    Tz::Antarctica__Troll,
    Tz::Asia__Amman,
    Tz::Asia__Beirut,
    Tz::Asia__Gaza,
    Tz::Asia__Pyongyang,
    Tz::Asia__Tehran,
    Tz::Australia__Lord_Howe,
    Tz::Europe__Berlin,
    Tz::Europe__Dublin,
    Tz::Pacific__Apia,
    Tz::Pacific__Kwajalein,
    Tz::Pacific__Norfolk,
];

/// SplitMix64: a generator of a few lines, so that a failing number is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).cast_unsigned()).cast_signed()
    }

    fn one_in(&mut self, count: i64) -> bool {
        self.range(1, count) == 1
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }
}

/// One item of a field: a value, a range, or either with a step.
fn item(random: &mut Random, low: i64, high: i64) -> String {
    let from = random.range(low, high);
    let to = random.range(from, high);
    let step = random.range(1, high - low);
    match random.range(0, 7) {
        0 => format!("{from}-{to}"),
        1 => format!("*/{step}"),
        2 => format!("{from}-{to}/{step}"),
        3 => format!("{from}/{step}"),
        _ => from.to_string(),
    }
}

fn field(random: &mut Random, low: i64, high: i64, any_of_ten: i64) -> String {
    if random.range(1, 10) <= any_of_ten {
        return "*".to_owned();
    }
    let items = if random.one_in(3) {
        random.range(2, 4)
    } else {
        1
    };
    let items: Vec<String> = (0..items).map(|_| item(random, low, high)).collect();
    items.join(",")
}

/// A random expression that we take: those that can never fire are drawn again.
fn expression(random: &mut Random) -> String {
    const MONTHS: [&str; 12] = [
        "JAN", "feb", "Mar", "APR", "may", "Jun", "JUL", "aug", "Sep", "OCT", "nov", "Dec",
    ];
    const DAYS: [&str; 6] = ["MON-FRI", "sun", "Sat-Sun", "TUE,thu", "0-7", "6-7"];
    if random.one_in(4) {
        // A time of day in the hours in which clocks jump, on any day or on some weekdays.
        let minute = random.range(0, 59);
        let hour = random.pick(&[0, 0, 1, 2, 2, 2, 3, 23]);
        let weekday = field(random, 0, 7, 8);
        return format!("{minute} {hour} * * {weekday}");
    }
    loop {
        let mut fields = Vec::new();
        if random.one_in(4) {
            fields.push(field(random, 0, 59, 2));
        }
        fields.push(field(random, 0, 59, 2));
        // Clocks jump in the first hours of the day.
        fields.push(if random.one_in(2) {
            field(random, 0, 4, 0)
        } else {
            field(random, 0, 23, 3)
        });
        fields.push(field(random, 1, 31, 6));
        fields.push(if random.one_in(8) {
            random.pick(&MONTHS).to_owned()
        } else {
            field(random, 1, 12, 8)
        });
        fields.push(if random.one_in(6) {
            random.pick(&DAYS).to_owned()
        } else {
            field(random, 0, 7, 6)
        });
        let text = fields.join(" ");
        if Schedule::compile(&ScheduleSpec::from_cron(&text)).is_ok() {
            return text;
        }
    }
}

/// A start in the years 1971 to 2090, every second one within two days of a change of the
/// clock.
fn start(random: &mut Random, zone: Tz) -> i64 {
    const DAY: i64 = 86_400;
    let any = random.range(365 * DAY, 120 * 365 * DAY);
    if random.one_in(2) {
        return any;
    }
    let offset = |at| offset(zone, at);
    // Within a year of `any`, if the zone has changes then.
    (0..53)
        .map(|week| any + week * 7 * DAY)
        .find(|at| offset(*at) != offset(at + 7 * DAY))
        .map_or(any, |week| {
            let (mut before, mut after) = (week, week + 7 * DAY);
            while after - before > 1 {
                let middle = (before + after) / 2;
                if offset(middle) == offset(week) {
                    before = middle;
                } else {
                    after = middle;
                }
            }
            let span = random.pick(&[2 * DAY, 3 * 3600, 3600]);
            after + random.range(-span, span / 4)
        })
}

/// The expression as croner must read it to mean the same.
///
/// Our choice: a field that leaves no day out restricts nothing, however it is written. To croner
/// anything but a bare asterisk restricts.
fn for_croner(text: &str) -> (String, bool) {
    let mut fields: Vec<&str> = text.split(' ').collect();
    let last = fields.len() - 1;
    let mut differs = false;
    for (index, low, high) in [(last - 2, 1, 31), (last, 0, 6)] {
        let alone = parse_croner(&match high {
            31 => format!("0 0 {} * *", fields[index]),
            _ => format!("0 0 * * {}", fields[index]),
        });
        let values = match high {
            31 => alone.pattern.days.values(),
            _ => alone.pattern.days_of_week.values(),
        };
        if fields[index] != "*" && values == (low..=high).collect::<Vec<u16>>() {
            fields[index] = "*";
            differs = true;
        }
    }
    (fields.join(" "), differs)
}

fn parse_croner(text: &str) -> Cron {
    CronParser::builder()
        .seconds(Seconds::Optional)
        .sloppy_ranges(true)
        .build()
        .parse(text)
        .unwrap_or_else(|error| panic!("croner refuses {text}: {error}"))
}

/// What came of the triples. Every class but the first is a choice of ours, stated in
/// `crates/core/src/schedule.rs` or `schedule/expression.rs`.
#[derive(Debug, Default)]
struct Classes {
    /// Equal as they stand.
    equal: usize,
    /// Equal after [`for_croner`]: a day field that leaves no day out does not restrict.
    full_day_field: usize,
    /// A gap is shifted over however long it is; croner gives up beyond two hours.
    long_gap: usize,
    /// A gap is shifted over wherever it ends; croner drops the firing if that is on a day which the
    /// expression does not name.
    gap_into_another_day: usize,
}

/// By how many seconds a zone's clock is put forward at an instant.
fn jump(zone: Tz, at: i64) -> i64 {
    offset(zone, at) - offset(zone, at - 1)
}

fn offset(zone: Tz, at: i64) -> i64 {
    use chrono::Offset;
    let utc = DateTime::from_timestamp(at, 0)
        .expect("in range")
        .naive_utc();
    zone.offset_from_utc_datetime(&utc)
        .fix()
        .local_minus_utc()
        .into()
}

#[test]
fn agrees_with_croner() {
    let mut random = Random(SEED);
    let mut classes = Classes::default();
    let (mut shifted, mut folded) = (0, 0);
    for triple in 0..TRIPLES {
        let text = expression(&mut random);
        let zone = if random.one_in(2) {
            random.pick(&HARD_ZONES)
        } else {
            random.pick(&TZ_VARIANTS)
        };
        let from = start(&mut random, zone);

        let (text_for_croner, is_full) = for_croner(&text);
        let cron = parse_croner(&text_for_croner);
        let mut spec = ScheduleSpec::from_cron(&text).in_timezone(zone.name());
        // croner shifts in a gap and fires once in a fold if second, minute and hour are one value
        // each, and otherwise does as our steps do. What we call times of day has an option for it.
        if cron.determine_job_type() == JobType::IntervalWildcard {
            spec.dst.gap = GapPolicy::Skip;
            spec.dst.overlap = FoldPolicy::Both;
        }
        let schedule = compile(&spec);

        let mut after = from;
        let mut class = if is_full {
            &mut classes.full_day_field
        } else {
            &mut classes.equal
        };
        // No more ones: our calendar ends in 2100, and croner's does not.
        for ours in schedule
            .occurrences_after(from * 1000)
            .filter(|ours| ours.fires)
            .take(FIRINGS_COMPARED)
        {
            let at = ours.at_ms / 1000;
            let local = zone.timestamp_opt(after, 0).single().expect("in range");
            let theirs = cron.find_next_occurrence(&local, false);
            match theirs.map(|theirs| theirs.timestamp()) {
                Ok(theirs) if theirs == at => {}
                Err(CronError::TimeSearchLimitExceeded) if jump(zone, at) > 2 * 3600 => {
                    class = &mut classes.long_gap;
                    break;
                }
                Ok(theirs)
                    if theirs > at
                        && ours.note == Some(OccurrenceNote::ShiftedByGap)
                        && ours.nominal.date() != local_date(zone, at) =>
                {
                    class = &mut classes.gap_into_another_day;
                    break;
                }
                theirs => panic!(
                    "triple {triple} of seed {SEED:#x}: {text:?} in {zone} after {}: we say {} \
                     ({ours:?}), croner {theirs:?}, which is {:?}",
                    DateTime::from_timestamp(after, 0).expect("in range"),
                    DateTime::from_timestamp(at, 0).expect("in range"),
                    theirs
                        .as_ref()
                        .ok()
                        .and_then(|at| DateTime::from_timestamp(*at, 0)),
                ),
            }
            shifted += usize::from(ours.note == Some(OccurrenceNote::ShiftedByGap));
            folded += usize::from(ours.note == Some(OccurrenceNote::SecondOfTwo));
            after = at;
        }
        *class += 1;
    }
    println!("{classes:?}, {shifted} firings shifted, {folded} the second of two");
    // That the comparison reached what it is for.
    assert!(classes.equal > TRIPLES * 9 / 10, "{classes:?}");
    assert!(classes.full_day_field > 100, "{classes:?}");
    assert!(
        shifted > 150 && folded > 300,
        "{shifted} shifted, {folded} second"
    );
    // The exceptions stay exceptions.
    assert!(
        classes.long_gap + classes.gap_into_another_day < 50,
        "{classes:?}"
    );
}

fn local_date(zone: Tz, at: i64) -> NaiveDate {
    let utc = DateTime::from_timestamp(at, 0).expect("in range");
    zone.from_utc_datetime(&utc.naive_utc()).date_naive()
}

/// The two classes that chance rarely meets, each once.
#[test]
fn disagrees_with_croner_as_documented() {
    let ask = |text: &str, zone: Tz, after: &str| {
        let schedule = compile(&ScheduleSpec::from_cron(text).in_timezone(zone.name()));
        let ours = schedule.next_after(ms(after)).expect("goes on").at_ms;
        let local = zone
            .timestamp_millis_opt(ms(after))
            .single()
            .expect("in range");
        let theirs = parse_croner(text).find_next_occurrence(&local, false);
        (ours, theirs.map(|at| at.timestamp_millis()))
    };
    // No 1993-08-21 in Kwajalein: a gap of a day.
    let (ours, theirs) = ask("30 9 * * *", Tz::Pacific__Kwajalein, "1993-08-21T11:00:00Z");
    assert_eq!(ours, ms("1993-08-21T12:00:00Z"));
    assert!(
        matches!(theirs, Err(CronError::TimeSearchLimitExceeded)),
        "{theirs:?}"
    );
    // 2026-03-28 23:00 to midnight does not exist in Nuuk, and it is Sunday after that.
    let (ours, theirs) = ask("30 23 * * SAT", Tz::America__Nuuk, "2026-03-28T12:00:00Z");
    assert_eq!(ours, ms("2026-03-29T01:00:00Z"));
    assert_eq!(theirs.expect("goes on"), ms("2026-04-05T00:30:00Z"));
}
