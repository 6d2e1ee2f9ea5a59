//! The Open Integration Hub's own flows import unmodified.

use std::fs;
use std::path::Path;

use tidemill_core::flow::{self, Join, On, Plan, RetryPolicy};

#[allow(clippy::disallowed_methods, reason = "a test reads its data")]
/// Every flow of the set with the plan that it compiles to.
fn plans() -> Vec<(String, Plan)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/oih-flows");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the OIH flows")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .filter(|path| !path.ends_with("components.json"))
        .collect();
    files.sort();
    let mut plans = Vec::new();
    for file in files {
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).expect("a readable file");
        let documents =
            flow::parse(&text).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        for document in documents {
            assert_eq!(flow::validate(&document), [], "{name}");
            let plan =
                flow::compile(&document).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
            plans.push((name.clone(), plan));
        }
    }
    plans
}

#[test]
fn every_document_imports_validates_and_compiles() {
    let shape: Vec<String> = plans()
        .iter()
        .map(|(file, plan)| {
            let (nodes, edges) = (plan.nodes.len(), plan.edges.len());
            let trigger = if plan.schedule.is_some() {
                "schedule"
            } else {
                "webhook"
            };
            assert_eq!(plan.webhook.is_none(), plan.schedule.is_some());
            format!("{file}: {} {nodes} {edges} {trigger}", plan.name)
        })
        .collect();
    assert_eq!(
        shape,
        [
            "index: Message Format test 2 1 schedule",
            "index: Webhook1 3 2 webhook",
            "load-test-sample: Concurrent Webhook 9 8 webhook",
            "load-test-sample: Concurrent Webhook 9 8 webhook",
            "load-test-sample: Concurrent Webhook 9 8 webhook",
            "logic-gateway-flows: logic-gateway-flow 4 3 webhook",
            "logic-gateway-flows: logic-gateway-flow-lg-image 4 3 webhook",
            "mix: Webhook1 3 2 webhook",
            "mix: Webhook2 3 2 webhook",
            "mix: Webhook3 2 1 webhook",
            "rebound-test: rebound-local 1 0 webhook",
            "rebound-test: rebound-global 1 0 webhook",
            "test-component-flow: Webhook1 2 1 webhook",
        ]
    );
}

#[test]
fn they_behave_as_in_oih_where_they_say_nothing_else() {
    for (file, plan) in plans() {
        assert_eq!(plan.roots, [flow::NodeIndex(0)], "{file}");
        assert_eq!(plan.timeout_ms, None);
        for node in &plan.nodes {
            assert_eq!(
                (node.join, node.builtin, node.concurrency),
                (Join::Each, None, None)
            );
            assert_eq!((node.retry, node.timeout_ms), (RetryPolicy::DEFAULT, None));
            assert_eq!(
                plan.node(&node.id).map(|at| &plan.nodes[at.index()].id),
                Some(&node.id)
            );
        }
        for edge in &plan.edges {
            assert!(edge.on == On::Success && edge.condition.is_none(), "{file}");
        }
    }
}

#[test]
fn free_objects_arrive_as_they_are() {
    let plans = plans();
    let (_, plan) = plans
        .iter()
        .find(|(_, plan)| &*plan.name == "logic-gateway-flow")
        .expect("there");
    let gateway = &plan.nodes[plan.node("logic_gateway").expect("there").index()];
    assert_eq!(&gateway.node_settings_json[..], br#"{"devMode":true}"#);
    assert_eq!(
        gateway.fields["rule"]["operands"][0]["value"]["data"],
        "Bert Müller"
    );
    let read: serde_json::Value = serde_json::from_slice(&gateway.fields_json).expect("JSON");
    assert_eq!(read, *gateway.fields);
}
