//! Each limit of a flow document is reached, and one more is refused.

use std::fmt::Write;

use serde_json::{Value, json};
use tidemill_core::flow::{self, Problem, code};
use tidemill_types::limits::*;

fn problems(document: &Value) -> Vec<Problem> {
    match flow::parse_value(document) {
        Err(problems) => problems,
        Ok(document) => flow::validate(&document),
    }
}

fn document() -> Value {
    json!({"graph": {"nodes": [{"id": "a", "componentId": "c", "function": "f"}], "edges": []}})
}

/// The document with a value at the pointer's place, whose parent is there.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = document();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    document.pointer_mut(parent).expect("the parent")[key] = value;
    document
}

/// A place takes what is at its limit, and refuses what is over it with one problem there.
fn check(pointer: &str, code: &str, most: Value, over: Value) {
    assert_eq!(problems(&with(pointer, most)), [], "{pointer}");
    let found = problems(&with(pointer, over));
    let found: Vec<_> = found
        .iter()
        .map(|problem| (problem.pointer.as_str(), problem.code))
        .collect();
    assert!(
        matches!(found[..], [(at, kind)] if at.starts_with(pointer) && kind == code),
        "{pointer}: {found:?}"
    );
}

fn chars(count: usize) -> Value {
    // Two bytes each: it is characters that count.
    Value::String("ü".repeat(count))
}

#[test]
fn lengths_of_texts() {
    let node = "/graph/nodes/0";
    for (pointer, most) in [
        ("/name".to_owned(), FLOW_NAME_CHARS_MAX),
        ("/description".to_owned(), FLOW_DESCRIPTION_CHARS_MAX),
        ("/type".to_owned(), FLOW_REFERENCE_CHARS_MAX),
        (format!("{node}/id"), FLOW_NODE_ID_CHARS_MAX),
        (format!("{node}/componentId"), FLOW_REFERENCE_CHARS_MAX),
        (format!("{node}/function"), FLOW_REFERENCE_CHARS_MAX),
        (format!("{node}/credentials_id"), FLOW_REFERENCE_CHARS_MAX),
        (format!("{node}/name"), FLOW_NAME_CHARS_MAX),
        (format!("{node}/description"), FLOW_DESCRIPTION_CHARS_MAX),
    ] {
        check(&pointer, code::LIMIT, chars(most), chars(most + 1));
    }
}

#[test]
fn labels() {
    let count = |count: usize| (0..count).map(|n| (format!("l{n}"), json!("x"))).collect();
    check(
        "/labels",
        code::LIMIT,
        Value::Object(count(FLOW_LABELS_MAX)),
        Value::Object(count(FLOW_LABELS_MAX + 1)),
    );
    let label = |key: usize, value: usize| json!({"k".repeat(key): "v".repeat(value)});
    let (key, value) = (FLOW_LABEL_KEY_CHARS_MAX, FLOW_LABEL_VALUE_CHARS_MAX);
    check(
        "/labels",
        code::LIMIT,
        label(key, value),
        label(key + 1, value),
    );
    check(
        "/labels",
        code::LIMIT,
        label(key, value),
        label(key, value + 1),
    );
}

