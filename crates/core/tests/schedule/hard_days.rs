//! Days on which local time jumps. The transitions themselves are those of the IANA database.

use super::{compile, line, ms};
use tidemill_types::schedule::{FoldPolicy, GapPolicy, ScheduleSpec};

/// Checks the occurrences of `cron` from just before `from` (inclusive) on.
fn check(
    cron: &str,
    zone: &str,
    (gap, overlap): (GapPolicy, FoldPolicy),
    from: &str,
    expected: &[&str],
) {
    let mut spec = ScheduleSpec::from_cron(cron).in_timezone(zone);
    spec.dst.gap = gap;
    spec.dst.overlap = overlap;
    let schedule = compile(&spec);
    let lines: Vec<String> = schedule
        .preview(ms(from) - 1, expected.len())
        .iter()
        .map(line)
        .collect();
    assert_eq!(lines, expected, "{cron} in {zone}, {gap:?} and {overlap:?}");
}

const DEFAULT: (GapPolicy, FoldPolicy) = (GapPolicy::Shift, FoldPolicy::First);
const SKIP: (GapPolicy, FoldPolicy) = (GapPolicy::Skip, FoldPolicy::First);
const BOTH: (GapPolicy, FoldPolicy) = (GapPolicy::Shift, FoldPolicy::Both);
const LAST: (GapPolicy, FoldPolicy) = (GapPolicy::Shift, FoldPolicy::Last);

#[test]
fn berlin_spring() {
    // 2026-03-29 02:00 CET -> 03:00 CEST.
    let from = "2026-03-28T12:00:00Z";
    check(
        "30 2 * * *",
        "Europe/Berlin",
        DEFAULT,
        from,
        &[
            "03-29T02:30:00 -> 03-29T01:00:00Z shifted",
            "03-30T02:30:00 -> 03-30T00:30:00Z",
        ],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        SKIP,
        from,
        &[
            "03-29T02:30:00 -> 03-29T01:00:00Z skipped",
            "03-30T02:30:00 -> 03-30T00:30:00Z",
        ],
    );
    // Several in one gap are one firing.
    check(
        "0,20,40 2 * * *",
        "Europe/Berlin",
        DEFAULT,
        from,
        &[
            "03-29T02:00:00 -> 03-29T01:00:00Z shifted",
            "03-29T02:20:00 -> 03-29T01:00:00Z merged",
            "03-29T02:40:00 -> 03-29T01:00:00Z merged",
            "03-30T02:00:00 -> 03-30T00:00:00Z",
        ],
    );
    // And so are those in the gap and the one that is due at its end anyway.
    check(
        "0 2,3 * * *",
        "Europe/Berlin",
        DEFAULT,
        from,
        &[
            "03-29T02:00:00 -> 03-29T01:00:00Z merged",
            "03-29T03:00:00 -> 03-29T01:00:00Z",
            "03-30T02:00:00 -> 03-30T00:00:00Z",
        ],
    );
    check(
        "0 2,3 * * *",
        "Europe/Berlin",
        SKIP,
        from,
        &[
            "03-29T02:00:00 -> 03-29T01:00:00Z skipped",
            "03-29T03:00:00 -> 03-29T01:00:00Z",
        ],
    );
    // Steps keep their rate; those of each hour lose nothing, so there is nothing to report.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        DEFAULT,
        "2026-03-29T00:30:00Z",
        &[
            "03-29T01:30:00 -> 03-29T00:30:00Z",
            "03-29T03:00:00 -> 03-29T01:00:00Z",
            "03-29T03:30:00 -> 03-29T01:30:00Z",
        ],
    );
    check(
        "*/30 2 * * *",
        "Europe/Berlin",
        DEFAULT,
        from,
        &[
            "03-29T02:00:00 -> 03-29T01:00:00Z skipped",
            "03-29T02:30:00 -> 03-29T01:00:00Z skipped",
            "03-30T02:00:00 -> 03-30T00:00:00Z",
        ],
    );
    check(
        "0 */2 * * *",
        "Europe/Berlin",
        DEFAULT,
        "2026-03-28T23:00:00Z",
        &[
            "03-29T00:00:00 -> 03-28T23:00:00Z",
            "03-29T02:00:00 -> 03-29T01:00:00Z skipped",
            "03-29T04:00:00 -> 03-29T02:00:00Z",
        ],
    );
}

