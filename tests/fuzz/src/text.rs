//! Texts that people and other machines write.

use serde_json::Value;
use tidemill_core::{
    flow::{self, Problem},
    schedule::{Schedule, instant_ms},
};
use tidemill_expression::{Expression, Limits};
use tidemill_types::{flow::FlowDuration, schedule::ScheduleSpec};

/// How many occurrences are looked at: a rare schedule searches years for each.
const OCCURRENCES: usize = 4;
/// From when: 2027-01-15, in milliseconds.
const FROM_MS: i64 = 1_800_000_000_000;
const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
];

/// A flow document, in YAML or JSON. Accepted: read, whether valid or not.
pub fn flow_document(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(documents) = flow::parse(&text) else {
        return false;
    };
    for document in &documents {
        let problems = flow::validate(document);
        let plan = flow::compile(document);
        assert_eq!(
            plan.is_err(),
            problems.iter().any(Problem::is_error),
            "compiles exactly when there is no error: {problems:?}"
        );
        let canonical = flow::canonical_json(document);
        // The canonical form of what is too large, or invalid, need not be readable.
        if plan.is_ok() {
            let again = flow::parse(&canonical).expect("the canonical form is a document");
            assert_eq!(flow::canonical_json(&again[0]), canonical);
            assert_eq!(flow::content_hash(&again[0]), flow::content_hash(document));
        }
    }
    true
}

/// A line of JSONata, and below it the JSON that it is evaluated on. Accepted: parsed.
pub fn expression(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (source, input) = text.split_once('\n').unwrap_or((&text, "null"));
    let Ok(expression) = Expression::parse(source) else {
        return false;
    };
    let input = serde_json::from_str(input).unwrap_or(Value::Null);
    let limits = Limits {
        steps: 10_000,
        memory_bytes: 1024 * 1024,
        now_ms: Some(FROM_MS),
        ..Limits::default()
    };
    let once = expression.evaluate(&input, &[("flow", &input)], &limits);
    let twice = expression.evaluate(&input, &[("flow", &input)], &limits);
    assert_eq!(
        format!("{once:?}"),
        format!("{twice:?}"),
        "the same each time"
    );
    if let Ok(Some(value)) = &once {
        let text = serde_json::to_string(value).expect("a value is JSON");
        assert!(text.len() <= limits.output_bytes, "{} bytes", text.len());
    }
    let _ = expression.evaluate_condition(&input, &[], &limits);
    true
}

/// A byte for the time zone, then what stands for a cron expression, an interval, a duration and an instant.
/// Accepted: a cron expression or an interval that can be compiled.
pub fn cron(bytes: &[u8]) -> bool {
    let Some((zone, text)) = bytes.split_first() else {
        return false;
    };
    let text = String::from_utf8_lossy(text);
    if let Ok(duration) = text.parse::<FlowDuration>() {
        let shown = duration.to_string();
        assert_eq!(shown.parse(), Ok(duration), "{text} is shown as {shown}");
    }
    let _ = instant_ms(&text);
    let zone = ZONES[usize::from(*zone) % ZONES.len()];
    let mut accepted = false;
    for spec in [
        ScheduleSpec::from_cron(text.as_ref()).in_timezone(zone),
        ScheduleSpec::from_every(text.as_ref()).in_timezone(zone),
    ] {
        let json = serde_json::to_string(&spec).expect("a specification is JSON");
        let again: ScheduleSpec = serde_json::from_str(&json).expect("we wrote it");
        assert_eq!(again, spec);
        let Ok(schedule) = Schedule::compile(&spec) else {
            continue;
        };
        accepted = true;
        let mut before = (FROM_MS, None);
        for occurrence in schedule.preview(FROM_MS, OCCURRENCES) {
            let next = (occurrence.at_ms, Some(occurrence.nominal));
            assert!(next > before, "{spec:?}: {next:?} after {before:?}");
            let _ = (occurrence.nominal_text(), occurrence.note_text());
            before = next;
        }
        if let Some(next) = schedule.next_after(FROM_MS) {
            assert!(next.at_ms > FROM_MS && next.fires);
        }
    }
    accepted
}

/// An exported journal. Accepted: sound from its first line to its heads.
pub fn journal_file(bytes: &[u8]) -> bool {
    let verdict = tidemill::journal::file::verify(bytes).expect("memory can be read");
    let records: u64 = verdict.chains.values().map(|chain| chain.seq()).sum();
    assert!(records <= verdict.records, "no record is counted twice");
    verdict.problems.is_empty()
}
