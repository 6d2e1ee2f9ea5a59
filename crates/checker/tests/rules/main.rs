//! Each rule is broken once, in a history that is good otherwise: the checker must find it, by that rule and no
//! other. A checker that has never said no proves nothing.

mod bench;

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;
use tidemill_checker::{
    Recorder, Rule, check,
    history::{Answer, Call, Completed, Event, LedgerOutcome, LedgerRow, Outcome},
};

use crate::bench::*;

#[test]
fn a_good_history_is_clean_and_counted() {
    let mut bench = Bench::good();
    bench.start("r1", started(1, Some(false)));
    bench.start("never", refused());
    bench.start("lost", Outcome::Unknown);
    bench.complete(task(1, 1), Completed::Error, ok(Answer::Already));
    let verdict = bench.judge();
    assert!(verdict.is_clean(), "{verdict}");
    let counts = &verdict.counts;
    assert_eq!(
        (counts.journals, counts.executions, counts.records),
        (2, 3, 17)
    );
    assert_eq!(
        (
            counts.starts,
            counts.starts_ok,
            counts.starts_refused,
            counts.starts_unknown
        ),
        (4, 2, 1, 1)
    );
    assert_eq!((counts.completions, counts.completions_accepted), (4, 3));
    assert_eq!(
        (counts.reads, counts.occurrences, counts.occurrences_fired),
        (2, 2, 2)
    );
}

#[test]
fn acknowledged_start_without_an_execution() {
    let mut bench = Bench::good();
    bench.start("r2", started(2, Some(true)));
    bench.breaks(Rule::Acknowledged, "knows nothing");
}

#[test]
fn acknowledged_start_with_the_execution_of_another_request() {
    let mut bench = Bench::good();
    bench.start("r2", started(1, Some(false)));
    bench.breaks(Rule::Acknowledged, "belongs to r1");
}

#[test]
fn two_executions_of_one_request_id_in_the_journal() {
    let mut bench = Bench::good();
    bench.execution(2, "r1", flow(), "client");
    bench.complete(task(2, 1), Completed::Success, ok(Answer::Accepted));
    bench.events.push(Event::Final {
        execution: exe(2).to_string(),
        state: "succeeded".into(),
        steps: 1,
        dead: 0,
        step_states: None,
    });
    bench.breaks(Rule::RequestIds, "r1 made");
}

#[test]
fn two_answers_that_both_made_it() {
    let mut bench = Bench::good();
    bench.start("r1", started(1, Some(true)));
    bench.breaks(Rule::RequestIds, "2 answers");
}

#[test]
fn an_execution_that_nobody_asked_for() {
    let mut bench = Bench::good();
    bench.events(|event| match event {
        Event::Call { id: 1, .. } | Event::Return { id: 1, .. } => None,
        other => Some(other),
    });
    bench.breaks(Rule::Invented, "nobody had asked");
}

#[test]
fn a_refused_start_that_took_effect() {
    let mut bench = Bench::good();
    bench.events(|event| match event {
        Event::Return { id: 1, .. } => Some(Event::Return {
            id: 1,
            outcome: refused(),
        }),
        other => Some(other),
    });
    bench.breaks(Rule::Invented, "refused each time");
}

fn ledger(bench: &mut Bench, mut edit: impl FnMut(&mut Vec<LedgerRow>)) {
    for event in &mut bench.events {
        if let Event::Ledger { rows, .. } = event {
            edit(rows);
        }
    }
}

#[test]
fn an_occurrence_without_a_row() {
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| rows[0].outcome = LedgerOutcome::Skipped);
    ledger(&mut bench, |rows| rows[0].execution.clear());
    bench.breaks(Rule::Occurrences, "which no row names");
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| drop(rows.pop()));
    bench.breaks(Rule::Occurrences, "no row for it");
}

#[test]
fn an_occurrence_with_two_rows_or_one_too_many() {
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| rows.push(rows[1].clone()));
    bench.breaks(Rule::Occurrences, "two rows");
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| {
        rows.push(LedgerRow {
            at_us: 13 * SECOND_US,
            outcome: LedgerOutcome::Skipped,
            execution: String::new(),
        });
    });
    bench.breaks(Rule::Occurrences, "was not armed");
}