#[test]
fn berlin_autumn() {
    // 2026-10-25 03:00 CEST -> 02:00 CET.
    let from = "2026-10-24T12:00:00Z";
    check(
        "30 2 * * *",
        "Europe/Berlin",
        DEFAULT,
        from,
        &[
            "10-25T02:30:00 -> 10-25T00:30:00Z first",
            "10-26T02:30:00 -> 10-26T01:30:00Z",
        ],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        LAST,
        from,
        &[
            "10-25T02:30:00 -> 10-25T01:30:00Z second",
            "10-26T02:30:00 -> 10-26T01:30:00Z",
        ],
    );
    // In order of the instants, not of the local times.
    check(
        "0,30 2,3 * * *",
        "Europe/Berlin",
        BOTH,
        from,
        &[
            "10-25T02:00:00 -> 10-25T00:00:00Z first",
            "10-25T02:30:00 -> 10-25T00:30:00Z first",
            "10-25T02:00:00 -> 10-25T01:00:00Z second",
            "10-25T02:30:00 -> 10-25T01:30:00Z second",
            "10-25T03:00:00 -> 10-25T02:00:00Z",
        ],
    );
    // Steps fire at each instant, whatever is said.
    for policy in [DEFAULT, BOTH, LAST] {
        check(
            "*/30 * * * *",
            "Europe/Berlin",
            policy,
            "2026-10-24T23:30:00Z",
            &[
                "10-25T01:30:00 -> 10-24T23:30:00Z",
                "10-25T02:00:00 -> 10-25T00:00:00Z first",
                "10-25T02:30:00 -> 10-25T00:30:00Z first",
                "10-25T02:00:00 -> 10-25T01:00:00Z second",
                "10-25T02:30:00 -> 10-25T01:30:00Z second",
                "10-25T03:00:00 -> 10-25T02:00:00Z",
            ],
        );
    }
}

#[test]
fn a_search_may_begin_anywhere_in_a_fold() {
    let expected = [
        "10-25T02:15:00 -> 10-25T00:15:00Z first",
        "10-25T02:45:00 -> 10-25T00:45:00Z first",
        "10-25T02:15:00 -> 10-25T01:15:00Z second",
        "10-25T02:45:00 -> 10-25T01:45:00Z second",
        "10-26T02:15:00 -> 10-26T01:15:00Z",
    ];
    let times = "15,45 2 * * *";
    for (from, done) in [
        ("2026-10-25T00:15:00Z", 0),
        ("2026-10-25T00:15:01Z", 1),
        ("2026-10-25T00:50:00Z", 2),
        ("2026-10-25T01:00:00Z", 2),
        ("2026-10-25T01:15:00.001Z", 3),
        ("2026-10-25T01:50:00Z", 4),
        ("2026-10-25T02:00:00Z", 4),
    ] {
        check(times, "Europe/Berlin", BOTH, from, &expected[done..]);
    }
    // The first ones are over and do not fire again; the last ones are still to come.
    let first = &expected[4..];
    check(
        times,
        "Europe/Berlin",
        DEFAULT,
        "2026-10-25T00:50:00Z",
        first,
    );
    check(
        times,
        "Europe/Berlin",
        DEFAULT,
        "2026-10-25T01:10:00Z",
        first,
    );
    check(
        times,
        "Europe/Berlin",
        LAST,
        "2026-10-25T00:50:00Z",
        &expected[2..],
    );
    check(
        times,
        "Europe/Berlin",
        LAST,
        "2026-10-25T01:20:00Z",
        &expected[3..],
    );
}

#[test]
fn new_york() {
    // 2026-03-08 02:00 EST -> 03:00 EDT; 2026-11-01 02:00 EDT -> 01:00 EST.
    check(
        "5 2 * * *",
        "America/New_York",
        DEFAULT,
        "2026-03-08T00:00:00-05:00",
        &[
            "03-08T02:05:00 -> 03-08T07:00:00Z shifted",
            "03-09T02:05:00 -> 03-09T06:05:00Z",
        ],
    );
    check(
        "30 1 * * SUN",
        "America/New_York",
        BOTH,
        "2026-11-01T00:00:00-04:00",
        &[
            "11-01T01:30:00 -> 11-01T05:30:00Z first",
            "11-01T01:30:00 -> 11-01T06:30:00Z second",
            "11-08T01:30:00 -> 11-08T06:30:00Z",
        ],
    );
}

