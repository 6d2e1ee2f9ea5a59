//! The seeds that are bytes, made by the code whose readers are fuzzed.

use bytes::Bytes;
use prost::Message as _;
use tidemill_proto::{peer::v1 as peer, v1 as api};
use tidemill_rows::{
    Batch, Epoch, Fence, Hash, Key, Mutation, Stored,
    journal::{JournalEntry, JournalHead, JournalRecord},
    table::{
        ErrorRow, ExecutionRow, ExecutionState, InputRow, LeaseRow, MessageRow, QueueRow, StepRow,
        StepState, Timer, TimerKind, step_key, timer_key,
    },
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, StepId, TaskId, Timestamp};

use super::fuzz;

const AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOME: PartitionId = PartitionId(1);

type Seed = (&'static str, String, Vec<u8>);

/// Target, name of the file, bytes.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    requests(&mut seeds);
    peers(&mut seeds);
    rows(&mut seeds);
    seeds.push((
        "journal_file",
        "three-records".to_owned(),
        journal().into_bytes(),
    ));
    seeds
}

fn execution() -> ExecutionId {
    ExecutionId::new(AT.as_millis(), HOME, 7)
}

fn flow() -> FlowId {
    FlowId::new(AT.as_millis(), HOME, 8)
}

fn step() -> StepId {
    StepId {
        execution: execution(),
        step: 3,
    }
}

fn task() -> String {
    let (step, attempt) = (step(), 2);
    TaskId { step, attempt }.to_string()
}

/// A seed of the type at this place of a list: its number, then its bytes.
fn typed(target: &'static str, kind: u8, name: &str, bytes: &[u8]) -> Seed {
    let mut seed = vec![kind];
    seed.extend_from_slice(bytes);
    (target, format!("{kind:03}-{name}"), seed)
}

fn place(list: &[(&str, fuzz::Target)], name: &str) -> u8 {
    let at = list.iter().position(|(known, _)| *known == name);
    u8::try_from(at.expect("in the list")).expect("a short list")
}

