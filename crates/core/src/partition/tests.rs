//! A partition is given commands; replies, steps and journal are looked at.

mod backlog;
mod controlling;
mod defaults;
mod ending;
mod failing;
mod flowing;
mod limits;
mod responding;
mod scheduling;
mod sessions;
mod starting;
mod telling;
mod working;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use tidemill_rows::{
    Batch, Epoch, Hash, Mutation, Stored,
    journal::{JournalEntry, JournalRecord},
    table::{
        ErrorRow, ExecutionRow, ExecutionState, MessageRow, StepRow, StepState, execution_key,
        message_key, step_of_key, steps_prefix,
    },
};
use tidemill_types::{ExecutionId, FlowId, PartitionId, TaskId, Timestamp};

use super::*;
use crate::{command::*, ledger::Rows, memory::MemoryRows};

const HOME: PartitionId = PartitionId(1);

/// A partition with its applied rows, a clock, and workers that serve everything.
struct Bench {
    config: PartitionConfig,
    partition: Partition,
    rows: MemoryRows,
    now: Timestamp,
    seq: u64,
    entropy: u64,
    activation: u64,
    grants: Vec<TaskGrant>,
    completed: Vec<(TaskId, CompletionStatus)>,
    superseded: Vec<SessionKey>,
    /// What was told of ends, and of which nothing is told.
    told: Vec<EndedExecution>,
    untold: Vec<ExecutionId>,
    batch_rows_max: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with_config(PartitionConfig::default())
    }

    fn with_config(config: PartitionConfig) -> Self {
        let rows = MemoryRows::default();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let partition = Partition::recover(config.clone(), HOME, now, &rows).expect("no damage");
        Self {
            config,
            partition,
            rows,
            now,
            seq: 0,
            entropy: 0,
            activation: 0,
            grants: Vec::new(),
            completed: Vec::new(),
            superseded: Vec::new(),
            told: Vec::new(),
            untold: Vec::new(),
            batch_rows_max: 0,
        }
    }

    /// One worker with `limit` places for the component `w`.
    fn with_worker(limit: u32) -> Self {
        let mut bench = Self::new();
        bench.worker(1, limit);
        bench
    }

    fn worker(&mut self, session: u64, limit: u32) {
        self.tell(PartitionCommand::Session(SessionUpdate {
            key: SessionKey {
                gateway: 1,
                session,
            },
            worker: format!("w{session}").into(),
            serves: vec![("w".into(), "".into())],
            lease_ms: 30_000,
            limit,
            gone: false,
            instance: 0,
            number: 0,
            holds: Vec::new(),
        }));
    }

    fn ask(&mut self, command: PartitionCommand) -> Result<PartitionReply, Rejection> {
        let reply = self
            .partition
            .handle(command, self.now, &self.rows)
            .expect("no damage");
        self.commit();
        reply
    }

    fn tell(&mut self, command: PartitionCommand) {
        self.ask(command).expect("not refused");
    }

    fn commit(&mut self) {
        if self.partition.has_batch() {
            self.seq += 1;
            let said = self.partition.batch_bytes();
            let taken = self.partition.take_batch(Epoch::default(), self.seq);
            let taken = taken.expect("no damage");
            let rows = taken.rows();
            let batch = Batch::decode(taken.into_bytes()).expect("a batch");
            let batch = batch.mutations;
            assert_eq!(batch.len(), rows);
            self.batch_rows_max = self.batch_rows_max.max(batch.len());
            let bytes: usize = batch
                .iter()
                .map(|mutation| match mutation {
                    Mutation::Put { key, value } => key.len() + value.len(),
                    Mutation::Delete { key } => key.len(),
                    Mutation::DeleteRange { from, to } => from.len() + to.len(),
                })
                .sum();
            assert!(
                said >= bytes / 2 && said <= bytes * 2 + 512,
                "the batch has {bytes} bytes, {said} were said"
            );
            assert!(
                batch.iter().all(|m| m.key()[..2] == [0, 1]),
                "another partition's key"
            );
            self.rows.apply(&batch);
            self.partition.applied(self.seq);
        }
        for effect in self.partition.take_effects() {
            match effect {
                PartitionEffect::Grant(grant) => self.grants.push(*grant),
                PartitionEffect::Completed { task, status, .. } => {
                    self.completed.push((task, status))
                }
                PartitionEffect::SessionSuperseded { session } => self.superseded.push(session),
                PartitionEffect::Ended(ended) => self.told.push(*ended),
                PartitionEffect::EndUntold { execution } => self.untold.push(execution),
                _ => {}
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
        self.partition
            .tick(self.now, &self.rows)
            .expect("no damage");
        self.commit();
    }

    /// What a new leader makes of the rows.
    fn fail_over(&mut self) {
        self.partition =
            Partition::recover(self.config.clone(), HOME, self.now, &self.rows).expect("no damage");
        self.seq = 0;
    }

    fn arm(&mut self, document: &str) -> FlowId {
        self.entropy += 1;
        let flow = FlowId::new(self.now.as_millis(), HOME, self.entropy);
        self.arm_again(flow, document);
        flow
    }

    fn arm_again(&mut self, flow: FlowId, document: &str) {
        let documents = crate::flow::parse(document).expect("a valid document");
        let document = Bytes::from(crate::flow::canonical_json(&documents[0]));
        self.activation += 1;
        let reply = self.ask(PartitionCommand::Arm(ArmFlow {
            flow,
            name: "test".into(),
            version: 1,
            document,
            content_hash: Hash([1; 32]),
            activation: self.activation,
            without_workers: true,
        }));
        assert_eq!(reply, Ok(PartitionReply::Done { changed: true }));
    }

    fn start_command(&mut self, flow: FlowId, data: Value, request_id: &str) -> PartitionCommand {
        self.entropy += 1;
        PartitionCommand::Start(StartExecution {
            flow,
            message: message(data),
            request_id: request_id.into(),
            traceparent: String::new(),
            tracestate: String::new(),
            entropy: self.entropy,
            request_id_only: false,
            by_hand: false,
            tell_end: TellEnd::No,
        })
    }

    fn start(&mut self, flow: FlowId, data: Value) -> ExecutionId {
        let request_id = format!("r{}", self.entropy);
        let command = self.start_command(flow, data, &request_id);
        match self.ask(command) {
            Ok(PartitionReply::Started {
                execution,
                created: true,
            }) => execution,
            other => panic!("not started: {other:?}"),
        }
    }

    /// The oldest task that was not taken yet.
    fn take(&mut self) -> TaskGrant {
        assert!(!self.grants.is_empty(), "no task was given out");
        self.grants.remove(0)
    }

    fn complete(&mut self, task: TaskId, outcome: Outcome) -> CompletionStatus {
        let session = SessionKey {
            gateway: 1,
            session: 1,
        };
        match self.ask(PartitionCommand::Complete(CompleteTask {
            task,
            outcome,
            session,
        })) {
            Ok(PartitionReply::Completed(status)) => status,
            other => panic!("no completion: {other:?}"),
        }
    }

    fn succeed(&mut self, task: TaskId, data: &[Value]) {
        let messages = data.iter().cloned().map(output).collect();
        let outcome = Outcome::Success {
            messages,
            node_state: None,
        };
        assert_eq!(self.complete(task, outcome), CompletionStatus::Accepted);
    }

    fn fail(&mut self, task: TaskId, fatal: bool) {
        let error = ErrorRow {
            code: "BROKEN".into(),
            message: "it broke".into(),
            fatal,
            ..Default::default()
        };
        assert_eq!(
            self.complete(task, Outcome::Failure(error)),
            CompletionStatus::Accepted
        );
    }

    /// A worker that gives back what it got, until nothing is left to do.
    fn echo_all(&mut self) {
        while !self.grants.is_empty() {
            let grant = self.take();
            let data: Vec<Value> = grant.inputs.iter().map(|(m, _)| value(m)).collect();
            self.succeed(grant.task, &data);
        }
    }

    fn execution(&self, id: ExecutionId) -> ExecutionRow {
        let row = self
            .rows
            .get(&execution_key(id))
            .expect("rows")
            .expect("an execution");
        ExecutionRow::from_bytes(row).expect("a row")
    }

    fn state(&self, id: ExecutionId) -> ExecutionState {
        self.execution(id).state
    }

    fn steps(&self, id: ExecutionId) -> BTreeMap<u32, StepRow> {
        let from = steps_prefix(id);
        let to = after_prefix(&from).expect("an end");
        let rows = self.rows.scan(&from, &to, usize::MAX, false).expect("rows");
        rows.into_iter()
            .map(|(k, v)| {
                (
                    step_of_key(&k).expect("a step").step,
                    StepRow::from_bytes(v).expect("a row"),
                )
            })
            .collect()
    }

    fn step_states(&self, id: ExecutionId) -> Vec<StepState> {
        self.steps(id).values().map(|step| step.state).collect()
    }

    /// The data of the messages that a step gave.
    fn outputs(&self, id: ExecutionId, step: u32) -> Vec<Value> {
        let step = &self.steps(id)[&step];
        (step.first_output..step.first_output + step.outputs)
            .map(|number| {
                let row = self
                    .rows
                    .get(&message_key(id, number))
                    .expect("rows")
                    .expect("a message");
                value(&MessageRow::from_bytes(row).expect("a row"))
            })
            .collect()
    }

    fn journal(&self) -> Vec<JournalRecord> {
        let prefix = key::prefix(HOME, Table::Journal);
        let to = after_prefix(&prefix).expect("an end");
        let rows = self
            .rows
            .scan(&prefix, &to, usize::MAX, false)
            .expect("rows");
        let read = |(_, value)| {
            let entry = JournalEntry::from_bytes(value).expect("an entry");
            JournalRecord::from_bytes(entry.record).expect("a record")
        };
        rows.into_iter().map(read).collect()
    }

    fn kinds_of(&self, id: ExecutionId) -> Vec<String> {
        self.journal()
            .into_iter()
            .filter(|r| r.execution == Some(id))
            .map(|r| r.kind)
            .collect()
    }

    /// Rows of a table, whatever they are of.
    fn count(&self, table: Table) -> usize {
        self.rows
            .iter()
            .filter(|(key, _)| key[2] == table as u8)
            .count()
    }
}

fn message(data: Value) -> MessageRow {
    MessageRow {
        data: data.to_string().into(),
        ..MessageRow::default()
    }
}

fn output(data: Value) -> OutputMessage {
    OutputMessage {
        message: message(data),
        targets: Targets::All,
    }
}

fn value(message: &MessageRow) -> Value {
    serde_json::from_slice(&message.data).expect("JSON")
}

/// A chain of nodes `a`, `b`, … of worker component `w`.
fn chain(length: u8) -> String {
    let node = |n: u8| char::from(b'a' + n);
    let nodes: Vec<String> = (0..length)
        .map(|n| format!("{{id: {}, componentId: w, function: f}}", node(n)))
        .collect();
    let edges: Vec<String> = (1..length)
        .map(|n| format!("{{source: {}, target: {}}}", node(n - 1), node(n)))
        .collect();
    format!(
        "name: chain\ngraph:\n  nodes: [{}]\n  edges: [{}]\n",
        nodes.join(", "),
        edges.join(", ")
    )
}