#[test]
fn lord_howe_jumps_by_half_an_hour() {
    // 2026-10-04 02:00 +10:30 -> 02:30 +11; 2026-04-05 02:00 +11 -> 01:30 +10:30.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        DEFAULT,
        "2026-10-03T15:00:00Z",
        &[
            "10-04T02:15:00 -> 10-03T15:30:00Z shifted",
            "10-05T02:15:00 -> 10-04T15:15:00Z",
        ],
    );
    check(
        "45 1,2 * * *",
        "Australia/Lord_Howe",
        BOTH,
        "2026-04-04T14:00:00Z",
        &[
            "04-05T01:45:00 -> 04-04T14:45:00Z first",
            "04-05T01:45:00 -> 04-04T15:15:00Z second",
            "04-05T02:45:00 -> 04-04T16:15:00Z",
        ],
    );
    check(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        DEFAULT,
        "2026-04-04T14:15:00Z",
        &[
            "04-05T01:15:00 -> 04-04T14:15:00Z",
            "04-05T01:30:00 -> 04-04T14:30:00Z first",
            "04-05T01:45:00 -> 04-04T14:45:00Z first",
            "04-05T01:30:00 -> 04-04T15:00:00Z second",
            "04-05T01:45:00 -> 04-04T15:15:00Z second",
            "04-05T02:00:00 -> 04-04T15:30:00Z",
        ],
    );
}

#[test]
fn dublin_has_its_dst_in_winter() {
    // Standard time is IST (summer) and winter is "negative" DST; the clocks do as London's do:
    // 2026-03-29 01:00 -> 02:00; 2026-10-25 02:00 -> 01:00.
    for zone in ["Europe/Dublin", "Europe/London"] {
        check(
            "30 1 * * *",
            zone,
            DEFAULT,
            "2026-03-28T12:00:00Z",
            &[
                "03-29T01:30:00 -> 03-29T01:00:00Z shifted",
                "03-30T01:30:00 -> 03-30T00:30:00Z",
            ],
        );
        check(
            "30 1 * * *",
            zone,
            BOTH,
            "2026-10-24T12:00:00Z",
            &[
                "10-25T01:30:00 -> 10-25T00:30:00Z first",
                "10-25T01:30:00 -> 10-25T01:30:00Z second",
                "10-26T01:30:00 -> 10-26T01:30:00Z",
            ],
        );
    }
}

#[test]
fn apia_has_no_30th_of_december_2011() {
    // At the end of 2011-12-29 (-10) comes 2011-12-31 (+14).
    check(
        "0 9 * * *",
        "Pacific/Apia",
        DEFAULT,
        "2011-12-29T12:00:00Z",
        &[
            "12-29T09:00:00 -> 12-29T19:00:00Z",
            "12-30T09:00:00 -> 12-30T10:00:00Z shifted",
            "12-31T09:00:00 -> 12-30T19:00:00Z",
        ],
    );
    check(
        "0 9 * * *",
        "Pacific/Apia",
        SKIP,
        "2011-12-29T12:00:00Z",
        &[
            "12-29T09:00:00 -> 12-29T19:00:00Z",
            "12-30T09:00:00 -> 12-30T10:00:00Z skipped",
            "12-31T09:00:00 -> 12-30T19:00:00Z",
        ],
    );
    // Midnight of the 30th merges with midnight of the 31st.
    check(
        "0 0 * * *",
        "Pacific/Apia",
        DEFAULT,
        "2011-12-29T12:00:00Z",
        &[
            "12-30T00:00:00 -> 12-30T10:00:00Z merged",
            "12-31T00:00:00 -> 12-30T10:00:00Z",
            "01-01T00:00:00 -> 12-31T10:00:00Z",
        ],
    );
    // A day of the month that was not: one firing that year, none lost.
    check(
        "0 9 30 12 *",
        "Pacific/Apia",
        DEFAULT,
        "2011-01-01T00:00:00Z",
        &[
            "12-30T09:00:00 -> 12-30T10:00:00Z shifted",
            "12-30T09:00:00 -> 12-29T19:00:00Z",
        ],
    );
    check(
        "0 */6 * * *",
        "Pacific/Apia",
        DEFAULT,
        "2011-12-30T04:00:00Z",
        &[
            "12-29T18:00:00 -> 12-30T04:00:00Z",
            "12-30T00:00:00 -> 12-30T10:00:00Z skipped",
            "12-30T06:00:00 -> 12-30T10:00:00Z skipped",
            "12-30T12:00:00 -> 12-30T10:00:00Z skipped",
            "12-30T18:00:00 -> 12-30T10:00:00Z skipped",
            "12-31T00:00:00 -> 12-30T10:00:00Z",
        ],
    );
}