fn message() -> api::Message {
    api::Message {
        data: Bytes::from_static(br#"{"order": 4711, "lines": [1.5, null, "x"]}"#),
        headers: [("content-type".to_owned(), "text/plain".to_owned())].into(),
        attachments: [("file".to_owned(), Bytes::from_static(b"\0\xff"))].into(),
        metadata: Bytes::from_static(br#"{"source": "test"}"#),
    }
}

fn completions() -> Vec<api::Completion> {
    use api::completion::Outcome;
    let outcomes = [
        Outcome::Success(api::Success {
            messages: vec![api::OutputMessage {
                message: Some(message()),
                targets: vec!["next".to_owned()],
                no_target: false,
            }],
            node_state: Some(Bytes::from_static(br#"{"page": 2}"#)),
        }),
        Outcome::Error(api::StepError {
            code: "BROKEN".to_owned(),
            message: "it broke".to_owned(),
            ..api::StepError::default()
        }),
        Outcome::Rebound(api::Rebound { after_ms: 500 }),
    ];
    let completion = |outcome| api::Completion {
        task_id: task(),
        outcome: Some(outcome),
    };
    outcomes.into_iter().map(completion).collect()
}

fn hello() -> api::Hello {
    api::Hello {
        worker: "w1".to_owned(),
        serves: vec![api::ComponentFunction {
            component: "shop".to_owned(),
            function: "getOrders".to_owned(),
        }],
        lease_ms: 30_000,
        instance: "i1".to_owned(),
        session: 2,
        holds: vec![task()],
    }
}

fn requests(seeds: &mut Vec<Seed>) {
    // Of most an empty one is a start: a fuzzer finds numbered fields by itself.
    for (name, read) in fuzz::REQUESTS {
        if read(&[]) {
            seeds.push(typed("grpc", place(fuzz::REQUESTS, name), name, &[]));
        }
    }
    let mut add = |name: &str, bytes: Vec<u8>| {
        seeds.push(typed(
            "grpc",
            place(fuzz::REQUESTS, name),
            &format!("{name}-full"),
            &bytes,
        ));
    };
    let trace = api::TraceContext {
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        tracestate: "a=b".to_owned(),
    };
    let start = api::StartExecutionRequest {
        flow: "orders".to_owned(),
        message: Some(message()),
        request_id: "r-1".to_owned(),
        trace: Some(trace),
        wait_ms: 1_000,
        with_output: true,
        ..api::StartExecutionRequest::default()
    };
    add("StartExecutionRequest", start.encode_to_vec());
    let starts = api::StartExecutionsRequest {
        starts: vec![api::NumberedStart {
            number: 1,
            request: Some(start),
        }],
    };
    add("StartExecutionsRequest", starts.encode_to_vec());
    let cancel = api::CancelExecutionRequest {
        execution_id: execution().to_string(),
        reason: "no longer needed".to_owned(),
        ..api::CancelExecutionRequest::default()
    };
    add("CancelExecutionRequest", cancel.encode_to_vec());
    let renewals = vec![api::Renewal {
        task_id: task(),
        progress: "half".to_owned(),
    }];
    let work = api::WorkRequest {
        hello: Some(hello()),
        credits: Some(16),
        completions: completions(),
        renewals: renewals.clone(),
    };
    add("WorkRequest", work.encode_to_vec());
    let poll = api::PollTasksRequest {
        hello: Some(hello()),
        max_tasks: 10,
        wait_ms: 1_000,
        completions: completions(),
        renewals,
    };
    add("PollTasksRequest", poll.encode_to_vec());
    for id in [execution().to_string(), flow().to_string(), task()] {
        // Not a message: the target reads ids, too.
        let name = format!("bad-id-{}", &id[..3]);
        let mut bytes = vec![u8::MAX];
        bytes.extend(id.into_bytes());
        seeds.push(("grpc", name, bytes));
    }
}

fn members() -> peer::Membership {
    let node = |id: u64| peer::Node {
        id,
        peer: format!("127.0.0.1:{id}"),
        grpc: format!("127.0.0.1:1{id}"),
        http: String::new(),
        partitions: 3,
    };
    peer::Membership {
        configs: vec![
            peer::Voters {
                nodes: vec![1, 2, 3],
            },
            peer::Voters {
                nodes: vec![2, 3, 4],
            },
        ],
        nodes: (1..=4).map(node).collect(),
    }
}

fn peers(seeds: &mut Vec<Seed>) {
    use peer::{append_response::Result as Appended, entry::Payload};
    let id = |term, index| Some(peer::LogId { term, index });
    let leads = peer::Vote {
        term: 3,
        node: 2,
        committed: true,
    };
    let vote = Some(leads);
    let payloads = [
        Payload::Blank(true),
        Payload::Membership(members()),
        Payload::EpochStart(true),
        Payload::Batch(batch().encode()),
    ];
    let entries = payloads
        .into_iter()
        .zip(9..)
        .map(|(payload, index)| peer::Entry {
            term: 3,
            index,
            payload: Some(payload),
        });
    let append = peer::AppendRequest {
        vote,
        prev: id(3, 8),
        entries: entries.collect(),
        commit: id(3, 7),
    };
    let appended = peer::AppendResponse {
        result: Some(Appended::Conflict(peer::LogId { term: 2, index: 5 })),
    };
    let asked = peer::VoteRequest {
        vote,
        last: id(2, 6),
        leadership_transfer: true,
        ..peer::VoteRequest::default()
    };
    let voted = peer::VoteResponse {
        vote,
        granted: true,
        last: id(2, 6),
    };
    let session = peer::Session {
        id: 4,
        worker: "w1".to_owned(),
        serves: hello().serves,
        lease_ms: 30_000,
        limit: 8,
        instance: 9,
        number: 1,
        holds: vec![task(), "nonsense".to_owned()],
        ..peer::Session::default()
    };
    let attach = peer::AttachRequest {
        partition: 1,
        sessions: vec![session.clone()],
        ..peer::AttachRequest::default()
    };
    let arm = peer::ArmRequest {
        flow_id: flow().to_string(),
        name: "orders".to_owned(),
        version: 2,
        document: Bytes::from_static(b"{}"),
        content_hash: Bytes::from(vec![1; 32]),
        activation: 5,
        without_workers: true,
    };
    for (kind, name, bytes) in [
        (0, "append", append.encode_to_vec()),
        (1, "appended", appended.encode_to_vec()),
        (2, "voted", voted.encode_to_vec()),
        (3, "vote", asked.encode_to_vec()),
        (4, "node", members().nodes[0].encode_to_vec()),
        (18, "arm", arm.encode_to_vec()),
        (21, "attach", attach.encode_to_vec()),
        (23, "session", session.encode_to_vec()),
    ] {
        seeds.push(typed("peer", kind, name, &bytes));
    }
    for kind in (10..=17).chain([19, 20, 22]) {
        seeds.push(typed("peer", kind, "empty", &[]));
    }
    let membership = peer::StoredMembership {
        log_id: id(3, 9),
        membership: Some(members()),
    };
    // A log entry is format 1, kind, term, index, body.
    let entry = |kind: u8, body: &[u8]| [&[1, kind, 3, 9], body].concat();
    for (kind, name, bytes) in [
        (100, "entry-blank", entry(0, &[])),
        (100, "entry-members", entry(1, &members().encode_to_vec())),
        (100, "entry-epoch", entry(2, &[])),
        (100, "entry-batch", entry(3, &batch().encode())),
        (
            101,
            "log-id",
            peer::LogId { term: 3, index: 9 }.encode_to_vec(),
        ),
        (102, "vote", leads.encode_to_vec()),
        (103, "membership", membership.encode_to_vec()),
    ] {
        seeds.push(typed("stored", kind, name, &bytes));
    }
}

fn batch() -> Batch {
    let key = step_key(step());
    Batch {
        epoch: Epoch { term: 3, index: 9 },
        seq: 4,
        time: AT,
        mutations: vec![
            Mutation::Put {
                key: key.clone(),
                value: step_row().to_bytes(),
            },
            Mutation::Delete { key: key.clone() },
            Mutation::DeleteRange {
                from: Key::from(b"\0\x01"),
                to: key,
            },
        ],
    }
}

fn step_row() -> StepRow {
    StepRow {
        node: 2,
        state: StepState::RetryWait,
        attempt: 3,
        worker: "w1".to_owned(),
        created_at: AT,
        started_at: Some(AT),
        error: Some(ErrorRow {
            code: "BROKEN".to_owned(),
            message: "it broke".to_owned(),
            details: Bytes::from_static(b"{}"),
            fatal: true,
        }),
        inputs: vec![InputRow {
            message: 1,
            from_step: 2,
            edge: 3,
        }],
        outputs: 2,
        ..StepRow::default()
    }
}

fn rows(seeds: &mut Vec<Seed>) {
    // An empty row is one with all defaults.
    for (name, _) in fuzz::ROWS {
        seeds.push(typed("stored", place(fuzz::ROWS, name), name, &[]));
    }
    let record = record();
    let queue = QueueRow {
        component: "shop".into(),
        function: "getOrders".into(),
        node: 3,
        ..QueueRow::default()
    };
    let fence = Fence {
        epoch: Epoch { term: 3, index: 9 },
        seq: 4,
        time: AT,
    };
    let timer = Timer {
        due: AT,
        step: step(),
        kind: TimerKind::Occurrence,
    };
    let execution = ExecutionRow {
        flow: flow(),
        state: ExecutionState::TimedOut,
        request_id: "r-1".to_owned(),
        deadline: Some(AT),
        ..ExecutionRow::default()
    };
    let lease = LeaseRow {
        queue: Some(queue),
        attempt: 2,
        lease_ms: 30_000,
        ..LeaseRow::default()
    };
    let message = MessageRow {
        data: Bytes::from_static(b"[1]"),
        headers: [("a".to_owned(), "b".to_owned())].into(),
        attachments: [("c".to_owned(), Bytes::from_static(b"d"))].into(),
        metadata: Bytes::from_static(b"{}"),
    };
    let (_, entry, _) = JournalHead::default().append(&record.as_new(), AT, HOME);
    for (name, bytes) in [
        ("StepRow", step_row().to_bytes()),
        ("ExecutionRow", execution.to_bytes()),
        ("LeaseRow", lease.to_bytes()),
        ("MessageRow", message.to_bytes()),
        ("JournalRecord", record.to_bytes()),
        ("JournalEntry", entry),
    ] {
        let kind = place(fuzz::ROWS, name);
        seeds.push(typed("stored", kind, &format!("{name}-full"), &bytes));
    }
    let batch = batch().encode();
    // The target puts the checksum behind it.
    seeds.push(typed("stored", 110, "batch", &batch[..batch.len() - 4]));
    seeds.push(typed("stored", 111, "fence", &fence.encode()));
    seeds.push(typed("stored", 112, "key-step", &step_key(step())));
    seeds.push(typed("stored", 112, "key-timer", &timer_key(&timer)));
}

fn record() -> JournalRecord {
    JournalRecord {
        at: AT,
        kind: "step.succeeded".to_owned(),
        actor: "worker:w1".to_owned(),
        flow: Some(flow()),
        execution: Some(execution()),
        step: 1,
        attempt: 1,
        node: "a".to_owned(),
        payload_hash: Some(Hash([7; 32])),
        ..JournalRecord::default()
    }
}

/// An export of three records, as `tidemill journal export` writes it.
fn journal() -> String {
    use tidemill::journal::file;
    let mut head = JournalHead::default();
    let mut lines = Vec::new();
    for _ in 0..3 {
        let (_, row, next) = head.append(&record().as_new(), AT, HOME);
        head = next;
        let row = JournalEntry::from_bytes(row).expect("we wrote it");
        let record = api::JournalRecord::decode(row.record.clone()).expect("the same fields");
        let entry = api::JournalEntry {
            record: row.record,
            hash: Bytes::copy_from_slice(&row.hash.0),
        };
        lines.push(file::line(&record, &entry).to_string());
    }
    let heads = [api::Head {
        partition: u32::from(HOME.0),
        seq: head.seq,
        hash: Bytes::copy_from_slice(&head.hash.0),
    }];
    let header = file::header("seeds", 1, "2027-01-15T08:00:00Z", &heads);
    format!("{header}\n{}\n", lines.join("\n"))
}
