//! What holds for any text and any document.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tidemill_core::flow::{self, Severity};

/// Any JSON value, numbers of all kinds and awkward keys included.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has only finite numbers", |f| f.is_finite())
            .prop_map(Value::from),
        (-1_000_000i64..1_000_000).prop_map(|n| json!(n as f64 / 8.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn free_object() -> impl Strategy<Value = Value> {
    btree_map(".{0,6}", any_json(), 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// `value` or nothing.
fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    proptest::option::of(value)
}

fn duration() -> impl Strategy<Value = Value> {
    (1u64..1_000_000).prop_map(|ms| json!(format!("{ms}ms")))
}

fn word() -> impl Strategy<Value = Value> {
    "[a-zA-Zü€😀\u{fb33} ]{0,9}x".prop_map(Value::from)
}

fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let given = members
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn node() -> impl Strategy<Value = Value> {
    let retry = (
        maybe((1u32..1_000).prop_map(Value::from)),
        maybe((1.0f64..100.0).prop_map(Value::from)),
        maybe((0.0f64..1.0).prop_map(Value::from)),
    )
        .prop_map(|(attempts, multiplier, jitter)| {
            object([
                ("maxAttempts", attempts),
                ("multiplier", multiplier),
                ("jitter", jitter),
            ])
        });
    (
        maybe(word()),
        maybe(free_object()),
        maybe(free_object()),
        maybe(retry),
        maybe(duration()),
        maybe(prop_oneof![Just(json!("each")), Just(json!("all"))]),
        maybe((1u32..10_000).prop_map(Value::from)),
        maybe(word()),
    )
        .prop_map(
            |(name, fields, settings, retry, timeout, join, concurrency, credentials)| {
                object([
                    ("componentId", Some(json!("component"))),
                    ("function", Some(json!("run"))),
                    ("name", name),
                    ("fields", fields),
                    ("nodeSettings", settings),
                    ("retry", retry),
                    ("timeout", timeout),
                    ("join", join),
                    ("concurrency", concurrency),
                    ("credentials_id", credentials),
                ])
            },
        )
}

/// A valid document: a tree of nodes, some of its edges with a condition, a mapper or for errors.
fn document() -> impl Strategy<Value = Value> {
    let edge = (
        any::<prop::sample::Index>(),
        any::<bool>(),
        any::<bool>(),
        maybe(any_json()),
    );
    let trigger = prop_oneof![
        Just(json!({"schedule": {"cron": "*/5 * * * *", "timezone": "Europe/Berlin"}})),
        Just(json!({"schedule": {"every": "90s", "catchUp": "all", "end": {"after": 3}}})),
        Just(json!({"webhook": {"reply": "async"}})),
        Just(
            json!({"webhook": {"signature": {"scheme": "oih", "secretEnv": "SECRET", "header": "X-Sig"}}})
        ),
    ];
    let rest = (
        maybe(word()),
        maybe(btree_map("[a-z]{1,5}", "[a-zü]{0,5}", 0..3).prop_map(|labels| json!(labels))),
        maybe(trigger),
        maybe(free_object()),
        maybe(duration()),
    );
    (vec((node(), edge), 1..8), rest).prop_map(
        |(list, (name, labels, trigger, settings, timeout))| {
            let (mut nodes, mut edges) = (Vec::new(), Vec::new());
            for (position, (mut node, (from, error, condition, mapper))) in
                list.into_iter().enumerate()
            {
                node["id"] = json!(format!("n{position}"));
                nodes.push(node);
                if position > 0 {
                    edges.push(object([
                        ("source", Some(json!(format!("n{}", from.index(position))))),
                        ("target", Some(json!(format!("n{position}")))),
                        ("on", error.then(|| json!("error"))),
                        (
                            "config",
                            Some(object([
                                ("condition", condition.then(|| json!("a > 1"))),
                                ("mapper", mapper),
                            ])),
                        ),
                    ]));
                }
            }
            object([
                ("name", name),
                ("labels", labels),
                ("trigger", trigger),
                ("flowSettings", settings),
                ("timeout", timeout),
                ("graph", Some(json!({"nodes": nodes, "edges": edges}))),
            ])
        },
    )
}

/// The same value with the keys of each object in another order.
fn reordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reordered).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .rev()
                .map(|(key, value)| (key.clone(), reordered(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Text that looks a little like YAML or JSON, and documents with pieces of it in the middle.
fn mangled() -> impl Strategy<Value = String> {
    let soup =
        r#"([\[\]{}:,"'&*!|>%@#?\-\n a-f0-9]|graph|nodes|id|~|<<|---|\.nan|\\u[0-9a-f]{4}){0,40}"#;
    (document(), any::<prop::sample::Index>(), soup).prop_map(|(document, at, soup)| {
        let mut text = document.to_string();
        let at = (0..=at.index(text.len() + 1))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.insert_str(at.unwrap_or_default(), &soup);
        text
    })
}

fn never_panics(text: &str) {
    if let Ok(documents) = flow::parse(text) {
        for document in documents {
            let refused = flow::validate(&document)
                .iter()
                .any(|problem| problem.severity == Severity::Error);
            assert_eq!(flow::compile(&document).is_err(), refused);
            flow::content_hash(&document);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        never_panics(&text);
    }

    #[test]
    fn mangled_documents_never_panic(text in mangled()) {
        never_panics(&text);
        never_panics(&format!("# YAML\n{text}"));
    }

    #[test]
    fn arbitrary_values_never_panic(value in any_json()) {
        never_panics(&json!({"graph": {"nodes": [value.clone()], "edges": value.clone()}, "trigger": value}).to_string());
    }

    #[test]
    fn canonical_json_reads_as_the_same_document(value in document()) {
        let document = flow::parse_value(&value).expect("reads");
        prop_assert_eq!(flow::validate(&document), []);
        let canonical = flow::canonical_json(&document);
        let again = flow::parse(&canonical).expect("reads");
        prop_assert_eq!(&flow::canonical_json(&again[0]), &canonical);
        prop_assert_eq!(flow::content_hash(&again[0]), flow::content_hash(&document));
        let value: Value = serde_json::from_str(&canonical).expect("JSON");
        let by_value = flow::parse_value(&value).expect("reads");
        prop_assert_eq!(by_value, again.into_iter().next().expect("one document"));
    }

    #[test]
    fn order_and_formatting_do_not_change_the_hash(value in document()) {
        let hash = flow::content_hash(&flow::parse_value(&value).expect("reads"));
        let pretty = serde_json::to_string_pretty(&reordered(&value)).expect("JSON");
        let yaml = serde_norway::to_string(&reordered(&value)).expect("YAML");
        for text in [value.to_string(), pretty, yaml] {
            let documents = flow::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}: {text}"));
            prop_assert_eq!(flow::content_hash(&documents[0]), hash, "{}", text);
        }
    }

    #[test]
    fn what_a_server_adds_does_not_change_the_hash(value in document(), tenant in any_json()) {
        let hash = flow::content_hash(&flow::parse_value(&value).expect("reads"));
        let mut exported = value;
        for key in ["id", "_id", "__v", "tenant", "owners", "createdAt", "updatedAt", "fromTemplate"] {
            exported[key] = tenant.clone();
        }
        exported["status"] = json!("inactive");
        prop_assert_eq!(flow::content_hash(&flow::parse_value(&exported).expect("reads")), hash);
    }

    #[test]
    fn a_plan_is_connected_as_the_document_says(value in document()) {
        let document = flow::parse_value(&value).expect("reads");
        let plan = flow::compile(&document).expect("compiles");
        prop_assert_eq!(&plan.roots, &[flow::NodeIndex(0)]);
        for (edge, written) in plan.edges.iter().zip(&document.graph.edges) {
            prop_assert_eq!(plan.node(&written.source), Some(edge.source));
            prop_assert_eq!(plan.node(&written.target), Some(edge.target));
            prop_assert_eq!(edge.condition.is_some(), written.config.condition.is_some());
        }
        for (position, node) in plan.nodes.iter().enumerate() {
            for edge in &node.outgoing {
                prop_assert_eq!(plan.edges[edge.index()].source.index(), position);
            }
            for edge in &node.incoming {
                prop_assert_eq!(plan.edges[edge.index()].target.index(), position);
            }
            // In a tree, what is upstream is the way from the root.
            let mut way = Vec::new();
            let mut at = node;
            while let Some(edge) = at.incoming.first() {
                way.insert(0, plan.edges[edge.index()].source);
                at = &plan.nodes[way[0].index()];
            }
            let waits = node.join == flow::Join::All;
            prop_assert_eq!(&node.upstream, &if waits { way } else { Vec::new() });
        }
        let edges: usize = plan.nodes.iter().map(|node| node.outgoing.len()).sum();
        prop_assert_eq!(edges, plan.edges.len());
    }
}

/// A change here changes the hash of every published version: it must not happen by accident.
#[test]
fn the_hash_of_a_document_stays() {
    let text = "
name: ünïcode
cron: '*/3 * * * *'
timeout: 90s
labels: {b: x, a: y}
graph:
  nodes:
    - {id: a, componentId: c, function: f, fields: {n: [1, 1.0, 1e21, 0.000001, -0.0, 12345678901234567890], z: null}, join: each}
    - {id: b, componentId: transform, function: jsonata, fields: {expression: a}, retry: {multiplier: 2.0}, loop: {maxIterations: 3}}
  edges: [{source: a, target: b, on: success}, {source: b, target: b, on: error, config: {condition: x, mapper: {}}}]
";
    let document = flow::parse(text).expect("reads").remove(0);
    let canonical = flow::canonical_json(&document);
    assert_eq!(
        canonical,
        concat!(
            r#"{"cron":"*/3 * * * *","graph":{"edges":[{"source":"a","target":"b"},"#,
            r#"{"config":{"condition":"x","mapper":{}},"on":"error","source":"b","target":"b"}],"#,
            r#""nodes":[{"componentId":"c","fields":{"n":[1,1,1e+21,0.000001,0,12345678901234567890],"z":null},"function":"f","id":"a"},"#,
            r#"{"componentId":"transform","fields":{"expression":"a"},"function":"jsonata","id":"b","loop":{"maxIterations":3},"retry":{"multiplier":2}}]},"#,
            r#""labels":{"a":"y","b":"x"},"name":"ünïcode","timeout":"1m30s"}"#
        )
    );
    let hash: String = flow::content_hash(&document)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hash,
        "77af8cddc644ee9ed763c059cc293ef855c492c7d52ace9b8ea31e64d968958a"
    );
}
