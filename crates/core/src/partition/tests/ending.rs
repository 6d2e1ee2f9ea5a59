//! The end of what is large: executions with very many live steps, and deleted flows.

use tidemill_rows::journal::kind;

use super::*;

const SLICE: usize = 10;

impl Bench {
    /// Ends and forgets few rows at a time.
    fn sliced(limit: u32) -> Self {
        let mut bench = Self::with_config(PartitionConfig {
            steps_ended_per_turn: SLICE,
            rows_forgotten_per_turn: SLICE,
            deleted_flow_kept_ms: 60_000,
            retention_ms: 1_000,
            ..PartitionConfig::default()
        });
        if limit > 0 {
            bench.worker(1, limit);
        }
        bench
    }

    /// An execution of which one step has given `count` messages to the next node.
    fn fanned_out(&mut self, flow: FlowId, count: usize) -> ExecutionId {
        let id = self.start(flow, json!(1));
        let first = self.take();
        let data: Vec<Value> = (0..count).map(|n| json!(n)).collect();
        self.succeed(first.task, &data);
        id
    }

    fn cancel(&mut self, id: ExecutionId, request_id: &str) -> bool {
        let command = CancelExecution {
            execution: id,
            reason: "enough".into(),
            request_id: request_id.into(),
        };
        match self.ask(PartitionCommand::Cancel(command)) {
            Ok(PartitionReply::Cancelled { changed }) => changed,
            other => panic!("{other:?}"),
        }
    }

    fn live(&self, id: ExecutionId) -> usize {
        let steps = self.steps(id);
        steps.values().filter(|step| step.state.is_live()).count()
    }

    fn forget(&mut self, flow: FlowId) -> bool {
        match self.ask(PartitionCommand::Forget { flow }) {
            Ok(PartitionReply::Done { changed }) => changed,
            other => panic!("{other:?}"),
        }
    }

    fn disarm_newest(&mut self, flow: FlowId) {
        let activation = self.activation;
        self.tell(PartitionCommand::Disarm(DisarmFlow {
            flow,
            activation,
            cancel_running: false,
        }));
    }

    fn journal_kinds(&self, wanted: &str) -> usize {
        self.journal().iter().filter(|r| r.kind == wanted).count()
    }
}

#[test]
fn very_many_steps_end_in_slices_and_nothing_begins_meanwhile() {
    let mut bench = Bench::sliced(4);
    let flow = bench.arm(&chain(2));
    let id = bench.fanned_out(flow, 35);
    let held: Vec<TaskId> = bench.grants.drain(..).map(|grant| grant.task).collect();
    assert_eq!(held.len(), 4);
    assert!(bench.cancel(id, "r"));
    assert_eq!(
        (bench.live(id), bench.state(id)),
        (25, ExecutionState::Running)
    );
    assert!(bench.cancel(id, "r"), "the same request");
    assert!(
        !bench.cancel(id, "another"),
        "it is being cancelled already"
    );
    // A worker that completes now has lost its lease, and its free place gets nothing of this.
    for task in held {
        let outcome = Outcome::Success {
            messages: vec![output(json!("late"))],
            node_state: None,
        };
        assert_eq!(bench.complete(task, outcome), CompletionStatus::LeaseLost);
    }
    bench.worker(2, 100);
    assert!(bench.grants.is_empty(), "nothing begins");
    bench.advance(5);
    assert_eq!(bench.live(id), 15);
    // Its slices go on with the next leader, whose queues have its steps again.
    bench.fail_over();
    bench.worker(1, 100);
    assert!(bench.grants.is_empty(), "nothing begins there either");
    bench.advance(5);
    bench.advance(5);
    assert_eq!(
        (bench.live(id), bench.state(id)),
        (0, ExecutionState::Cancelled)
    );
    for table in [Table::Queue, Table::Lease] {
        assert_eq!(bench.count(table), 0, "{table:?}");
    }
    assert_eq!(bench.journal_kinds(kind::EXECUTION_ENDING), 1);
    assert_eq!(bench.journal_kinds(kind::STEP_CANCELLED), 35);
    assert_eq!(bench.journal_kinds(kind::EXECUTION_CANCELLED), 1);
    // Others are served as before.
    bench.start(flow, json!(2));
    let other = bench.take();
    bench.succeed(other.task, &[]);
}

#[test]
fn few_steps_end_at_once() {
    let mut bench = Bench::sliced(4);
    let flow = bench.arm(&chain(2));
    let id = bench.fanned_out(flow, SLICE);
    assert!(bench.cancel(id, "r"));
    assert_eq!(bench.state(id), ExecutionState::Cancelled);
    assert_eq!(bench.journal_kinds(kind::EXECUTION_ENDING), 0);
}

#[test]
fn leases_that_run_out_while_an_execution_is_ended_do_not_come_back() {
    let mut bench = Bench::sliced(40);
    let flow = bench.arm(&chain(2));
    let id = bench.fanned_out(flow, 35);
    bench.grants.clear();
    assert!(bench.cancel(id, "r"));
    // All at once: the next slice is due, and so is every lease.
    bench.advance(30_000);
    for _ in 0..4 {
        bench.advance(5);
    }
    assert_eq!(bench.state(id), ExecutionState::Cancelled);
    assert!(bench.grants.is_empty());
    assert_eq!(bench.count(Table::Lease) + bench.count(Table::Queue), 0);
}