#[test]
fn retries_loops_and_durations() {
    let ms = |ms: u64| json!(format!("{ms}ms"));
    let node = |key: &str| format!("/graph/nodes/0/{key}");
    let (delay, duration) = (RETRY_DELAY_MS_MAX, FLOW_DURATION_MS_MAX);
    let range = code::OUT_OF_RANGE;
    check(
        &node("retry"),
        range,
        json!({"maxAttempts": RETRY_ATTEMPTS_MAX}),
        json!({"maxAttempts": RETRY_ATTEMPTS_MAX + 1}),
    );
    check(
        &node("retry"),
        range,
        json!({"maxDelay": ms(delay)}),
        json!({"maxDelay": ms(delay + 1)}),
    );
    check(
        &node("retry"),
        range,
        json!({"initialDelay": ms(delay)}),
        json!({"initialDelay": ms(delay + 1)}),
    );
    let factor = f64::from(RETRY_MULTIPLIER_MAX);
    check(
        &node("retry"),
        range,
        json!({"multiplier": factor}),
        json!({"multiplier": factor + 0.001}),
    );
    check(
        &node("concurrency"),
        range,
        json!(NODE_CONCURRENCY_MAX),
        json!(NODE_CONCURRENCY_MAX + 1),
    );
    check(&node("timeout"), range, ms(duration), ms(duration + 1));
    check("/timeout", range, ms(duration), ms(duration + 1));
    check("/retention", range, ms(duration), ms(duration + 1));
    for (iterations, refused) in [
        (NODE_ITERATIONS_MAX, false),
        (NODE_ITERATIONS_MAX + 1, true),
    ] {
        let mut document = with(&node("loop"), json!({"maxIterations": iterations}));
        document["graph"]["edges"] = json!([{"source": "a", "target": "a"}]);
        assert_eq!(!problems(&document).is_empty(), refused, "{iterations}");
    }
}

#[test]
fn expressions() {
    // A number with many zeros after the point: long, and nothing that an expression's own limits mind.
    let expression = |bytes: usize| format!("1.{}", "0".repeat(bytes - 2));
    for (bytes, codes) in [
        (FLOW_EXPRESSION_BYTES_MAX, vec![]),
        (FLOW_EXPRESSION_BYTES_MAX + 1, vec![code::LIMIT]),
    ] {
        let mut document = document();
        document["graph"]["nodes"][0]["loop"] = json!({"maxIterations": 1});
        document["graph"]["edges"] =
            json!([{"source": "a", "target": "a", "config": {"condition": expression(bytes)}}]);
        let found: Vec<_> = problems(&document)
            .iter()
            .map(|problem| problem.code)
            .collect();
        assert_eq!(found, codes, "{bytes}");
    }
}

/// A chain of nodes, each with a second edge to the next one where there are edges to spare.
fn chain(nodes: usize, edges: usize) -> Value {
    let list = (0..nodes).map(
        |n| json!({"id": format!("n{n}"), "componentId": "c", "function": "f", "join": "all"}),
    );
    let edges = (0..edges).map(|n| {
        let source = n % (nodes - 1);
        let condition = format!("n = {n}");
        json!({"source": format!("n{source}"), "target": format!("n{}", source + 1), "config": {"condition": condition}})
    });
    json!({"graph": {"nodes": list.collect::<Vec<_>>(), "edges": edges.collect::<Vec<_>>()}})
}

#[test]
fn nodes_and_edges() {
    let full = flow::parse_value(&chain(FLOW_NODES_MAX, FLOW_EDGES_MAX)).expect("reads");
    let plan = flow::compile(&full).expect("compiles");
    assert_eq!(
        (plan.nodes.len(), plan.edges.len()),
        (FLOW_NODES_MAX, FLOW_EDGES_MAX)
    );
    let last = plan.nodes.last().expect("the last node");
    assert_eq!(last.upstream.len(), FLOW_NODES_MAX - 1);
    assert!(last.upstream.is_sorted());
    for (nodes, edges, pointer) in [
        (FLOW_NODES_MAX + 1, FLOW_EDGES_MAX, "/graph/nodes"),
        (FLOW_NODES_MAX, FLOW_EDGES_MAX + 1, "/graph/edges"),
    ] {
        let found = flow::parse_value(&chain(nodes, edges)).expect_err("refused");
        let found: Vec<_> = found
            .iter()
            .map(|problem| (problem.pointer.as_str(), problem.code))
            .collect();
        assert_eq!(found, [(pointer, code::LIMIT)]);
    }
    let mut by_hand = full.clone();
    by_hand.graph.nodes.push(full.graph.nodes[0].clone());
    assert!(
        flow::validate(&by_hand)
            .iter()
            .any(|problem| problem.code == code::LIMIT)
    );
}

