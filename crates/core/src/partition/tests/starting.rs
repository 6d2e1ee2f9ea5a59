//! Start, request ids, arm and disarm, cancel, retention.

use super::*;

#[test]
fn one_step_leaves_five_records_and_no_work() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!({"n": 1}));
    assert_eq!(bench.state(id), ExecutionState::Running);
    let grant = bench.take();
    assert_eq!(
        (grant.task.attempt, value(&grant.inputs[0].0)),
        (1, json!({"n": 1}))
    );
    bench.succeed(grant.task, &[json!({"n": 2})]);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.outputs(id, 0), [json!({"n": 2})]);
    assert_eq!(
        bench.kinds_of(id),
        [
            "execution.started",
            "step.scheduled",
            "step.started",
            "step.succeeded",
            "execution.succeeded"
        ]
    );
    for table in [Table::Queue, Table::Lease, Table::Join] {
        assert_eq!(bench.count(table), 0, "{table:?}");
    }
}

#[test]
fn three_worker_steps_take_four_batches() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(3));
    let before = bench.seq;
    let id = bench.start(flow, json!(1));
    bench.echo_all();
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.seq - before, 4);
}

#[test]
fn a_request_id_may_stand_for_the_request_whatever_its_message() {
    let mut bench = Bench::new();
    let (flow, other) = (bench.arm(&chain(1)), bench.arm(&chain(1)));
    let command = |bench: &mut Bench, flow, data| {
        let PartitionCommand::Start(command) = bench.start_command(flow, data, "same") else {
            panic!("no start")
        };
        PartitionCommand::Start(StartExecution {
            request_id_only: true,
            ..command
        })
    };
    let first = command(&mut bench, flow, json!(1));
    let Ok(PartitionReply::Started {
        execution,
        created: true,
    }) = bench.ask(first)
    else {
        panic!("not started")
    };
    let again = command(&mut bench, flow, json!(2));
    let reply = bench.ask(again);
    assert_eq!(
        reply,
        Ok(PartitionReply::Started {
            execution,
            created: false
        })
    );
    // Of another flow it is another request, and so it is when the message counts.
    let refused = Err(Rejection::RequestIdReused("same".into()));
    let elsewhere = command(&mut bench, other, json!(1));
    assert_eq!(bench.ask(elsewhere), refused);
    let counted = bench.start_command(flow, json!(1), "same");
    assert_eq!(bench.ask(counted), refused);
}

#[test]
fn a_request_id_starts_one_execution() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(1));
    let first = bench.start_command(flow, json!(1), "same");
    let again = bench.start_command(flow, json!(1), "same");
    let other = bench.start_command(flow, json!(2), "same");
    let Ok(PartitionReply::Started {
        execution,
        created: true,
    }) = bench.ask(first)
    else {
        panic!("not started")
    };
    assert_eq!(
        bench.ask(again.clone()),
        Ok(PartitionReply::Started {
            execution,
            created: false
        })
    );
    bench.fail_over();
    assert_eq!(
        bench.ask(again),
        Ok(PartitionReply::Started {
            execution,
            created: false
        })
    );
    assert_eq!(
        bench.ask(other),
        Err(Rejection::RequestIdReused("same".into()))
    );
    assert_eq!(bench.count(Table::Execution), 1);
}

#[test]
fn only_an_armed_flow_starts() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(1));
    let running = bench.start(flow, json!(1));
    let stop = DisarmFlow {
        flow,
        activation: 1,
        cancel_running: false,
    };
    assert_eq!(
        bench.ask(PartitionCommand::Disarm(stop.clone())),
        Ok(PartitionReply::Done { changed: true })
    );
    assert_eq!(
        bench.ask(PartitionCommand::Disarm(stop)),
        Ok(PartitionReply::Done { changed: false })
    );
    let command = bench.start_command(flow, json!(1), "late");
    assert_eq!(bench.ask(command), Err(Rejection::FlowNotActive(flow)));
    assert_eq!(
        bench.state(running),
        ExecutionState::Running,
        "what runs goes on"
    );
    let stop = DisarmFlow {
        flow,
        activation: 1,
        cancel_running: true,
    };
    bench.tell(PartitionCommand::Disarm(stop));
    assert_eq!(bench.state(running), ExecutionState::Cancelled);
}

#[test]
fn a_late_arm_of_a_stopped_start_is_stale() {
    let mut bench = Bench::new();
    let flow = FlowId::new(1, HOME, 99);
    bench.tell(PartitionCommand::Disarm(DisarmFlow {
        flow,
        activation: 3,
        cancel_running: false,
    }));
    let document = crate::flow::canonical_json(&crate::flow::parse(&chain(1)).expect("valid")[0]);
    let arm = ArmFlow {
        flow,
        name: "late".into(),
        version: 1,
        document: document.into(),
        content_hash: Hash::default(),
        activation: 3,
        without_workers: true,
    };
    assert_eq!(
        bench.ask(PartitionCommand::Arm(arm)),
        Err(Rejection::StaleActivation {
            flow,
            got: 3,
            current: 3
        })
    );
}