#[test]
fn casablanca_puts_its_clock_back_for_ramadan() {
    // 2026-02-15 03:00 +01 -> 02:00 +00; 2026-03-22 02:00 +00 -> 03:00 +01.
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        BOTH,
        "2026-02-14T12:00:00Z",
        &[
            "02-15T02:30:00 -> 02-15T01:30:00Z first",
            "02-15T02:30:00 -> 02-15T02:30:00Z second",
            "02-16T02:30:00 -> 02-16T02:30:00Z",
        ],
    );
    check(
        "30 2 * * *",
        "Africa/Casablanca",
        DEFAULT,
        "2026-03-21T12:00:00Z",
        &[
            "03-22T02:30:00 -> 03-22T02:00:00Z shifted",
            "03-23T02:30:00 -> 03-23T01:30:00Z",
        ],
    );
}

#[test]
fn days_that_begin_at_one_o_clock() {
    // Sao Paulo, 2018-11-04: 00:00 -03 -> 01:00 -02.
    check(
        "@daily",
        "America/Sao_Paulo",
        DEFAULT,
        "2018-11-03T12:00:00Z",
        &[
            "11-04T00:00:00 -> 11-04T03:00:00Z shifted",
            "11-05T00:00:00 -> 11-05T02:00:00Z",
        ],
    );
    // 2018-02-18: 00:00 -02 -> 23:00 -03 of the day before.
    check(
        "30 23 * * *",
        "America/Sao_Paulo",
        BOTH,
        "2018-02-17T12:00:00Z",
        &[
            "02-17T23:30:00 -> 02-18T01:30:00Z first",
            "02-17T23:30:00 -> 02-18T02:30:00Z second",
            "02-18T23:30:00 -> 02-19T02:30:00Z",
        ],
    );
    // Beirut, 2026-03-29: 00:00 +02 -> 01:00 +03; 2026-10-25: 00:00 +03 -> 23:00 +02.
    check(
        "0 0 * * SUN",
        "Asia/Beirut",
        DEFAULT,
        "2026-03-28T12:00:00Z",
        &[
            "03-29T00:00:00 -> 03-28T22:00:00Z shifted",
            "04-05T00:00:00 -> 04-04T21:00:00Z",
        ],
    );
    check(
        "0 0 * * *",
        "Asia/Beirut",
        SKIP,
        "2026-03-28T12:00:00Z",
        &[
            "03-29T00:00:00 -> 03-28T22:00:00Z skipped",
            "03-30T00:00:00 -> 03-29T21:00:00Z",
        ],
    );
    check(
        "59 23 * * 6",
        "Asia/Beirut",
        LAST,
        "2026-10-24T12:00:00Z",
        &[
            "10-24T23:59:00 -> 10-24T21:59:00Z second",
            "10-31T23:59:00 -> 10-31T21:59:00Z",
        ],
    );
}

#[test]
fn a_gap_over_midnight_shifts_to_the_next_day() {
    // Nuuk, 2026: Saturday 03-28 23:00 -02 -> Sunday 03-29 00:00 -01. A schedule of Saturdays fires on
    // a Sunday then, rather than not at all.
    check(
        "30 23 * * SAT",
        "America/Nuuk",
        DEFAULT,
        "2026-03-28T12:00:00Z",
        &[
            "03-28T23:30:00 -> 03-29T01:00:00Z shifted",
            "04-04T23:30:00 -> 04-05T00:30:00Z",
        ],
    );
    // Kwajalein had no 1993-08-21 (-12 -> +12).
    check(
        "45 23 * * *",
        "Pacific/Kwajalein",
        DEFAULT,
        "1993-08-21T11:50:00Z",
        &[
            "08-21T23:45:00 -> 08-21T12:00:00Z shifted",
            "08-22T23:45:00 -> 08-22T11:45:00Z",
        ],
    );
}

#[test]
fn utc_never_jumps() {
    check(
        "30 2 29 3 *",
        "UTC",
        DEFAULT,
        "2026-03-29T02:30:00Z",
        &[
            "03-29T02:30:00 -> 03-29T02:30:00Z",
            "03-29T02:30:00 -> 03-29T02:30:00Z",
        ],
    );
}
