//! `every`, and jitter.

use serde_json::{Value, json};
use tidemill_core::schedule::Schedule;

use super::{compile, line, ms};

fn schedule(value: Value) -> Schedule {
    compile(&serde_json::from_value(value).expect("a schedule by its shape"))
}

fn lines(value: Value, after_ms: i64, count: usize) -> Vec<String> {
    let occurrences = schedule(value).preview(after_ms, count);
    occurrences.iter().map(line).collect()
}

#[test]
fn intervals_count_from_the_epoch() {
    assert_eq!(
        lines(json!({"every": "7h"}), ms("1970-01-01T00:00:00Z"), 2),
        [
            "01-01T07:00:00 -> 01-01T07:00:00Z",
            "01-01T14:00:00 -> 01-01T14:00:00Z"
        ]
    );
    assert_eq!(
        lines(json!({"every": "5m"}), ms("2026-01-01T00:04:59.999Z"), 2),
        [
            "01-01T00:05:00 -> 01-01T00:05:00Z",
            "01-01T00:10:00 -> 01-01T00:10:00Z"
        ]
    );
}

#[test]
fn an_anchor_counts_in_both_directions() {
    let value = json!({"every": "1h30m", "anchor": "2026-01-01T12:00:10+01:00"});
    assert_eq!(
        lines(value, ms("2026-01-01T08:00:00Z"), 3),
        [
            "01-01T08:00:10 -> 01-01T08:00:10Z",
            "01-01T09:30:10 -> 01-01T09:30:10Z",
            "01-01T11:00:10 -> 01-01T11:00:10Z"
        ]
    );
}

#[test]
fn intervals_do_not_jump_with_local_time() {
    let value = json!({"every": "30m", "timezone": "Europe/Berlin"});
    assert_eq!(
        lines(value.clone(), ms("2026-10-25T00:00:00Z"), 4),
        [
            "10-25T02:30:00 -> 10-25T00:30:00Z first",
            "10-25T02:00:00 -> 10-25T01:00:00Z second",
            "10-25T02:30:00 -> 10-25T01:30:00Z second",
            "10-25T03:00:00 -> 10-25T02:00:00Z",
        ]
    );
    assert_eq!(
        lines(value, ms("2026-03-29T00:15:00Z"), 2),
        [
            "03-29T01:30:00 -> 03-29T00:30:00Z",
            "03-29T03:00:00 -> 03-29T01:00:00Z",
        ]
    );
}

#[test]
fn intervals_keep_their_milliseconds() {
    let schedule = schedule(json!({"every": "250ms"}));
    let next = schedule.next_after(250).expect("goes on");
    assert_eq!(next.at_ms, 500);
    assert_eq!(next.nominal.and_utc().timestamp_millis(), 500);
}

#[test]
fn the_ends_of_time_are_answered() {
    for value in [
        json!({"every": "100ms"}),
        json!({"every": "3660d", "anchor": "9999-12-31T23:59:59Z"}),
        json!({"every": "3660d", "anchor": "0000-01-01T00:00:00+23:59"}),
        json!({"cron": "* * * * * *", "timezone": "Pacific/Kiritimati"}),
    ] {
        let schedule = schedule(value);
        for after_ms in [
            i64::MIN,
            i64::MIN + 1,
            -1,
            0,
            1 << 53,
            i64::MAX - 1,
            i64::MAX,
        ] {
            if let Some(next) = schedule.next_after(after_ms) {
                assert!(next.at_ms > after_ms);
            }
        }
    }
}

#[test]
fn jitter_is_spread_over_its_range_and_always_the_same() {
    let schedule = schedule(json!({"every": "1m", "jitter": "10s"}));
    let occurrences = schedule.preview(0, 1000);
    let jitters = |seed| -> Vec<i64> {
        occurrences
            .iter()
            .map(|one| schedule.jitter_ms(seed, one))
            .collect()
    };
    let one = jitters(1);
    assert_eq!(one, jitters(1));
    assert_ne!(one, jitters(2));
    assert!(one.iter().all(|jitter| (0..=10_000).contains(jitter)));
    for tenth in 0..10 {
        let range = tenth * 1000..(tenth + 1) * 1000_i64;
        let count = one.iter().filter(|jitter| range.contains(jitter)).count();
        assert!((60..150).contains(&count), "{count} of 1000 in {range:?}");
    }
    // Fixed for ever: a new release must not move what is due.
    assert_eq!(one[..3], [1857, 7065, 912]);
}

#[test]
fn jitter_differs_between_the_two_instants_of_a_local_time() {
    let schedule = schedule(json!({
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "dst": {"overlap": "both"},
        "jitter": "1d",
    }));
    let occurrences = schedule.preview(ms("2026-10-25T00:00:00Z"), 2);
    assert_eq!(occurrences[0].nominal, occurrences[1].nominal);
    assert_ne!(
        schedule.jitter_ms(7, &occurrences[0]),
        schedule.jitter_ms(7, &occurrences[1])
    );
}

#[test]
fn no_jitter_is_none() {
    let schedule = schedule(json!({"every": "1m"}));
    let next = schedule.next_after(0).expect("goes on");
    assert_eq!(schedule.jitter_ms(u64::MAX, &next), 0);
}