#[test]
fn a_start_asks_for_workers_unless_told_not_to() {
    let mut bench = Bench::new();
    let flow = FlowId::new(1, HOME, 99);
    let document = crate::flow::canonical_json(&crate::flow::parse(&chain(2)).expect("valid")[0]);
    let arm = |without_workers| {
        PartitionCommand::Arm(ArmFlow {
            flow,
            name: "f".into(),
            version: 1,
            document: document.clone().into(),
            content_hash: Hash::default(),
            activation: 1,
            without_workers,
        })
    };
    assert_eq!(
        bench.ask(arm(false)),
        Err(Rejection::NotServed(vec!["w/f".into()]))
    );
    bench.worker(1, 1);
    assert_eq!(
        bench.ask(arm(false)),
        Ok(PartitionReply::Done { changed: true })
    );
}

#[test]
fn an_oversized_message_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(1));
    let records = bench.journal().len();
    let big = "x".repeat(tidemill_types::limits::MESSAGE_BYTES_DEFAULT);
    let command = bench.start_command(flow, json!(big), "big");
    let Err(Rejection::Invalid { field, reason }) = bench.ask(command) else {
        panic!("accepted")
    };
    assert_eq!(field, "message");
    assert!(reason.contains("4194304"), "{reason}");
    assert_eq!(
        (bench.journal().len(), bench.count(Table::Request)),
        (records, 0)
    );
}

#[test]
fn cancel_ends_everything_live_once() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(2));
    let id = bench.start(flow, json!(1));
    let held = bench.take();
    let cancel = CancelExecution {
        execution: id,
        reason: "enough".into(),
        request_id: "c".into(),
    };
    let cancel = PartitionCommand::Cancel(cancel);
    assert_eq!(
        bench.ask(cancel.clone()),
        Ok(PartitionReply::Cancelled { changed: true })
    );
    assert_eq!(
        bench.ask(cancel),
        Ok(PartitionReply::Cancelled { changed: true }),
        "the first answer again"
    );
    assert_eq!(bench.state(id), ExecutionState::Cancelled);
    assert_eq!(bench.step_states(id), [StepState::Cancelled]);
    assert_eq!(bench.count(Table::Lease), 0);
    let late = Outcome::Success {
        messages: vec![],
        node_state: None,
    };
    assert_eq!(bench.complete(held.task, late), CompletionStatus::LeaseLost);
    let later = CancelExecution {
        execution: id,
        reason: String::new(),
        request_id: "d".into(),
    };
    assert_eq!(
        bench.ask(PartitionCommand::Cancel(later)),
        Ok(PartitionReply::Cancelled { changed: false })
    );
    let unknown = ExecutionId::new(1, HOME, 12345);
    let cancel = CancelExecution {
        execution: unknown,
        reason: String::new(),
        request_id: "e".into(),
    };
    assert_eq!(
        bench.ask(PartitionCommand::Cancel(cancel)),
        Err(Rejection::ExecutionNotFound(unknown))
    );
}

#[test]
fn retention_removes_every_row_but_the_journal() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&format!("{}retention: 1h\n", chain(2)));
    let id = bench.start(flow, json!(1));
    bench.echo_all();
    let cancel = CancelExecution {
        execution: id,
        reason: String::new(),
        request_id: "c".into(),
    };
    bench.tell(PartitionCommand::Cancel(cancel));
    bench.advance(59 * 60 * 1_000);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    bench.fail_over();
    bench.advance(2 * 60 * 1_000);
    for table in [
        Table::Execution,
        Table::Step,
        Table::Message,
        Table::Request,
        Table::Timer,
        Table::ExecutionByFlow,
    ] {
        assert_eq!(bench.count(table), 0, "{table:?}");
    }
    assert_eq!(
        bench.kinds_of(id).last().map(String::as_str),
        Some("execution.retired")
    );
}

#[test]
fn an_execution_times_out() {
    let mut bench = Bench::new();
    let flow = bench.arm(&format!("{}timeout: 10s\n", chain(1)));
    let id = bench.start(flow, json!(1));
    bench.advance(9_000);
    assert_eq!(bench.state(id), ExecutionState::Running);
    bench.fail_over();
    bench.advance(1_000);
    assert_eq!(bench.state(id), ExecutionState::TimedOut);
    assert_eq!(bench.step_states(id), [StepState::Cancelled]);
}
