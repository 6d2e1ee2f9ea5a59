//! What the core costs by itself: `cargo bench -p tidemill-core`. No disk, no network, no other thread, so
//! that a change of the core shows whatever else the machine does.
//!
//! `decide/start` and `decide/complete` are the two commands of a one-step execution, each with the rows and
//! journal records of its batch, all hashed and encoded; the rows go to memory outside the measurement.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use tidemill_core::{
    Decider, Partition,
    command::{
        ArmFlow, CompleteTask, Outcome, OutputMessage, PartitionCommand, PartitionEffect,
        SessionKey, SessionUpdate, StartExecution, Targets, TellEnd,
    },
    flow::{self, canonical_json},
    memory::MemoryRows,
    partition::PartitionConfig,
    schedule::Schedule,
};
use tidemill_rows::{
    Batch, Epoch, Hash, Stored,
    journal::{JournalHead, JournalRecord, chain, kind},
    table::MessageRow,
};
use tidemill_types::{FlowId, PartitionId, TaskId, Timestamp, schedule::ScheduleSpec};

const HOME: PartitionId = PartitionId(1);
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SESSION: SessionKey = SessionKey {
    gateway: 1,
    session: 1,
};
const ONE_STEP: &str =
    "name: one\ngraph: {nodes: [{id: a, componentId: w, function: f}], edges: []}";
/// After so many executions a fresh partition is made, so that memory stays the same however long it runs.
const EXECUTIONS_PER_PARTITION: u64 = 4_096;

/// A partition with one armed flow and one worker that has room.
struct Shell {
    partition: Partition,
    rows: MemoryRows,
    flow: FlowId,
    seq: u64,
    entropy: u64,
    granted: Vec<TaskId>,
}

impl Shell {
    fn new() -> Self {
        let rows = MemoryRows::default();
        let partition =
            Partition::recover(PartitionConfig::default(), HOME, NOW, &rows).expect("no damage");
        let mut shell = Self {
            partition,
            rows,
            flow: FlowId::new(NOW.as_millis(), HOME, 1),
            seq: 0,
            entropy: 0,
            granted: Vec::new(),
        };
        let document = flow::parse(ONE_STEP).expect("a valid document");
        shell.untimed(PartitionCommand::Session(SessionUpdate {
            key: SESSION,
            worker: "w1".into(),
            serves: vec![("w".into(), "".into())],
            lease_ms: 30_000,
            limit: 1_024,
            gone: false,
            instance: 0,
            number: 0,
            holds: Vec::new(),
        }));
        shell.untimed(PartitionCommand::Arm(ArmFlow {
            flow: shell.flow,
            name: "one".into(),
            version: 1,
            document: Bytes::from(canonical_json(&document[0])),
            content_hash: Hash([1; 32]),
            activation: 1,
            without_workers: false,
        }));
        shell
    }

    /// Decides and closes the batch: what is measured.
    fn timed(&mut self, command: PartitionCommand) -> Duration {
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark reads the clock; the core does not"
        )]
        let begun = Instant::now();
        let reply = self.partition.handle(command, NOW, &self.rows);
        self.seq += 1;
        let batch = self.partition.take_batch(Epoch::default(), self.seq);
        let took = begun.elapsed();
        reply.expect("no damage").expect("not refused");
        let batch = Batch::decode(batch.expect("no damage").into_bytes()).expect("a batch");
        self.rows.apply(&batch.mutations);
        self.partition.applied(self.seq);
        for effect in self.partition.take_effects() {
            if let PartitionEffect::Grant(grant) = effect {
                self.granted.push(grant.task);
            }
        }
        took
    }

    fn untimed(&mut self, command: PartitionCommand) {
        self.timed(command);
    }

    fn start(&mut self) -> PartitionCommand {
        self.entropy += 1;
        PartitionCommand::Start(StartExecution {
            flow: self.flow,
            message: message(),
            request_id: format!("request-{}", self.entropy),
            traceparent: String::new(),
            tracestate: String::new(),
            entropy: self.entropy,
            request_id_only: false,
            by_hand: false,
            tell_end: TellEnd::No,
        })
    }

    fn complete(&mut self) -> PartitionCommand {
        PartitionCommand::Complete(CompleteTask {
            task: self.granted.pop().expect("the worker has room"),
            outcome: Outcome::Success {
                messages: vec![OutputMessage {
                    message: message(),
                    targets: Targets::All,
                }],
                node_state: None,
            },
            session: SESSION,
        })
    }
}