#[test]
fn an_occurrence_with_the_execution_of_another() {
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| {
        rows[1].execution = rows[0].execution.clone()
    });
    bench.breaks(Rule::Occurrences, "belongs to");
    let mut bench = Bench::good();
    ledger(&mut bench, |rows| rows[1].execution = exe(99).to_string());
    bench.breaks(Rule::Occurrences, "knows nothing");
}

#[test]
fn an_accepted_completion_that_did_not_take_effect() {
    let mut bench = Bench::good();
    bench.complete(task(1, 2), Completed::Success, ok(Answer::Accepted));
    bench.breaks(Rule::Completions, "by the journal it ended not at all");
}

#[test]
fn an_accepted_completion_that_took_another_effect() {
    let mut bench = Bench::good();
    bench.events(|event| match event {
        Event::Call {
            id: 2,
            client,
            call: Call::Complete { task, .. },
        } => Some(Event::Call {
            id: 2,
            client,
            call: Call::Complete {
                task,
                outcome: Completed::Error,
            },
        }),
        other => Some(other),
    });
    bench.breaks(Rule::Completions, "completed as {Error}");
}

#[test]
fn a_completion_that_was_accepted_twice() {
    let mut bench = Bench::good();
    bench.complete(task(1, 1), Completed::Success, ok(Answer::Accepted));
    bench.breaks(Rule::Completions, "accepted 2 times");
}

#[test]
fn a_refused_completion_that_took_effect() {
    let mut bench = Bench::good();
    bench.events(|event| match event {
        Event::Return { id: 2, .. } => Some(Event::Return {
            id: 2,
            outcome: ok(Answer::LeaseLost),
        }),
        other => Some(other),
    });
    bench.breaks(Rule::Completions, "refused each time");
}

#[test]
fn a_completion_that_nobody_sent() {
    let mut bench = Bench::good();
    bench.events(|event| match event {
        Event::Call { id: 2, .. } | Event::Return { id: 2, .. } => None,
        other => Some(other),
    });
    bench.breaks(Rule::Completions, "nobody had sent");
}

#[test]
fn an_attempt_that_ended_twice() {
    let mut bench = Bench::good();
    let at = bench.at("step.succeeded", 0);
    let again = bench.records[at].clone();
    bench.records.insert(at + 1, again);
    bench.breaks(Rule::Story, "step 0 was succeeded");
}

#[test]
fn an_attempt_given_to_two_workers() {
    let mut bench = Bench::good();
    bench.events.push(Event::Delivered {
        worker: "other".into(),
        task: task(1, 1),
    });
    bench.breaks(Rule::Leases, "was given to w and to other");
}

#[test]
fn a_record_that_is_altered_or_missing_or_cut_off() {
    let bench = Bench::good();
    let altered = bench.judge_with(|lines| {
        let other = lines[4]["record"].clone();
        let mut bytes = BASE64
            .decode(other.as_str().expect("text"))
            .expect("base64");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        lines[4]["record"] = json!(BASE64.encode(bytes));
    });
    assert!(altered.by_rule.contains_key(&Rule::Chain), "{altered}");
    let gap = bench.judge_with(|lines| drop(lines.remove(4)));
    assert!(
        gap.violations[0]
            .message
            .contains("record 5 stands where 4 belongs"),
        "{gap}"
    );
    let cut = bench.judge_with(|lines| drop(lines.pop()));
    assert!(
        cut.violations[0].message.contains("the header says 17"),
        "{cut}"
    );
    assert_eq!(cut.violations[0].rule, Rule::Chain);
}

#[test]
fn nodes_with_different_journals() {
    let bench = Bench::good();
    let mut records = bench.records.clone();
    records[7].detail = "something else".into();
    let verdict = bench.judge_with(|lines| *lines = export(2, &records));
    expect(&verdict, Rule::Replicas, "from record 8 on");
    let verdict = bench.judge_with(|lines| *lines = export(2, &bench.records[..10]));
    expect(&verdict, Rule::Replicas, "node 2 has 10");
}

#[test]
fn an_impossible_story() {
    let mut bench = Bench::good();
    let at = bench.at("step.started", 0);
    bench.records.remove(at);
    let at = bench.at("step.succeeded", 0);
    bench.records[at].attempt = 3;
    let verdict = bench.judge();
    assert!(verdict.by_rule.contains_key(&Rule::Story), "{verdict}");
    let mut bench = Bench::good();
    bench.record("partition.restarted", |r| r.detail = "overflow".into());
    bench.breaks(Rule::Story, "panicked: overflow");
}

