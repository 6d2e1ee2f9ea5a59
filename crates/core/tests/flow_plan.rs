//! What a plan holds.

use tidemill_core::flow::{
    self, Builtin, EdgeIndex, Join, NodeIndex, On, Plan, Reply, RetryPolicy, SignatureScheme, Wait,
};

fn plan(text: &str) -> Plan {
    let documents = flow::parse(text).unwrap_or_else(|problems| panic!("{problems:?}"));
    flow::compile(&documents[0]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn one_node(node: &str) -> flow::PlanNode {
    plan(&format!("graph: {{nodes: [{{id: a, {node}}}]}}"))
        .nodes
        .remove(0)
}

#[test]
fn everything_written_arrives() {
    let plan = plan(
        "
name: all
multiRoot: true
timeout: 1h
retention: 30d
graph:
  nodes:
    - {id: a, componentId: shop, function: get, credentials_id: key, timeout: 5s, concurrency: 2, nodeSettings: {x: 1}}
    - {id: b, componentId: transform, function: jsonata, fields: {expression: $.a}}
    - {id: c, componentId: shop, function: put, join: all}
    - {id: d, componentId: shop, function: put, loop: {maxIterations: 7}}
    - {id: r, componentId: shop, function: get}
  edges:
    - {source: a, target: b}
    - {source: b, target: c, config: {condition: amount > 0}}
    - {source: r, target: c, on: error}
    - {source: c, target: d}
    - {source: d, target: d}
",
    );
    assert_eq!(
        (&*plan.name, plan.timeout_ms, plan.retention_ms),
        ("all", Some(3_600_000), Some(2_592_000_000))
    );
    assert_eq!(plan.roots, [NodeIndex(0), NodeIndex(4)]);
    assert!(plan.schedule.is_none());
    assert_eq!(
        plan.webhook.as_ref().map(|webhook| webhook.reply),
        Some(Reply::Async)
    );
    let [a, b, c, d, r] = &plan.nodes[..] else {
        panic!("five nodes")
    };
    assert_eq!((&*a.id, &*a.component, &*a.function), ("a", "shop", "get"));
    assert_eq!(a.credentials_id.as_deref(), Some("key"));
    assert_eq!(
        (a.timeout_ms, a.concurrency, a.builtin),
        (Some(5_000), Some(2), None)
    );
    assert_eq!(
        (&a.fields_json[..], &a.node_settings_json[..]),
        (&b"{}"[..], &br#"{"x":1}"#[..])
    );
    assert_eq!(b.builtin, Some(Builtin::Transform));
    assert_eq!(
        b.expression.as_ref().map(|expression| expression.source()),
        Some("$.a")
    );
    assert_eq!(
        (c.join, &c.upstream[..]),
        (Join::All, &[NodeIndex(0), NodeIndex(1), NodeIndex(4)][..])
    );
    assert_eq!(
        (&c.incoming[..], &c.outgoing[..]),
        (&[EdgeIndex(1), EdgeIndex(2)][..], &[EdgeIndex(3)][..])
    );
    assert_eq!(d.max_iterations, Some(7));
    assert_eq!(
        (&d.incoming[..], &d.outgoing[..]),
        (&[EdgeIndex(3), EdgeIndex(4)][..], &[EdgeIndex(4)][..])
    );
    assert!(r.upstream.is_empty() && d.upstream.is_empty());
    let condition = plan.edges[1]
        .condition
        .as_ref()
        .map(|expression| expression.source());
    assert_eq!(
        (plan.edges[1].on, condition),
        (On::Success, Some("amount > 0"))
    );
    assert_eq!(
        (plan.edges[2].on, plan.edges[2].source),
        (On::Error, NodeIndex(4))
    );
    assert_eq!((plan.node("c"), plan.node("x")), (Some(NodeIndex(2)), None));
}

#[test]
fn retries_have_their_defaults_one_by_one() {
    let retry =
        |retry: &str| one_node(&format!("componentId: c, function: f, retry: {{{retry}}}")).retry;
    let default = RetryPolicy {
        max_attempts: 3,
        initial_delay_ms: 1_000,
        multiplier_milli: 2_000,
        max_delay_ms: 60_000,
        jitter_milli: 200,
    };
    assert_eq!(one_node("componentId: c, function: f").retry, default);
    assert_eq!(retry(""), default);
    assert_eq!(
        retry("maxAttempts: 1"),
        RetryPolicy {
            max_attempts: 1,
            ..default
        }
    );
    assert_eq!(
        retry("multiplier: 1.0005, jitter: 0"),
        RetryPolicy {
            multiplier_milli: 1_001,
            jitter_milli: 0,
            ..default
        }
    );
    assert_eq!(
        retry("initialDelay: 5m"),
        RetryPolicy {
            initial_delay_ms: 300_000,
            max_delay_ms: 300_000,
            ..default
        }
    );
    let all = retry("maxAttempts: 9, initialDelay: 5ms, multiplier: 3, maxDelay: 7ms, jitter: 1");
    let expected = RetryPolicy {
        max_attempts: 9,
        initial_delay_ms: 5,
        multiplier_milli: 3_000,
        max_delay_ms: 7,
        jitter_milli: 1_000,
    };
    assert_eq!(all, expected);
}

#[test]
fn waits() {
    let wait = |fields: &str| {
        let node = one_node(&format!(
            "componentId: wait, function: delay, fields: {{{fields}}}"
        ));
        (
            node.wait,
            node.expression
                .map(|expression| expression.source().to_owned()),
        )
    };
    assert_eq!(
        wait("duration: 1h30m"),
        (Some(Wait::DurationMs(5_400_000)), None)
    );
    assert_eq!(
        wait("until: '1970-01-01T01:00:01.5+01:00'"),
        (Some(Wait::UntilMs(1_500)), None)
    );
    assert_eq!(
        wait("until: order.due"),
        (Some(Wait::UntilExpression), Some("order.due".to_owned()))
    );
}

#[test]
fn triggers() {
    let nodes = "graph: {nodes: [{id: a, componentId: c, function: f}]}";
    for schedule in ["cron: '*/5 * * * *'", "trigger: {schedule: {every: 5m}}"] {
        let plan = plan(&format!("{schedule}\n{nodes}"));
        assert!(
            plan.schedule.is_some() && plan.webhook.is_none(),
            "{schedule}"
        );
    }
    let plan = plan(&format!(
        "trigger: {{webhook: {{reply: async, signature: {{scheme: stripe, secretEnv: S, tolerance: 1m}}}}}}\n{nodes}"
    ));
    let webhook = plan.webhook.expect("a webhook");
    assert_eq!(webhook.reply, Reply::Async);
    let signature = webhook.signature.expect("a signature");
    assert_eq!(signature.scheme, SignatureScheme::Stripe);
    assert_eq!(signature.secret_env, "S");
    assert_eq!(
        signature.tolerance.map(|tolerance| tolerance.ms),
        Some(60_000)
    );
}

#[test]
fn what_the_server_does_not_run_yet_compiles_and_says_so() {
    for builtin in Builtin::ALL {
        let served = !matches!(builtin, Builtin::Http | Builtin::Subflow);
        assert_eq!(builtin.is_served(), served);
        assert_eq!(Builtin::from_component(builtin.component()), Some(builtin));
    }
    let node = one_node("componentId: http, function: request");
    assert_eq!(node.builtin, Some(Builtin::Http));
    assert_eq!(
        one_node("componentId: code, function: execute").builtin,
        None
    );
}

#[test]
fn a_document_with_an_error_has_no_plan_and_all_its_problems() {
    let text = "graph: {nodes: [{id: a, componentId: http, function: request}, {id: a, componentId: c, function: f}]}";
    let documents = flow::parse(text).expect("reads");
    let problems = flow::compile(&documents[0]).expect_err("refused");
    let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [flow::code::NOT_SERVED, flow::code::DUPLICATE_NODE]);
}
