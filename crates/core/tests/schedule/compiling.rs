//! What a schedule may say, and how refusals read.

use serde_json::{Value, json};
use tidemill_core::schedule::Schedule;
use tidemill_types::limits::SCHEDULE_PREVIEW_MAX;
use tidemill_types::schedule::ScheduleSpec;

use super::{compile, line, ms};

fn spec(value: Value) -> ScheduleSpec {
    serde_json::from_value(value).expect("a schedule by its shape")
}

fn check(value: Value, expected: &[(&str, &str)]) {
    let problems = match Schedule::compile(&spec(value.clone())) {
        Ok(_) => panic!("{value} compiles"),
        Err(problems) => problems,
    };
    assert_eq!(problems.len(), expected.len(), "{value}: {problems:?}");
    for (problem, (pointer, part)) in problems.iter().zip(expected) {
        assert_eq!(problem.pointer, *pointer, "{value}: {problems:?}");
        assert!(problem.message.contains(part), "{value}: {problem}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    check(
        json!({
            "cron": "60 * * 13 *",
            "timezone": "Europe/Berln",
            "catchUp": {"policy": "one", "window": "soon"},
            "startAt": "tomorrow",
            "end": {"at": "2026-02-30T00:00:00Z"},
            "jitter": "2d",
        }),
        &[
            ("/timezone", "did you mean Europe/Berlin?"),
            ("/cron", "minute: 60"),
            ("/cron", "month: 13"),
            ("/startAt", "RFC 3339"),
            ("/end/at", "RFC 3339"),
            ("/jitter", "2d is out of range; allowed are 0s to 1d"),
            ("/catchUp/window", "5m"),
        ],
    );
}

#[test]
fn cron_or_every_and_not_both() {
    check(json!({}), &[("", "neither cron nor every")]);
    check(
        json!({"cron": "@daily", "every": "5m"}),
        &[("", "both cron and every")],
    );
    check(
        json!({"cron": "@daily", "anchor": "2026-01-01T00:00:00Z"}),
        &[("/anchor", "beside every only")],
    );
    check(json!({"every": "5"}), &[("/every", "5m")]);
    check(
        json!({"every": "99ms"}),
        &[("/every", "allowed are 100ms to")],
    );
    check(json!({"every": "4000d"}), &[("/every", "out of range")]);
    check(
        json!({"every": "5m", "anchor": "2026-01-01"}),
        &[("/anchor", "RFC 3339")],
    );
    compile(&spec(json!({"every": "100ms"})));
}

#[test]
fn ends_must_make_sense() {
    check(
        json!({"cron": "@daily", "end": {}}),
        &[("/end", "neither after nor at")],
    );
    check(
        json!({"cron": "@daily", "end": {"after": 1, "at": "2026-01-01T00:00:00Z"}}),
        &[("/end", "both after and at")],
    );
    check(
        json!({"cron": "@daily", "end": {"after": 0}}),
        &[("/end/after", "at least 1")],
    );
    let schedule = compile(&spec(json!({"cron": "@daily", "end": {"after": 3}})));
    assert_eq!(schedule.end_after(), Some(3));
}

#[test]
fn what_can_never_fire_is_refused() {
    check(json!({"cron": "0 0 31 2 *"}), &[("/cron", "never fire")]);
    check(
        json!({
            "cron": "0 0 1 1 *",
            "startAt": "2026-01-02T00:00:00Z",
            "end": {"at": "2026-12-31T00:00:00Z"},
        }),
        &[("", "no occurrence from startAt to end.at")],
    );
    check(
        json!({"cron": "@daily", "startAt": "2101-01-02T00:00:00Z"}),
        &[("", "can never fire")],
    );
    // The only occurrence falls into a gap, and is skipped.
    check(
        json!({
            "cron": "30 2 * * *",
            "timezone": "Europe/Berlin",
            "dst": {"gap": "skip"},
            "startAt": "2026-03-29T00:00:00Z",
            "end": {"at": "2026-03-29T12:00:00Z"},
        }),
        &[("", "can never fire")],
    );
}

#[test]
fn start_and_end_both_belong_to_the_schedule() {
    let schedule = compile(&spec(json!({
        "cron": "0 * * * *",
        "startAt": "2026-01-01T10:00:00Z",
        "end": {"at": "2026-01-01T12:00:00Z"},
    })));
    let lines: Vec<String> = schedule.preview(i64::MIN, 10).iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "01-01T10:00:00 -> 01-01T10:00:00Z",
            "01-01T11:00:00 -> 01-01T11:00:00Z",
            "01-01T12:00:00 -> 01-01T12:00:00Z",
        ]
    );
    assert_eq!(schedule.next_after(ms("2026-01-01T12:00:00Z")), None);
    assert_eq!(schedule.next_after(i64::MAX), None);
}

#[test]
fn a_preview_has_a_limit() {
    let schedule = compile(&spec(json!({"every": "1s"})));
    assert_eq!(schedule.preview(0, usize::MAX).len(), SCHEDULE_PREVIEW_MAX);
    assert_eq!(schedule.preview(0, 0), []);
}

#[test]
fn the_catch_up_window_is_checked_and_kept() {
    let schedule = compile(&spec(json!({"cron": "@daily"})));
    assert_eq!(schedule.catch_up_window_ms(), 3_600_000);
    let schedule = compile(&spec(
        json!({"cron": "@daily", "catchUp": {"window": "1d"}}),
    ));
    assert_eq!(schedule.catch_up_window_ms(), 86_400_000);
}