#[test]
fn a_state_that_is_not_the_fold() {
    let spoil = |edit: fn(&mut Event)| {
        let mut bench = Bench::good();
        let mut finals = bench.events.iter_mut();
        let first = finals.find(|event| matches!(event, Event::Final { .. }));
        edit(first.expect("a final"));
        bench
    };
    let bench = spoil(|event| {
        if let Event::Final { state, .. } = event {
            *state = "failed".into();
        }
    });
    bench.breaks(Rule::States, "it is failed");
    let bench = spoil(|event| {
        if let Event::Final { step_states, .. } = event {
            *step_states = Some(vec![("succeeded".into(), 2)]);
        }
    });
    bench.breaks(Rule::States, "at attempt 2");
    let bench = spoil(|event| *event = Event::FinalsComplete);
    bench.breaks(Rule::States, "in no list");
}

#[test]
fn a_read_that_goes_back() {
    let mut bench = Bench::good();
    bench.read(1, "running", 2);
    bench.breaks(Rule::Reads, "had read it before as succeeded at revision 5");
    let mut bench = Bench::good();
    let execution = exe(1).to_string();
    bench.call("c", Call::Read { execution }, Some(ok(Answer::NotFound)));
    bench.breaks(Rule::Reads, "did not find");
    let mut bench = Bench::good();
    bench.read(1, "failed", 5);
    bench.breaks(Rule::Reads, "at revision 5");
}

#[test]
fn a_read_that_was_sent_before_the_other_was_answered_may_see_less() {
    let mut bench = Bench::good();
    let execution = exe(1).to_string();
    let late = Event::Call {
        id: 900,
        client: "slow".into(),
        call: Call::Read { execution },
    };
    // Sent right after the start was answered, answered after all other reads.
    bench.events.insert(2, late);
    let answer = Answer::Read {
        state: "running".into(),
        revision: 1,
    };
    bench.events.push(Event::Return {
        id: 900,
        outcome: ok(answer),
    });
    let verdict = bench.judge();
    assert!(verdict.is_clean(), "{verdict}");
}

#[test]
fn an_execution_that_is_stuck() {
    let mut bench = Bench::good();
    let at = bench.at("execution.succeeded", 0);
    bench.records.drain(at - 2..=at);
    bench.events(|event| match event {
        Event::Final { execution, .. } if execution == exe(1).to_string() => Some(Event::Final {
            execution,
            state: "running".into(),
            steps: 1,
            dead: 0,
            step_states: None,
        }),
        Event::Call { id: 2, .. } | Event::Return { id: 2, .. } => None,
        other => Some(other),
    });
    bench.breaks(Rule::Stuck, "is pending");
}

#[test]
fn a_history_that_contradicts_itself() {
    let mut bench = Bench::good();
    bench.events.push(Event::Return {
        id: 77,
        outcome: Outcome::Unknown,
    });
    bench.breaks(Rule::History, "call 77, which is not there");
}

#[test]
fn a_cut_off_last_line_is_left_out_and_its_call_is_unknown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let recorder = Recorder::create(&path("h.jsonl"), &json!({"seed": 7})).expect("a file");
    for (request, outcome) in [("r1", refused()), ("r2", refused())] {
        let call = Call::Start {
            flow: flow().to_string(),
            request_id: request.into(),
        };
        let id = recorder.call("c", call);
        recorder.answer(id, outcome);
    }
    recorder.flush().expect("written");
    let mut text = fs::read_to_string(path("h.jsonl")).expect("text");
    text.truncate(text.len() - 10);
    fs::write(path("h.jsonl"), text).expect("writes");
    write(&path("1.jsonl"), &export(1, &[]));
    let verdict = check([path("h.jsonl"), path("1.jsonl")]).expect("readable");
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(
        (verdict.counts.starts_refused, verdict.counts.starts_unknown),
        (1, 1)
    );
}

#[test]
fn what_is_neither_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x");
    fs::write(&path, "{}\n").expect("writes");
    let error = check([&path]).expect_err("no history");
    assert!(error.to_string().contains("no header"), "{error}");
    fs::write(&path, "{\"tidemill_history\": 1}\n").expect("writes");
    let error = check([&path]).expect_err("no journal");
    assert!(error.to_string().contains("at least one"), "{error}");
}