fn message() -> MessageRow {
    MessageRow {
        data: Bytes::from_static(br#"{"order": 4711, "amount": 12.5}"#),
        ..MessageRow::default()
    }
}

/// Runs executions and adds up what one of their two commands took.
fn executions(count: u64, of_start: bool) -> Duration {
    let mut total = Duration::ZERO;
    let mut shell = Shell::new();
    for number in 1..=count {
        let start = shell.start();
        let started = shell.timed(start);
        let complete = shell.complete();
        let completed = shell.timed(complete);
        total += if of_start { started } else { completed };
        if number % EXECUTIONS_PER_PARTITION == 0 {
            shell = Shell::new();
        }
    }
    total
}

fn decide(criterion: &mut Criterion) {
    criterion.bench_function("decide/start", |bench| {
        bench.iter_custom(|count| executions(count, true));
    });
    criterion.bench_function("decide/complete", |bench| {
        bench.iter_custom(|count| executions(count, false));
    });
}

/// A chain of worker nodes with conditions between them.
fn document(nodes: usize) -> String {
    let node =
        |n: usize| format!("{{id: n{n}, componentId: shop, function: f, fields: {{a: {n}}}}}");
    let edge = |n: usize| {
        let condition = format!("amount > {n} and country = 'DE'");
        format!(
            "{{source: n{}, target: n{n}, config: {{condition: \"{condition}\"}}}}",
            n - 1
        )
    };
    let nodes_text: Vec<String> = (0..nodes).map(node).collect();
    let edges_text: Vec<String> = (1..nodes).map(edge).collect();
    format!(
        "name: chain\ntrigger: {{schedule: {{cron: '*/3 * * * *', timezone: Europe/Berlin}}}}\n\
         graph: {{nodes: [{}], edges: [{}]}}",
        nodes_text.join(", "),
        edges_text.join(", ")
    )
}

fn compile(criterion: &mut Criterion) {
    for nodes in [3, 100] {
        let text = document(nodes);
        criterion.bench_function(&format!("flow/parse {nodes} nodes"), |bench| {
            bench.iter(|| flow::parse(black_box(&text)).expect("a valid document"));
        });
        let parsed = flow::parse(&text).expect("a valid document");
        criterion.bench_function(&format!("flow/compile {nodes} nodes"), |bench| {
            bench.iter(|| flow::compile(black_box(&parsed[0])).expect("no problem"));
        });
        criterion.bench_function(&format!("flow/hash {nodes} nodes"), |bench| {
            bench.iter(|| flow::content_hash(black_box(&parsed[0])));
        });
    }
}

fn journal(criterion: &mut Criterion) {
    let record = JournalRecord {
        at: NOW,
        kind: kind::STEP_SUCCEEDED.into(),
        actor: "worker:w1".into(),
        flow: Some(FlowId::new(NOW.as_millis(), HOME, 1)),
        step: 1,
        attempt: 1,
        node: "a".into(),
        version: 1,
        payload_hash: Some(Hash([7; 32])),
        ..JournalRecord::default()
    };
    let bytes = record.to_bytes();
    criterion.bench_function("journal/hash", |bench| {
        bench.iter(|| chain(black_box(Hash([1; 32])), black_box(&bytes)));
    });
    criterion.bench_function("journal/append", |bench| {
        let head = JournalHead {
            seq: 41,
            hash: Hash([1; 32]),
        };
        bench.iter(|| black_box(head).append(&black_box(&record).as_new(), NOW, HOME));
    });
}

fn schedule(criterion: &mut Criterion) {
    for (name, spec) in [
        ("every 3 minutes", r#"{"cron": "*/3 * * * *"}"#),
        (
            "weekdays in Berlin",
            r#"{"cron": "30 7 * * 1-5", "timezone": "Europe/Berlin"}"#,
        ),
        ("each 29th of February", r#"{"cron": "0 0 29 2 *"}"#),
        ("every 5m", r#"{"every": "5m"}"#),
    ] {
        let spec: ScheduleSpec = serde_json::from_str(spec).expect("a valid schedule");
        let schedule = Schedule::compile(&spec).expect("a valid schedule");
        let from = NOW.as_millis();
        criterion.bench_function(&format!("schedule/next, {name}"), |bench| {
            bench.iter(|| schedule.next_after(black_box(from)).expect("there is one"));
        });
    }
}

criterion_group!(benches, decide, compile, journal, schedule);
criterion_main!(benches);
