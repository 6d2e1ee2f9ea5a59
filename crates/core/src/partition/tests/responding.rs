//! `respond`: the answer to the request that started an execution.

use super::*;

fn reply(bench: &Bench, id: ExecutionId) -> Option<MessageRow> {
    let number = bench.execution(id).reply?;
    let row = bench.rows.get(&message_key(id, number)).expect("rows");
    Some(MessageRow::from_bytes(row.expect("a message")).expect("a row"))
}

fn status(reply: &MessageRow) -> Value {
    let metadata: Value = serde_json::from_slice(&reply.metadata).expect("JSON");
    metadata["status"].clone()
}

#[test]
fn the_answer_is_there_before_the_end_and_survives_a_new_leader() {
    let mut bench = Bench::with_worker(10);
    let flow = bench.arm(
        "name: answering\ngraph:\n  nodes:\n    - {id: r, componentId: respond, function: reply, fields: {status: 201, headers: {X-Kind: order}, expression: '{\"headers\": {\"location\": \"/orders/\" & n}, \"body\": {\"id\": n}}'}}\n    - {id: a, componentId: w, function: f}\n    - {id: s, componentId: respond, function: reply, fields: {status: 500}}\n  edges: [{source: r, target: a}, {source: a, target: s}]\n",
    );
    let id = bench.start(flow, json!({"n": 7}));
    assert_eq!(bench.state(id), ExecutionState::Running);
    let given = reply(&bench, id).expect("an answer");
    assert_eq!(status(&given), 201);
    assert_eq!(value(&given), json!({"id": 7}));
    assert_eq!(given.headers["location"], "/orders/7");
    assert_eq!(given.headers["x-kind"], "order");
    bench.fail_over();
    bench.worker(1, 10);
    // Both the step after it and the caller have had their own: the message goes on unchanged.
    let task = bench.take();
    assert_eq!(value(&task.inputs[0].0), json!({"n": 7}));
    bench.advance(60_000);
    while bench.state(id) == ExecutionState::Running {
        bench.echo_all();
        bench.advance(60_000);
    }
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
    assert_eq!(
        reply(&bench, id),
        Some(given),
        "only the first answer counts"
    );
    assert_eq!(bench.outputs(id, 0), [json!({"n": 7})]);
}

#[test]
fn without_fields_the_message_is_the_answer() {
    let mut bench = Bench::new();
    let flow = bench
        .arm("name: echo\ngraph:\n  nodes: [{id: r, componentId: respond, function: reply}]\n");
    let id = bench.start(flow, json!([1, 2]));
    let given = reply(&bench, id).expect("an answer");
    assert_eq!((status(&given), value(&given)), (json!(200), json!([1, 2])));
    assert_eq!(bench.state(id), ExecutionState::Succeeded);
}

#[test]
fn an_attachment_is_answered_byte_for_byte() {
    let mut bench = Bench::new();
    let flow = bench.arm(
        "name: file\ngraph:\n  nodes: [{id: r, componentId: respond, function: reply, fields: {attachment: payload}}]\n",
    );
    let bytes = Bytes::from_iter(0..=255);
    let mut command = bench.start_command(flow, json!({}), "file");
    if let PartitionCommand::Start(start) = &mut command {
        start
            .message
            .attachments
            .insert("payload".into(), bytes.clone());
    }
    let Ok(PartitionReply::Started { execution, .. }) = bench.ask(command) else {
        panic!("not started");
    };
    let given = reply(&bench, execution).expect("an answer");
    assert_eq!(given.attachments["payload"], bytes);
    let without = bench.start(flow, json!({}));
    assert_eq!(reply(&bench, without), None);
    assert_eq!(bench.state(without), ExecutionState::Failed);
}

#[test]
fn an_answer_that_cannot_be_fails_the_step() {
    let mut bench = Bench::new();
    for (expression, code) in [
        ("7", "RESPOND_INVALID"),
        ("{\\\"status\\\": 99}", "RESPOND_INVALID"),
        (
            "{\\\"headers\\\": {\\\"connection\\\": \\\"x\\\"}}",
            "RESPOND_INVALID",
        ),
        ("nothing.here", "RESPOND_INVALID"),
        ("$error(\\\"no\\\")", "EXPRESSION_FAILED"),
        (
            "{\\\"body\\\": $pad(\\\"\\\", 5000000, \\\"x\\\")}",
            "RESPOND_TOO_LARGE",
        ),
    ] {
        let flow = bench.arm(&format!(
            "name: bad\ngraph:\n  nodes: [{{id: r, componentId: respond, function: reply, fields: {{expression: \"{expression}\"}}}}]\n",
        ));
        let id = bench.start(flow, json!({}));
        assert_eq!(reply(&bench, id), None, "{expression}");
        assert_eq!(bench.state(id), ExecutionState::Failed, "{expression}");
        let error = bench.steps(id)[&0].error.clone().expect("an error");
        assert!(
            error.code == code || code == "RESPOND_TOO_LARGE" && error.code == "EXPRESSION_FAILED",
            "{expression}: {error:?}"
        );
    }
}
