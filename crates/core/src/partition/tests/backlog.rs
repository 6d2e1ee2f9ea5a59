//! What waits to be run is bounded, and the backlog of one flow is not that of the others.

use tidemill_rows::table::{QueueRow, queue_key};
use tidemill_types::{
    StepId,
    limits::{
        BACKLOG_DEFAULT, BUILTIN_STEPS_PER_COMMAND_MAX, FLOW_BACKLOG_DEFAULT,
        MESSAGES_KEPT_BYTES_MAX,
    },
};

use super::*;

fn bench(flow_backlog_max: usize, backlog_max: usize) -> Bench {
    Bench::with_config(PartitionConfig {
        flow_backlog_max,
        backlog_max,
        ..PartitionConfig::default()
    })
}

/// Starts until one is refused; gives how many were taken, and the refusal.
fn fill(bench: &mut Bench, flow: FlowId) -> (usize, Rejection) {
    let mut taken = 0;
    loop {
        let request_id = format!("{flow}-{taken}-{}", bench.entropy);
        let command = bench.start_command(flow, json!(1), &request_id);
        match bench.ask(command) {
            Ok(_) => taken += 1,
            Err(rejection) => return (taken, rejection),
        }
    }
}

fn full(scope: &'static str, waiting: usize, limit: &'static str, most: usize) -> Rejection {
    Rejection::BacklogFull {
        scope,
        waiting: waiting as u64,
        limit,
        most: most as u64,
    }
}

/// A queue as a leader finds it, without the executions that it is of: enough to count.
fn queued(rows: &mut MemoryRows, flow: FlowId, count: usize) {
    let row = QueueRow {
        component: "w".into(),
        function: "f".into(),
        flow,
        ..QueueRow::default()
    };
    let value = row.to_bytes();
    let salt = u64::from(flow.0[15]);
    let puts: Vec<Mutation> = (0..count)
        .map(|number| Mutation::Put {
            key: queue_key(StepId {
                execution: ExecutionId::new(1, HOME, salt << 32 | number as u64),
                step: 0,
            }),
            value: value.clone(),
        })
        .collect();
    rows.apply(&puts);
}

#[test]
fn a_flow_is_not_started_beyond_its_backlog_and_others_are() {
    let mut bench = bench(3, 1_000);
    let (busy, quiet) = (bench.arm(&chain(1)), bench.arm(&chain(1)));
    let first = bench.start_command(busy, json!(1), "first");
    bench.ask(first).expect("the first is taken");
    let refusal = full("the flow", 3, "limits.flow_backlog", 3);
    assert_eq!(fill(&mut bench, busy), (2, refusal.clone()));
    assert_eq!(refusal.class(), tidemill_types::ErrorClass::Overloaded);
    let text = refusal.to_string();
    for word in ["limits.flow_backlog", "3", "workers"] {
        assert!(text.contains(word), "{text}");
    }
    let executions = bench.count(Table::Execution);
    bench.start(quiet, json!(1));
    assert_eq!(
        bench.count(Table::Execution),
        executions + 1,
        "what was refused left nothing"
    );

    // A repeat of what was taken is answered as before.
    let repeated = bench.start_command(busy, json!(1), "first");
    assert!(matches!(
        bench.ask(repeated),
        Ok(PartitionReply::Started { created: false, .. })
    ));
    // A new leader counts the same.
    bench.fail_over();
    assert_eq!(fill(&mut bench, busy), (0, refusal));

    // A step that is given out waits no more; one that is put back does.
    bench.worker(1, 1);
    assert_eq!(fill(&mut bench, busy).0, 1);
    bench.advance(30_000);
    assert_eq!(
        fill(&mut bench, busy).0,
        0,
        "the lease was lost, and given out again"
    );
    bench.take();
    bench.echo_all();
    assert_eq!(fill(&mut bench, busy).0, 4, "three wait and one runs");
}

#[test]
fn flows_share_what_is_left_of_the_partitions_backlog() {
    let mut bench = bench(1_000, 100);
    let flows: Vec<FlowId> = (0..5).map(|_| bench.arm(&chain(1))).collect();
    // Alone, a flow may have half of it.
    let half = full("the flow", 50, "limits.backlog", 50);
    assert_eq!(fill(&mut bench, flows[0]), (50, half));
    // The next ones as much as an equal share of that half: so each finds a place.
    assert_eq!(fill(&mut bench, flows[1]).0, 25);
    assert_eq!(fill(&mut bench, flows[2]).0, 16);
    let all = full("all flows of the partition", 100, "limits.backlog", 100);
    assert_eq!(fill(&mut bench, flows[3]), (9, all));
    assert_eq!(fill(&mut bench, flows[4]).0, 0, "the bound is one");
}

