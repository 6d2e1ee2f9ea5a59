//! Fan-out, conditions, targets, joins, loops, built-ins, step state.

use super::*;

#[test]
fn every_message_goes_along_every_matching_edge() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(
        "name: fan\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f}, {id: c, componentId: w, function: f}]\n  edges: [{source: a, target: b}, {source: a, target: c, config: {condition: 'n > 1'}}]\n",
    );
    let id = bench.start(flow, json!(0));
    let a = bench.take();
    bench.succeed(a.task, &[json!({"n": 1}), json!({"n": 2})]);
    let mut given: Vec<(String, Value)> = bench
        .grants
        .iter()
        .map(|g| (g.node.to_string(), value(&g.inputs[0].0)))
        .collect();
    given.sort_by_key(|(node, data)| (node.clone(), data.to_string()));
    assert_eq!(
        given,
        [
            ("b".into(), json!({"n": 1})),
            ("b".into(), json!({"n": 2})),
            ("c".into(), json!({"n": 2}))
        ]
    );
    bench.echo_all();
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

#[test]
fn a_worker_names_the_targets_of_a_message() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(
        "name: route\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f}, {id: c, componentId: w, function: f}]\n  edges: [{source: a, target: b}, {source: a, target: c}]\n",
    );
    let id = bench.start(flow, json!(0));
    let a = bench.take();
    assert_eq!(
        a.targets.iter().map(|t| &**t).collect::<Vec<_>>(),
        ["b", "c"]
    );
    let messages = vec![
        OutputMessage {
            message: message(json!(1)),
            targets: Targets::Named(vec!["c".into()]),
        },
        OutputMessage {
            message: message(json!(2)),
            targets: Targets::None,
        },
    ];
    bench.complete(
        a.task,
        Outcome::Success {
            messages,
            node_state: None,
        },
    );
    assert_eq!(
        bench.grants.iter().map(|g| &*g.node).collect::<Vec<_>>(),
        ["c"]
    );
    bench.echo_all();
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

#[test]
fn an_unknown_target_fails_the_step_with_a_reason() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(2));
    let id = bench.start(flow, json!(0));
    let a = bench.take();
    let messages = vec![OutputMessage {
        message: message(json!(1)),
        targets: Targets::Named(vec!["nowhere".into()]),
    }];
    let CompletionStatus::Invalid(reason) = bench.complete(
        a.task,
        Outcome::Success {
            messages,
            node_state: None,
        },
    ) else {
        panic!("accepted")
    };
    assert!(
        reason.contains("messages[0].targets") && reason.contains("nowhere"),
        "{reason}"
    );
    assert_eq!(bench.step_states(id), [StepState::Dead]);
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

const JOIN: &str = "name: join\ngraph:\n  nodes: [{id: a, componentId: w, function: f}, {id: b, componentId: w, function: f}, {id: c, componentId: w, function: f}, {id: j, componentId: w, function: f, join: all}]\n  edges: [{source: a, target: b}, {source: a, target: c}, {source: b, target: j}, {source: c, target: j}]\n";

#[test]
fn a_join_runs_once_on_all_that_arrived_grouped_by_edge() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(JOIN);
    let id = bench.start(flow, json!(0));
    let a = bench.take();
    bench.succeed(a.task, &[json!(1), json!(2)]);
    // Complete in an order that is not the edges'.
    let mut grants: Vec<TaskGrant> = std::mem::take(&mut bench.grants);
    grants.sort_by_key(|g| std::cmp::Reverse(g.node.clone()));
    for grant in grants {
        assert!(bench.grants.is_empty(), "the join must wait");
        let data = json!(format!("{}{}", grant.node, value(&grant.inputs[0].0)));
        bench.succeed(grant.task, &[data]);
        bench.fail_over();
        bench.worker(1, 10);
    }
    let join = bench.take();
    assert_eq!(&*join.node, "j");
    let inputs: Vec<(Value, &str)> = join
        .inputs
        .iter()
        .map(|(m, from)| (value(m), &**from))
        .collect();
    let froms: Vec<&str> = inputs.iter().map(|(_, from)| *from).collect();
    assert_eq!(froms, ["b", "b", "c", "c"]);
    bench.succeed(join.task, &[json!("done")]);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.count(Table::Join), 0);
}

#[test]
fn a_dead_branch_does_not_hold_up_a_join() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(JOIN);
    let id = bench.start(flow, json!(0));
    let a = bench.take();
    bench.succeed(a.task, &[json!(1)]);
    let (b, c) = (bench.take(), bench.take());
    bench.succeed(b.task, &[json!("b")]);
    bench.fail(c.task, true);
    let join = bench.take();
    assert_eq!(join.inputs.len(), 1);
    bench.succeed(join.task, &[]);
    assert_eq!(bench.state(id), ExecutionState::Failed);
}

