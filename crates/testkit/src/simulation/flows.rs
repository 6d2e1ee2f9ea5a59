//! Flow documents by chance: chains, fan-out, conditions, joins, loops, error edges, retries,
//! time-outs, waits, concurrency limits, transforms, retention short enough to end within a run.

use serde_json::{Map, Value, json};
use tidemill_core::flow;
use tidemill_types::flow::FlowDocument;

use super::random::Random;

/// A document that is valid, with this name.
///
/// # Panics
/// When what was made is not valid: the generator is wrong then.
#[must_use]
pub fn document(random: &mut Random, name: &str) -> Box<FlowDocument> {
    let value = make(random, name);
    match flow::parse_value(&value) {
        Ok(document) => Box::new(document),
        Err(problems) => panic!("the generator made {value}: {problems:?}"),
    }
}

fn make(random: &mut Random, name: &str) -> Value {
    let count = random.between(1, 6) as usize;
    let id = |at: usize| format!("n{at}");
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    for at in 0..count {
        let mut node = component(random);
        node.insert("id".into(), id(at).into());
        if at > 0 {
            // At least one way leads to every node, so that one root reaches all.
            let mut sources = vec![random.index(at)];
            for source in 0..at {
                if !sources.contains(&source) && random.chance(250) {
                    sources.push(source);
                }
            }
            let joins = random.chance(if sources.len() > 1 { 600 } else { 150 });
            if joins {
                node.insert("join".into(), "all".into());
            }
            for source in sources {
                edges.push(edge(random, &id(source), &id(at)));
            }
        }
        if node["componentId"] == "w" && random.chance(120) && !node.contains_key("join") {
            let most = random.between(2, 4);
            node.insert("loop".into(), json!({ "maxIterations": most }));
            edges.push(json!({
                "source": id(at), "target": id(at),
                "config": { "condition": "again = true" },
            }));
        }
        nodes.push(Value::Object(node));
    }
    let mut document = json!({ "name": name, "graph": { "nodes": nodes, "edges": edges } });
    if random.chance(450) {
        document["trigger"] = json!({ "schedule": schedule(random) });
    }
    if random.chance(250) {
        let seconds = random.between(10, 60);
        document["timeout"] = format!("{seconds}s").into();
    }
    if random.chance(700) {
        let seconds = random.between(5, 60);
        document["retention"] = format!("{seconds}s").into();
    }
    document
}

/// An interval in whole seconds: what is due can be computed without knowing how the core does.
fn schedule(random: &mut Random) -> Value {
    let pick = |random: &mut Random, of: &[&str]| of[random.index(of.len())].to_owned();
    let every = pick(random, &["2s", "3s", "5s", "8s", "13s"]);
    let overlap = pick(random, &["allow", "skip", "queueOne", "cancelPrevious"]);
    let policy = pick(random, &["one", "all", "none"]);
    let window = pick(random, &["2s", "5s", "1h"]);
    let mut schedule = json!({
        "every": every, "overlap": overlap, "catchUp": { "policy": policy, "window": window },
    });
    if random.chance(200) {
        schedule["jitter"] = pick(random, &["500ms", "4s"]).into();
    }
    schedule
}

fn component(random: &mut Random) -> Map<String, Value> {
    let of = |component: &str, function: &str, fields: Value| {
        let mut node = Map::new();
        node.insert("componentId".into(), component.into());
        node.insert("function".into(), function.into());
        node.insert("fields".into(), fields);
        node
    };
    match random.below(100) {
        0..=14 => {
            let expressions = ["{\"n\": 1}", "$", "{\"n\": $sum([n, 1])}", "n"];
            let expression = expressions[random.index(expressions.len())];
            of("transform", "jsonata", json!({ "expression": expression }))
        }
        15..=26 => {
            let ms = random.between(1, 20_000);
            of("wait", "delay", json!({ "duration": format!("{ms}ms") }))
        }
        27..=30 => of("log", "write", json!({ "message": "here" })),
        31..=33 => {
            let fields = json!({
                "status": random.between(200, 299),
                "expression": "{\"headers\": {\"x-n\": $string(n)}, \"body\": n}",
            });
            of("respond", "reply", fields)
        }
        _ => {
            let function = if random.chance(300) { "g" } else { "f" };
            let mut node = of("w", function, json!({}));
            if random.chance(600) {
                let retry = json!({
                    "maxAttempts": random.between(1, 4),
                    "initialDelay": format!("{}ms", random.between(10, 3_000)),
                    "jitter": 0,
                });
                node.insert("retry".into(), retry);
            }
            if random.chance(200) {
                let ms = random.between(500, 8_000);
                node.insert("timeout".into(), format!("{ms}ms").into());
            }
            if random.chance(200) {
                node.insert("concurrency".into(), random.between(1, 2).into());
            }
            node
        }
    }
}

fn edge(random: &mut Random, source: &str, target: &str) -> Value {
    let mut edge = json!({ "source": source, "target": target });
    match random.below(10) {
        0 => edge["on"] = "error".into(),
        1 => edge["config"] = json!({ "condition": "n > 2" }),
        2 => edge["config"] = json!({ "condition": "$exists(n)" }),
        _ => {}
    }
    edge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_valid_documents_only() {
        let mut random = Random::new(1);
        for _ in 0..2_000 {
            let document = document(&mut random, "f");
            flow::compile(&document).expect("it compiles");
        }
    }
}
