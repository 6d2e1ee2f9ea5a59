//! Leases, fencing, fairness, concurrency, quarantine.

use super::*;

#[test]
fn a_lost_lease_gives_the_step_to_another_and_fences_the_first() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    let first = bench.take();
    bench.worker(2, 1);
    bench.advance(30_000);
    let second = bench.take();
    assert_eq!((second.task.attempt, second.session.session), (2, 2));
    let outcome = || Outcome::Success {
        messages: vec![output(json!("late"))],
        node_state: None,
    };
    assert_eq!(
        bench.complete(first.task, outcome()),
        CompletionStatus::LeaseLost
    );
    bench.succeed(second.task, &[json!("in time")]);
    assert_eq!(
        bench.complete(first.task, outcome()),
        CompletionStatus::LeaseLost
    );
    assert_eq!(
        bench.complete(second.task, outcome()),
        CompletionStatus::Already
    );
    assert_eq!(bench.outputs(id, 0), [json!("in time")]);
    let renew = RenewLease {
        task: first.task,
        progress: String::new(),
    };
    assert_eq!(
        bench.ask(PartitionCommand::Renew(renew)),
        Ok(PartitionReply::Renewed { held: false })
    );
}

#[test]
fn a_lease_survives_a_failover_for_its_whole_length() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    let task = bench.take().task;
    bench.advance(29_000);
    bench.fail_over();
    bench.worker(2, 1);
    bench.advance(29_000);
    assert!(bench.grants.is_empty(), "nobody else gets it");
    bench.succeed(task, &[]);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

#[test]
fn a_step_that_silences_its_workers_is_taken_for_poison() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    for attempt in 1..=tidemill_types::limits::LEASES_LOST_MAX {
        assert_eq!(bench.take().task.attempt, attempt);
        bench.advance(30_000);
    }
    assert!(bench.grants.is_empty());
    assert_eq!(
        bench.steps(id)[&0].error.as_ref().map(|e| e.code.as_str()),
        Some("LEASES_LOST")
    );
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

#[test]
fn a_worker_holds_no_more_than_it_said_and_flows_take_turns() {
    let mut bench = Bench::new();
    let (busy, quiet) = (bench.arm(&chain(1)), bench.arm(&chain(1)));
    for _ in 0..5 {
        bench.start(busy, json!("busy"));
    }
    bench.start(quiet, json!("quiet"));
    bench.worker(1, 2);
    assert_eq!(bench.grants.len(), 2);
    let flows: Vec<FlowId> = bench.grants.iter().map(|g| g.flow).collect();
    assert_eq!(
        flows,
        [busy, quiet],
        "the quiet flow does not wait for the busy one"
    );
    let first = bench.take();
    bench.succeed(first.task, &[]);
    assert_eq!(
        bench.grants.len(),
        2,
        "a completion frees its place at once"
    );
    assert_eq!(bench.count(Table::Queue), 3);
    assert_eq!(bench.count(Table::Lease), 2);
}

#[test]
fn a_session_that_goes_keeps_its_leases() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    let task = bench.take().task;
    bench.tell(PartitionCommand::GatewayGone { gateway: 1 });
    bench.succeed(task, &[]);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

#[test]
fn a_nodes_concurrency_holds_back_the_rest() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(
        "name: c\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f, concurrency: 2}]\n  edges: [{source: a, target: b}]\n",
    );
    let id = bench.start(flow, json!(1));
    let a = bench.take();
    bench.succeed(a.task, &[json!(1), json!(2), json!(3), json!(4), json!(5)]);
    assert_eq!(bench.grants.len(), 2);
    bench.fail_over();
    bench.worker(1, 10);
    assert_eq!(bench.grants.len(), 2, "a new leader counts what is running");
    let mut done = 0;
    while !bench.grants.is_empty() {
        let grant = bench.take();
        bench.succeed(grant.task, &[]);
        done += 1;
        assert!(bench.grants.len() <= 2);
    }
    assert_eq!((done, bench.state(id)), (5, ExecutionState::Succeeded));
}

#[test]
fn a_queue_is_found_again_by_a_new_leader() {
    let mut bench = Bench::new();
    let flow = bench.arm(&chain(2));
    let ids: Vec<ExecutionId> = (0..3).map(|n| bench.start(flow, json!(n))).collect();
    bench.fail_over();
    bench.worker(1, 10);
    bench.echo_all();
    assert!(
        ids.iter()
            .all(|id| bench.state(*id) == ExecutionState::Succeeded)
    );
}

#[test]
fn a_quarantined_command_is_remembered() {
    let mut bench = Bench::new();
    let digest = Hash([9; 32]);
    let restarted = |quarantine| {
        PartitionCommand::Restarted(Restarted {
            digest,
            command: "start".into(),
            reason: "index out of bounds".into(),
            quarantine,
        })
    };
    bench.tell(restarted(false));
    assert!(!bench.partition.is_quarantined(digest));
    bench.tell(restarted(true));
    bench.fail_over();
    assert!(bench.partition.is_quarantined(digest));
    let kinds: Vec<String> = bench.journal().into_iter().map(|r| r.kind).collect();
    assert_eq!(
        kinds,
        ["partition.restarted", "partition.command_quarantined"]
    );
}

#[test]
fn the_journal_is_gapless_and_chained() {
    let mut bench = Bench::with_worker(3);
    let flow = bench.arm(&chain(3));
    for n in 0..3 {
        bench.start(flow, json!(n));
    }
    bench.echo_all();
    let mut before = Hash::default();
    for (at, (_, value)) in bench
        .rows
        .iter()
        .filter(|(key, _)| key[2] == Table::Journal as u8)
        .enumerate()
    {
        let entry = JournalEntry::from_bytes(value.clone()).expect("an entry");
        assert_eq!(
            entry.hash,
            tidemill_rows::journal::chain(before, &entry.record)
        );
        let record = JournalRecord::from_bytes(entry.record).expect("a record");
        assert_eq!(record.seq, at as u64 + 1);
        before = entry.hash;
    }
}

#[test]
fn a_worker_cannot_complete_a_step_that_waits() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: wait\ngraph:\n  nodes: [{id: a, componentId: wait, function: delay, fields: {duration: 1h}}]\n  edges: []\n",
    );
    let id = bench.start(flow, json!(1));
    let task = TaskId {
        step: StepId {
            execution: id,
            step: 0,
        },
        attempt: 1,
    };
    let forged = Outcome::Success {
        messages: vec![],
        node_state: None,
    };
    assert_eq!(bench.complete(task, forged), CompletionStatus::LeaseLost);
    assert_eq!(bench.step_states(id), [StepState::Running]);
    bench.advance(60 * 60 * 1_000);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}