#[test]
fn a_loop_runs_as_often_as_it_may() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(
        "name: loop\ngraph:\n  nodes: [{id: s, componentId: w, function: f}, {id: a, componentId: w, function: f, loop: {maxIterations: 3}}]\n  edges: [{source: s, target: a}, {source: a, target: a, config: {condition: 'again'}}]\n",
    );
    let id = bench.start(flow, json!({"again": true}));
    for _ in 0..2 {
        let grant = bench.take();
        bench.succeed(grant.task, &[json!({"again": true})]);
    }
    let grant = bench.take();
    bench.succeed(grant.task, &[json!({"again": false})]);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    let id = bench.start(flow, json!({"again": true}));
    bench.echo_all();
    assert_eq!(bench.state(id), ExecutionState::Failed);
    let dead = bench
        .steps(id)
        .into_values()
        .find(|s| s.state == StepState::Dead)
        .expect("a dead step");
    assert_eq!(dead.error.expect("an error").code, "LOOP_LIMIT");
    assert_eq!(bench.count(Table::Queue), 0);
}

#[test]
fn transforms_run_at_once_in_the_same_batch() {
    let mut bench = Bench::new();
    let flow = bench.arm(
        "name: t\ngraph:\n  nodes: [{id: a, componentId: transform, function: jsonata, fields: {expression: '{\"mail\": email}'}}, {id: b, componentId: transform, function: jsonata, fields: {expression: '$uppercase(mail)'}}, {id: c, componentId: log, function: write, fields: {message: hello}}]\n  edges: [{source: a, target: b}, {source: b, target: c}]\n",
    );
    let before = bench.seq;
    let id = bench.start(flow, json!({"email": "a@b.c"}));
    assert_eq!(bench.seq - before, 1);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.outputs(id, 2), [json!("A@B.C")]);
    assert_eq!(bench.count(Table::Queue), 0);
}

#[test]
fn an_expression_that_fails_or_gives_nothing_fails_its_step() {
    for (expression, code) in [
        ("$error('no')", "EXPRESSION_FAILED"),
        ("nosuchfield", "EXPRESSION_GAVE_NOTHING"),
        (
            "($f := function($n){ $f($n + 1) + 1 }; $f(0))",
            "EXPRESSION_FAILED",
        ),
    ] {
        let mut bench = Bench::new();
        let flow = bench.arm(&format!(
            "name: t\ngraph:\n  nodes: [{{id: a, componentId: transform, function: jsonata, fields: {{expression: \"{expression}\"}}}}]\n  edges: []\n",
        ));
        let id = bench.start(flow, json!({}));
        assert_eq!(bench.state(id), ExecutionState::Failed, "{expression}");
        assert_eq!(
            bench.steps(id)[&0].error.as_ref().map(|e| e.code.as_str()),
            Some(code),
            "{expression}"
        );
    }
}

#[test]
fn a_wait_outlives_a_failover() {
    let mut bench = Bench::new();
    let flow = bench.arm(
        "name: wait\ngraph:\n  nodes: [{id: a, componentId: wait, function: delay, fields: {duration: 1h}}, {id: b, componentId: transform, function: jsonata, fields: {expression: 'n'}}]\n  edges: [{source: a, target: b}]\n",
    );
    let id = bench.start(flow, json!({"n": 5}));
    assert_eq!(bench.step_states(id), [StepState::Running]);
    assert!(
        bench.partition.executions.is_empty(),
        "what only waits is not in memory"
    );
    bench.advance(59 * 60 * 1_000);
    bench.fail_over();
    bench.advance(0);
    assert_eq!(bench.state(id), ExecutionState::Running);
    let due = bench.partition.next_due().expect("a timer");
    assert_eq!(due, bench.now.plus_millis(60_000));
    bench.advance(60_000);
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(bench.outputs(id, 1), [json!(5)]);
}

#[test]
fn node_state_commits_with_the_completion_and_survives_executions() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(1));
    bench.start(flow, json!(1));
    let first = bench.take();
    assert_eq!(first.node_state, "");
    let outcome = Outcome::Success {
        messages: vec![],
        node_state: Some("{\"seen\":1}".into()),
    };
    bench.complete(first.task, outcome);
    bench.start(flow, json!(2));
    let second = bench.take();
    assert_eq!(second.node_state, "{\"seen\":1}");
    let big = "x".repeat(tidemill_types::limits::NODE_STATE_BYTES_MAX + 1);
    let outcome = Outcome::Success {
        messages: vec![],
        node_state: Some(big.into()),
    };
    assert!(matches!(
        bench.complete(second.task, outcome),
        CompletionStatus::Invalid(_)
    ));
    bench.start(flow, json!(3));
    assert_eq!(
        bench.take().node_state,
        "{\"seen\":1}",
        "the refused state was not taken"
    );
}

#[test]
fn the_fan_out_of_one_step_is_limited() {
    let mut bench = Bench::with_worker(1);
    let flow = bench.arm(&chain(2));
    for (count, accepted) in [(10_000, true), (10_001, false)] {
        let id = bench.start(flow, json!(1));
        let grant = bench.take();
        let messages = (0..count).map(|n| output(json!(n))).collect();
        let status = bench.complete(
            grant.task,
            Outcome::Success {
                messages,
                node_state: None,
            },
        );
        assert_eq!(status == CompletionStatus::Accepted, accepted, "{count}");
        let cancel = CancelExecution {
            execution: id,
            reason: String::new(),
            request_id: "c".into(),
        };
        bench.tell(PartitionCommand::Cancel(cancel));
        bench.grants.clear();
    }
}