#[test]
fn bytes_of_a_text_and_of_a_document() {
    let fill = |text_bytes: usize| {
        let empty = with("/graph/nodes/0/fields", json!({"x": ""})).to_string();
        let fill = "x".repeat(text_bytes - empty.len());
        with("/graph/nodes/0/fields", json!({"x": fill})).to_string()
    };
    let text = fill(FLOW_DOCUMENT_BYTES_MAX);
    assert_eq!(text.len(), FLOW_DOCUMENT_BYTES_MAX);
    let documents = flow::parse(&text).expect("reads");
    assert_eq!(flow::validate(&documents[0]), []);
    let found = flow::parse(&fill(FLOW_DOCUMENT_BYTES_MAX + 1)).expect_err("refused");
    assert_eq!((found.len(), found[0].code), (1, code::LIMIT));
    // Six bytes of JSON for one of YAML: short as a text, too long to be kept.
    let controls = with(
        "/graph/nodes/0/fields",
        json!({"x": "\u{1}".repeat(FLOW_DOCUMENT_BYTES_MAX / 5)}),
    );
    let found = problems(&controls);
    assert_eq!((found.len(), found[0].code), (1, code::LIMIT));
}

#[test]
fn documents_in_a_text() {
    let text = |count: usize| Value::Array(vec![document(); count]).to_string();
    assert_eq!(
        flow::parse(&text(FLOW_DOCUMENTS_PER_TEXT_MAX))
            .expect("reads")
            .len(),
        FLOW_DOCUMENTS_PER_TEXT_MAX
    );
    let found = flow::parse(&text(FLOW_DOCUMENTS_PER_TEXT_MAX + 1)).expect_err("refused");
    assert_eq!((found.len(), found[0].code), (1, code::LIMIT));
    let stream = "--- {a: b}\n".repeat(FLOW_DOCUMENTS_PER_TEXT_MAX + 1);
    assert_eq!(
        flow::parse(&stream).expect_err("refused")[0].code,
        code::LIMIT
    );
}

#[test]
fn problems_in_a_report() {
    let keys: serde_json::Map<_, _> = (0..FLOW_PROBLEMS_MAX + 5)
        .map(|n| (format!("key{n}"), json!(1)))
        .collect();
    let found = flow::parse(&Value::Object(keys).to_string()).expect_err("refused");
    assert_eq!(found.len(), FLOW_PROBLEMS_MAX);
    assert_eq!(found.last().map(|problem| problem.code), Some(code::MORE));
    // Warnings never push out the error that refuses the document.
    let mut many = chain(2, 1);
    let edge = many["graph"]["edges"][0].clone();
    many["graph"]["edges"] = Value::Array(vec![edge; FLOW_PROBLEMS_MAX + 10]);
    many["graph"]["edges"][FLOW_PROBLEMS_MAX + 9]["target"] = json!("nowhere");
    let found = problems(&many);
    assert_eq!(found.len(), FLOW_PROBLEMS_MAX);
    assert!(
        found
            .iter()
            .any(|problem| problem.code == code::UNKNOWN_NODE)
    );
}

/// Objects in objects, `levels` of them below `fields`.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |value, _| json!({"x": value}))
}

#[test]
fn depth() {
    // The document, the graph, the nodes, the node: four levels above `fields`.
    let deepest = with("/graph/nodes/0/fields", nested(FLOW_DOCUMENT_DEPTH_MAX - 4));
    let deeper = with("/graph/nodes/0/fields", nested(FLOW_DOCUMENT_DEPTH_MAX - 3));
    for text in [
        deepest.to_string(),
        format!("# YAML\n{deepest}"),
        format!("# YAML\n{deepest}\n---\n{deepest}"),
    ] {
        assert!(flow::parse(&text).is_ok());
    }
    assert_eq!(problems(&deepest), []);
    for text in [deeper.to_string(), format!("# YAML\n{deeper}")] {
        let found = flow::parse(&text).expect_err("refused");
        assert_eq!((found.len(), found[0].code), (1, code::LIMIT), "{found:?}");
    }
    assert_eq!(problems(&deeper)[0].code, code::LIMIT);
    // Far deeper than any stack.
    let mut value = json!(1);
    for _ in 0..200_000 {
        value = Value::Array(vec![value]);
    }
    assert_eq!(problems(&value)[0].code, code::LIMIT);
    // serde_json drops recursively; what this test made is not its own input's fault.
    std::mem::forget(value);
}