#[test]
fn arrivals_at_a_join_are_slices_too() {
    let mut bench = Bench::sliced(2);
    let flow = bench.arm(
        "name: j\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f}, {id: c, componentId: w, function: f, join: all}]\n  edges: [{source: a, target: b}, {source: a, target: c}, {source: b, target: c}]\n",
    );
    let id = bench.fanned_out(flow, 25);
    assert_eq!(bench.count(Table::Join), 25);
    assert!(bench.cancel(id, "r"));
    assert_eq!(bench.count(Table::Join), 15);
    assert_eq!(bench.live(id), 25);
    bench.fail_over();
    for _ in 0..4 {
        bench.advance(5);
    }
    assert_eq!(bench.state(id), ExecutionState::Cancelled);
    assert_eq!(bench.count(Table::Join), 0);
}

#[test]
fn a_deleted_flow_leaves_nothing_once_its_executions_are_gone() {
    let mut bench = Bench::sliced(1);
    let flow = bench.arm(&chain(1));
    let other = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    let task = bench.take().task;
    let with_state = |state: &'static str| Outcome::Success {
        messages: Vec::new(),
        node_state: Some(Bytes::from_static(state.as_bytes())),
    };
    bench.disarm_newest(flow);
    assert!(bench.forget(flow));
    assert!(!bench.forget(flow), "repeated");
    bench.advance(500);
    // What runs goes on, with its plan.
    assert_eq!(
        bench.complete(task, with_state("1")),
        CompletionStatus::Accepted
    );
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    bench.fail_over();
    assert_eq!(bench.count(Table::PlanVersion), 2);
    bench.advance(2_000);
    bench.advance(5);
    assert_eq!(bench.count(Table::Execution), 0, "it has retired");
    assert_eq!(bench.count(Table::NodeState), 0);
    assert_eq!(bench.count(Table::PlanVersion), 1, "the other flow's");
    // A late arm is refused as long as it can come.
    let document = Bytes::from_static(b"{}");
    let late = ArmFlow {
        flow,
        name: "test".into(),
        version: 1,
        document,
        content_hash: Hash([1; 32]),
        activation: 1_000,
        without_workers: true,
    };
    assert!(matches!(
        bench.ask(PartitionCommand::Arm(late)),
        Err(Rejection::StaleActivation { .. })
    ));
    bench.fail_over();
    bench.advance(60_000);
    assert_eq!(bench.count(Table::ArmedFlow), 1, "the other flow's");
    assert_eq!(bench.journal_kinds(kind::FLOW_FORGOTTEN), 1);
    bench.worker(1, 1);
    bench.start(other, json!(1));
    let task = bench.take().task;
    bench.succeed(task, &[]);
}

#[test]
fn the_ledger_of_a_deleted_flow_goes_too() {
    let mut bench = Bench::sliced(0);
    let flow = bench.arm(&super::scheduling::every_second(", overlap: skip"));
    for _ in 0..7 {
        bench.advance(1_000);
    }
    assert_eq!(bench.count(Table::Occurrence), 7);
    let ledger = bench.ledger_of(flow);
    let run = ledger[0].1.execution.expect("the first fired");
    bench.disarm_newest(flow);
    assert!(bench.cancel(run, "stop"));
    bench.forget(flow);
    for _ in 0..100 {
        bench.advance(1_000);
    }
    for table in [Table::Occurrence, Table::ArmedFlow, Table::Execution] {
        assert_eq!(bench.count(table), 0, "{table:?}");
    }
}

#[test]
fn very_many_rows_of_a_deleted_flow_go_in_slices() {
    let mut bench = Bench::sliced(1);
    let nodes: Vec<String> = (0..25)
        .map(|n| format!("{{id: n{n}, componentId: w, function: f}}"))
        .collect();
    let edges: Vec<String> = (1..25)
        .map(|n| format!("{{source: n{}, target: n{n}}}", n - 1))
        .collect();
    let flow = bench.arm(&format!(
        "name: s\ngraph:\n  nodes: [{}]\n  edges: [{}]\n",
        nodes.join(", "),
        edges.join(", ")
    ));
    bench.start(flow, json!(1));
    for _ in 0..25 {
        let task = bench.take().task;
        let outcome = Outcome::Success {
            messages: vec![output(json!(1))],
            node_state: Some(Bytes::from_static(b"1")),
        };
        assert_eq!(bench.complete(task, outcome), CompletionStatus::Accepted);
    }
    assert_eq!(bench.count(Table::NodeState), 25);
    bench.disarm_newest(flow);
    bench.advance(2_000);
    assert!(bench.forget(flow));
    bench.advance(5);
    assert_eq!(bench.count(Table::NodeState), 15);
    bench.fail_over();
    bench.advance(5);
    bench.advance(5);
    bench.advance(5);
    assert_eq!(bench.count(Table::NodeState), 0);
    assert_eq!(bench.count(Table::PlanVersion), 0);
}

#[test]
fn nearly_a_hundred_thousand_live_steps_end_in_bounded_batches() {
    // With the steps before them as many as an execution may have.
    const FIRST: usize = 10;
    const SECOND: usize = 9_998;
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(3));
    let id = bench.fanned_out(flow, FIRST);
    let data = vec![json!(1); SECOND];
    for _ in 0..FIRST {
        let task = bench.take().task;
        bench.succeed(task, &data);
    }
    assert_eq!(bench.live(id), FIRST * SECOND);
    bench.batch_rows_max = 0;
    assert!(bench.cancel(id, "r"));
    while bench.state(id) == ExecutionState::Running {
        bench.advance(5);
    }
    assert_eq!(bench.state(id), ExecutionState::Cancelled);
    // For each step its row, its place and its record.
    let most = 3 * tidemill_types::limits::STEPS_ENDED_PER_TURN_MAX + 20;
    assert!(bench.batch_rows_max <= most, "{}", bench.batch_rows_max);
    assert_eq!(bench.count(Table::Queue) + bench.count(Table::Lease), 0);
}
