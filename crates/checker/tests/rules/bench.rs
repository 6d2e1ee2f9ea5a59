//! A good history with its journals, to be spoilt.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tidemill_checker::{
    Rule, Verdict, check,
    history::{Answer, Call, Completed, Event, LedgerOutcome, LedgerRow, Line, Outcome},
};
use tidemill_proto::v1::JournalRecord;
use tidemill_types::{ExecutionId, FlowId, PartitionId};

pub const SECOND_US: i64 = 1_000_000;

pub fn flow() -> FlowId {
    FlowId::new(1, PartitionId(1), 1)
}

pub fn clock_flow() -> FlowId {
    FlowId::new(1, PartitionId(1), 2)
}

pub fn exe(number: u64) -> ExecutionId {
    ExecutionId::new(1_000, PartitionId(1), number)
}

pub fn task(number: u64, attempt: u32) -> String {
    format!("{}/0/{attempt}", exe(number))
}

/// A history and a journal that may be spoilt.
#[derive(Clone)]
pub struct Bench {
    pub records: Vec<JournalRecord>,
    pub events: Vec<Event>,
    next_call: u64,
}

impl Bench {
    /// One execution by request, with one step that a worker completes; a schedule that was armed for two
    /// seconds; reads; all finals.
    pub fn good() -> Self {
        let mut bench = Self {
            records: Vec::new(),
            events: Vec::new(),
            next_call: 1,
        };
        let id = exe(1).to_string();
        let clock = clock_flow().to_string();
        bench.record("flow.armed", |r| {
            r.flow_id = clock_flow().0.to_vec().into();
            r.at_us = 10 * SECOND_US + 1;
        });
        bench.start("r1", started(1, Some(true)));
        bench.execution(1, "r1", flow(), "client");
        bench.events.push(Event::Delivered {
            worker: "w".into(),
            task: task(1, 1),
        });
        bench.complete(task(1, 1), Completed::Success, ok(Answer::Accepted));
        bench.read(1, "running", 2);
        bench.read(1, "succeeded", 5);
        for number in [11, 12] {
            bench.execution(
                number,
                &format!("schedule/{number}"),
                clock_flow(),
                "system",
            );
            // Its worker was another one, which wrote nothing down but this.
            bench.complete(task(number, 1), Completed::Success, ok(Answer::Accepted));
        }
        bench.record("flow.disarmed", |r| {
            r.flow_id = clock_flow().0.to_vec().into();
            r.at_us = 12 * SECOND_US + 5;
        });
        let row = |at: i64| LedgerRow {
            at_us: at * SECOND_US,
            outcome: LedgerOutcome::Fired,
            execution: exe(at as u64).to_string(),
        };
        bench.events.push(Event::Schedule {
            flow: clock.clone(),
        });
        bench.events.push(Event::Ledger {
            flow: clock,
            rows: vec![row(11), row(12)],
        });
        bench.events.push(Event::Healed);
        for execution in [id, exe(11).to_string(), exe(12).to_string()] {
            bench.events.push(Event::Final {
                execution,
                state: "succeeded".into(),
                steps: 1,
                dead: 0,
                step_states: Some(vec![("succeeded".into(), 1)]),
            });
        }
        bench.events.push(Event::FinalsComplete);
        bench
    }

    pub fn record(&mut self, kind: &str, edit: impl FnOnce(&mut JournalRecord)) {
        let mut record = JournalRecord {
            partition: 1,
            kind: kind.into(),
            at_us: self.records.last().map_or(0, |r| r.at_us),
            ..JournalRecord::default()
        };
        edit(&mut record);
        self.records.push(record);
    }

    /// The records of an execution with one step that succeeds.
    pub fn execution(&mut self, number: u64, request_id: &str, flow: FlowId, actor: &str) {
        let mut one = |kind: &str, step: u32, attempt: u32, actor: &str| {
            self.record(kind, |r| {
                r.execution_id = exe(number).0.to_vec().into();
                r.flow_id = flow.0.to_vec().into();
                r.step = step;
                r.attempt = attempt;
                r.actor = actor.into();
                if kind == "execution.started" {
                    r.request_id = request_id.into();
                }
            });
        };
        one("execution.started", 0, 0, actor);
        one("step.scheduled", 1, 0, "system");
        one("step.started", 1, 1, "worker:w");
        one("step.succeeded", 1, 1, "worker:w");
        one("execution.succeeded", 0, 0, "system");
    }

