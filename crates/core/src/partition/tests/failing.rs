//! Retries, error edges, dead steps, redrive, time-outs.

use super::*;

#[test]
fn a_failed_attempt_is_retried_after_its_delay() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: r\ngraph:\n  nodes: [{id: a, componentId: w, function: f, retry: {maxAttempts: 2, initialDelay: 10s, jitter: 0}}]\n  edges: []\n",
    );
    let id = bench.start(flow, json!(1));
    let first = bench.take();
    bench.fail(first.task, false);
    assert_eq!(bench.step_states(id), [StepState::RetryWait]);
    let again = Outcome::Failure(ErrorRow::default());
    assert_eq!(bench.complete(first.task, again), CompletionStatus::Already);
    bench.advance(9_999);
    assert!(bench.grants.is_empty());
    bench.fail_over();
    bench.worker(1, 1);
    bench.advance(1);
    let second = bench.take();
    assert_eq!(
        (second.task.attempt, second.task.step),
        (2, first.task.step)
    );
    bench.fail(second.task, false);
    assert_eq!(bench.step_states(id), [StepState::Dead]);
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

#[test]
fn a_fatal_error_is_not_retried_and_follows_the_error_edge() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: e\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: ok, componentId: w, function: f}, {id: bad, componentId: w, function: f}]\n  edges: [{source: a, target: ok}, {source: a, target: bad, on: error}]\n",
    );
    let id = bench.start(flow, json!(1));
    let a = bench.take();
    bench.fail(a.task, true);
    assert_eq!(bench.step_states(id)[0], StepState::Failed);
    let bad = bench.take();
    assert_eq!(&*bad.node, "bad");
    let data = value(&bad.inputs[0].0);
    assert_eq!(
        (&data["error"]["code"], &data["node"]),
        (&json!("BROKEN"), &json!("a"))
    );
    bench.succeed(bad.task, &[]);
    assert_eq!(
        bench.state(id),
        ExecutionState::Succeeded,
        "the error was handled"
    );
}

#[test]
fn redrive_takes_up_from_the_dead_step() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(3));
    let id = bench.start(flow, json!(1));
    let a = bench.take();
    bench.succeed(a.task, &[json!("from a")]);
    let b = bench.take();
    bench.fail(b.task, true);
    assert_eq!(bench.state(id), ExecutionState::Failed);
    let redrive = |steps: Vec<u32>, request_id: &str| {
        PartitionCommand::Redrive(RedriveExecution {
            execution: id,
            steps,
            request_id: request_id.into(),
        })
    };
    assert_eq!(
        bench.ask(redrive(vec![0], "r0")),
        Err(Rejection::StepNotDead {
            execution: id,
            step: 0
        })
    );
    assert_eq!(
        bench.ask(redrive(vec![], "r1")),
        Ok(PartitionReply::Redriven { steps: 1 })
    );
    assert_eq!(
        bench.ask(redrive(vec![], "r1")),
        Ok(PartitionReply::Redriven { steps: 1 })
    );
    assert_eq!(
        bench.ask(redrive(vec![], "r2")),
        Err(Rejection::NotRedrivable {
            execution: id,
            state: ExecutionState::Running
        })
    );
    let b = bench.take();
    assert_eq!(
        (b.task.attempt, value(&b.inputs[0].0)),
        (2, json!("from a"))
    );
    bench.succeed(b.task, &[json!("from b")]);
    bench.echo_all();
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.execution(id).dead, 0);
}

#[test]
fn an_attempt_runs_into_the_nodes_timeout_whatever_is_renewed() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: t\ngraph:\n  nodes: [{id: a, componentId: w, function: f, timeout: 45s, retry: {maxAttempts: 1}}]\n  edges: []\n",
    );
    let id = bench.start(flow, json!(1));
    let task = bench.take().task;
    bench.advance(20_000);
    let renew = RenewLease {
        task,
        progress: String::new(),
    };
    assert_eq!(
        bench.ask(PartitionCommand::Renew(renew)),
        Ok(PartitionReply::Renewed { held: true })
    );
    bench.advance(20_000);
    assert_eq!(bench.state(id), ExecutionState::Running);
    bench.advance(5_000);
    assert_eq!(
        bench.steps(id)[&0].error.as_ref().map(|e| e.code.as_str()),
        Some("TIMEOUT")
    );
    let late = Outcome::Success {
        messages: vec![],
        node_state: None,
    };
    assert_eq!(
        bench.complete(task, late),
        CompletionStatus::LeaseLost,
        "nobody's answer was taken for this attempt"
    );
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

#[test]
fn rebounds_end_at_their_limit() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    let id = bench.start(flow, json!(1));
    for rebound in 0..20 {
        let grant = bench.take();
        assert_eq!(grant.rebounds, rebound);
        bench.complete(grant.task, Outcome::Rebound { after_ms: 1_000 });
        assert_eq!(bench.step_states(id), [StepState::RetryWait]);
        bench.advance(1_000);
    }
    let grant = bench.take();
    bench.complete(grant.task, Outcome::Rebound { after_ms: 1_000 });
    assert_eq!(bench.state(id), ExecutionState::Failed);
    let error = bench.steps(id)[&0].error.clone().expect("an error");
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("REBOUND_LIMIT", "Rebound limit exceeded")
    );
}

#[test]
fn a_condition_that_gives_no_boolean_fails_the_step() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: c\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f}]\n  edges: [{source: a, target: b, config: {condition: 'n'}}]\n",
    );
    let id = bench.start(flow, json!(1));
    let a = bench.take();
    bench.succeed(a.task, &[json!({"n": 3})]);
    let error = bench.steps(id)[&0].error.clone().expect("an error");
    assert_eq!(error.code, "CONDITION_FAILED");
    assert_eq!(
        bench.count(Table::Message),
        1,
        "no output of a failed step is stored"
    );
}