#[test]
fn the_default_bounds_are_reached() {
    let mut bench = Bench::new();
    let flows: Vec<FlowId> = (0..6).map(|_| bench.arm(&chain(1))).collect();
    queued(&mut bench.rows, flows[0], FLOW_BACKLOG_DEFAULT - 1);
    bench.fail_over();
    assert_eq!(fill(&mut bench, flows[0]).0, 1);
    let rest = BACKLOG_DEFAULT - FLOW_BACKLOG_DEFAULT - 1;
    for flow in &flows[1..4] {
        queued(&mut bench.rows, *flow, rest / 3);
    }
    let places = rest + 1 - rest / 3 * 3;
    bench.fail_over();
    assert_eq!(
        fill(&mut bench, flows[4]),
        (
            places,
            full(
                "all flows of the partition",
                BACKLOG_DEFAULT,
                "limits.backlog",
                BACKLOG_DEFAULT
            )
        )
    );
}

#[test]
fn what_is_cancelled_waits_no_more_wherever_it_was() {
    let mut bench = bench(1_000, 10_000);
    let gated = bench.arm(
        "name: c\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f, concurrency: 2}]\n  edges: [{source: a, target: b}]\n",
    );
    let plain = bench.arm(&chain(1));
    let split = bench.start(gated, json!(1));
    bench.worker(1, 1);
    let a = bench.take();
    bench.worker(1, 0);
    bench.succeed(a.task, &(0..10).map(|n| json!(n)).collect::<Vec<_>>());
    let ids: Vec<ExecutionId> = (0..3).map(|_| bench.start(plain, json!(1))).collect();
    let waiting = |bench: &Bench, flow| bench.partition.work.waiting(&flow);
    assert_eq!(waiting(&bench, gated), (10, 13), "held back at a gate, too");
    assert_eq!(waiting(&bench, plain), (3, 13));
    for (id, left) in [(ids[1], 12), (split, 2), (ids[0], 1), (ids[2], 0)] {
        bench.tell(PartitionCommand::Cancel(CancelExecution {
            execution: id,
            reason: String::new(),
            request_id: format!("c-{id}"),
        }));
        assert_eq!(waiting(&bench, plain).1, left);
    }
    assert_eq!(bench.partition.work.flows_waiting(), 0);
    assert_eq!(bench.count(Table::Queue), 0);
}

#[test]
fn a_redrive_meets_the_same_bound() {
    let mut bench = bench(2, 1_000);
    bench.worker(1, 1);
    let flow = bench.arm(&chain(1));
    let failed = bench.start(flow, json!(1));
    let task = bench.take().task;
    bench.fail(task, true);
    bench.worker(1, 0);
    fill(&mut bench, flow);
    let redrive = RedriveExecution {
        execution: failed,
        steps: vec![],
        request_id: "again".into(),
    };
    let refused = bench.ask(PartitionCommand::Redrive(redrive.clone()));
    assert_eq!(refused, Err(full("the flow", 2, "limits.flow_backlog", 2)));
    assert_eq!(bench.state(failed), ExecutionState::Failed);
    bench.worker(1, 1);
    assert_eq!(
        bench.ask(PartitionCommand::Redrive(redrive)),
        Ok(PartitionReply::Redriven { steps: 1 })
    );
}

#[test]
fn built_in_steps_of_flows_take_turns() {
    let mut bench = Bench::with_worker(1);
    let busy = bench.arm(
        "name: t\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: log, function: write}]\n  edges: [{source: a, target: b}]\n",
    );
    let quiet = bench.arm(
        "name: q\ngraph: {nodes: [{id: a, componentId: log, function: write}, {id: b, componentId: log, function: write}], edges: [{source: a, target: b}]}\n",
    );
    bench.start(busy, json!(1));
    let task = bench.take().task;
    let many: Vec<Value> = (0..3 * BUILTIN_STEPS_PER_COMMAND_MAX)
        .map(|n| json!(n))
        .collect();
    bench.succeed(task, &many);
    let left = bench.partition.builtins.len();
    assert_eq!(left, 2 * BUILTIN_STEPS_PER_COMMAND_MAX);
    let id = bench.start(quiet, json!(1));
    assert_eq!(
        bench.state(id),
        ExecutionState::Succeeded,
        "it does not wait for what another flow has left to do"
    );
    assert!(!bench.partition.builtins.is_empty());
}

#[test]
fn messages_without_room_are_read_from_their_rows() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(2));
    let large = "x".repeat(MESSAGES_KEPT_BYTES_MAX / 20);
    let count = 25;
    for number in 0..count {
        bench.start(flow, json!(format!("{number}{large}")));
    }
    let kept = bench.partition.messages_kept.bytes();
    assert!(kept <= MESSAGES_KEPT_BYTES_MAX, "{kept}");
    assert!(kept > MESSAGES_KEPT_BYTES_MAX / 2, "{kept}");
    bench.worker(1, count);
    let mut seen = Vec::new();
    while !bench.grants.is_empty() {
        let grant = bench.take();
        let data = value(&grant.inputs[0].0);
        let text = data.as_str().expect("a text");
        assert!(text.ends_with(&large));
        seen.push(text[..text.len() - large.len()].to_owned());
        bench.succeed(grant.task, &[data]);
    }
    assert_eq!(seen.len(), 2 * count as usize, "each at both nodes");
    assert_eq!(
        bench.partition.messages_kept.bytes(),
        0,
        "nothing is kept of what has ended"
    );
}