    pub fn call(&mut self, client: &str, call: Call, outcome: Option<Outcome>) {
        let id = self.next_call;
        self.next_call += 1;
        let client = client.into();
        self.events.push(Event::Call { id, client, call });
        if let Some(outcome) = outcome {
            self.events.push(Event::Return { id, outcome });
        }
    }

    pub fn start(&mut self, request_id: &str, outcome: Outcome) {
        let call = Call::Start {
            flow: flow().to_string(),
            request_id: request_id.into(),
        };
        self.call("c", call, Some(outcome));
    }

    pub fn complete(&mut self, task: String, outcome: Completed, answer: Outcome) {
        self.call("w", Call::Complete { task, outcome }, Some(answer));
    }

    pub fn read(&mut self, number: u64, state: &str, revision: u64) {
        let execution = exe(number).to_string();
        let answer = Answer::Read {
            state: state.into(),
            revision,
        };
        self.call("c", Call::Read { execution }, Some(ok(answer)));
    }

    /// Leaves out or changes events.
    pub fn events(&mut self, edit: impl FnMut(Event) -> Option<Event>) {
        let events = std::mem::take(&mut self.events);
        self.events = events.into_iter().filter_map(edit).collect();
    }

    /// The index of the n-th record of this kind.
    pub fn at(&self, kind: &str, n: usize) -> usize {
        let mut found = self
            .records
            .iter()
            .enumerate()
            .filter(|(_, r)| r.kind == kind);
        found.nth(n).expect("such a record").0
    }

    pub fn history_text(&self) -> String {
        let mut text = "{\"tidemill_history\":1}\n".to_owned();
        for (at, event) in self.events.iter().enumerate() {
            let line = Line {
                at_us: at as u64,
                event: event.clone(),
            };
            text.push_str(&serde_json::to_string(&line).expect("a line"));
            text.push('\n');
        }
        text
    }

    pub fn judge(&self) -> Verdict {
        self.judge_with(|_| {})
    }

    /// Judges it with the journals of two nodes, the second of which may be spoilt as text lines.
    pub fn judge_with(&self, spoil: impl FnOnce(&mut Vec<Value>)) -> Verdict {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("history.jsonl"), self.history_text()).expect("writes");
        let lines = export(1, &self.records);
        write(&path("1.jsonl"), &lines);
        let mut lines = export(2, &self.records);
        spoil(&mut lines);
        write(&path("2.jsonl"), &lines);
        check(["history.jsonl", "1.jsonl", "2.jsonl"].map(path)).expect("readable")
    }

    /// Judges it, and expects this one rule to be broken, with these words.
    pub fn breaks(&self, rule: Rule, words: &str) {
        expect(&self.judge(), rule, words);
    }
}

pub fn expect(verdict: &Verdict, rule: Rule, words: &str) {
    let rules: Vec<Rule> = verdict.by_rule.keys().copied().collect();
    assert_eq!(rules, [rule], "{verdict}");
    let said = verdict.violations.iter().any(|v| v.message.contains(words));
    assert!(said, "nothing says {words:?}: {verdict}");
}

pub fn write(path: &Path, lines: &[Value]) {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(path, text.join("\n") + "\n").expect("writes");
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn export(node_id: u64, records: &[JournalRecord]) -> Vec<Value> {
    let mut hash = vec![0_u8; 32];
    let mut lines = vec![Value::Null];
    for (at, record) in records.iter().enumerate() {
        let record = JournalRecord {
            seq: at as u64 + 1,
            ..record.clone()
        };
        let bytes = record.encode_to_vec();
        hash = Sha256::new()
            .chain_update(&hash)
            .chain_update(&bytes)
            .finalize()
            .to_vec();
        lines.push(json!({"partition": 1, "seq": record.seq, "record": BASE64.encode(&bytes), "hash": hex(&hash)}));
    }
    lines[0] = json!({"tidemill_journal": 1, "cluster": "c", "node_id": node_id, "exported_at": "",
        "heads": [{"partition": 1, "seq": records.len(), "hash": hex(&hash)}]});
    lines
}

pub fn ok(answer: Answer) -> Outcome {
    Outcome::Ok { answer }
}

pub fn started(number: u64, created: Option<bool>) -> Outcome {
    let execution = exe(number).to_string();
    ok(Answer::Started { execution, created })
}

pub fn refused() -> Outcome {
    Outcome::Refused {
        code: "UNAVAILABLE".into(),
    }
}