#[test]
fn texts_that_grow_are_stopped() {
    // Ten times ten times ... of one list, and of one long text.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let list = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(laughs, "a{n}: &a{n} [{list}]").expect("writes");
    }
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(500_000),
        vec!["*a"; 1_000].join(", ")
    );
    let keys = format!(
        "a: &a\n  ? {}\n  : 1\nb: [{}]\n",
        "x".repeat(500_000),
        vec!["*a"; 1_000].join(", ")
    );
    for text in [laughs, long, keys] {
        let found = flow::parse(&text).expect_err("refused");
        assert_eq!(found[0].code, code::LIMIT, "{found:?}");
    }
    let values = vec!["1"; FLOW_DOCUMENT_VALUES_MAX + 1].join(",");
    assert_eq!(
        flow::parse(&format!("[{values}]")).expect_err("refused")[0].code,
        code::LIMIT
    );
    let values = Value::Array(vec![json!(1); FLOW_DOCUMENT_VALUES_MAX]);
    assert_eq!(problems(&values)[0].code, code::LIMIT);
}

/// Each of these takes the YAML parser minutes as a whole. There is no clock here (it would make the test depend
/// on the machine): a text that is not refused early shows by the test's own time limit.
#[test]
fn texts_that_nest_are_refused_early() {
    let max = FLOW_DOCUMENT_BYTES_MAX;
    // The comment makes them YAML, where JSON's parser would refuse them first.
    for unit in [
        "[", "{a: ", "[a,", "- ", "? ", "a: [", "[\"\",", "{\"a\":", "- [", "!a [", "'' : {",
    ] {
        let text = format!("#\n{}", unit.repeat((max - 2) / unit.len()));
        let found = flow::parse(&text).expect_err("refused");
        assert_eq!(
            (found.len(), found[0].code),
            (1, code::LIMIT),
            "{unit}: {found:?}"
        );
    }
    // Few enough brackets to be parsed, far too deep.
    let text = format!(
        "#\n{}{}",
        "{a: ".repeat(FLOW_YAML_BRACKETS_MAX),
        "a,".repeat(300_000)
    );
    let found = flow::parse(&text).expect_err("refused");
    assert!(found[0].message.contains("nested deeper"), "{found:?}");
    // Hidden behind what is closed again, in strings and in earlier documents.
    let quiet = "- {a: '[{', b: \"]}\"}\n".repeat(1_000);
    for hidden in [
        format!("{quiet}- {}", "{'}': ".repeat(60_000)),
        format!("{quiet}--- {}", "{b'c: '}', a: ".repeat(60_000)),
    ] {
        let found = flow::parse(&hidden).expect_err("refused");
        assert!(found[0].message.contains("nested deeper"), "{found:?}");
    }
}

#[test]
fn brackets_in_yaml() {
    // In a comment, where they open nothing; one more is in the document.
    for (brackets, refused) in [
        (FLOW_YAML_BRACKETS_MAX - 1, false),
        (FLOW_YAML_BRACKETS_MAX, true),
    ] {
        let comment = "[{".repeat(brackets / 2) + &"[".repeat(brackets % 2);
        let text = format!(
            "# {comment}\ngraph:\n  nodes:\n    - {{id: a, componentId: c, function: f}}\n"
        );
        assert_eq!(flow::parse(&text).is_err(), refused, "{brackets}");
    }
}
