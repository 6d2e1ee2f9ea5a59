//! OIH's logic gateway: a rule looks at what earlier steps gave, and chooses which steps run next.
//!
//! A rule is a `CONDITION` (`AND` or `OR` over operands, which may be conditions themselves, with the
//! actions `positive` and `negative`), or a `BRANCHING` of the kind `SWITCH`: `options`, of which the
//! first true one gives its `action`, and a `default`. What OIH declares but leaves undone (joins and
//! splits) is refused: a rule that is not understood must not send data down a wrong path.

use serde_json::Value;
use tidemill_sdk::{MessageJson as _, Outcome, TaskContext, TaskError};

/// Deepest nesting of conditions.
const DEPTH_MAX: usize = 32;

/// Evaluates `fields.rule` and sends the message on to the steps that it names.
pub fn exec(task: &TaskContext) -> Result<Outcome, TaskError> {
    let rule = &task.fields()["rule"];
    if rule.is_null() {
        return Err(wrong("the node's fields have no `rule`"));
    }
    let inputs = inputs(task)?;
    let action = choose(rule, &inputs)?;
    let Some(targets) = targets(action, task.targets())? else {
        return Ok(Outcome::message(task.message()));
    };
    Ok(Outcome::none().and_message_to(targets, task.message()))
}

/// The outputs of earlier steps that arrived: with `join: all` one for each edge, else the one message,
/// and what it carries of earlier steps in its metadata (`passthrough`, as OIH does).
struct Inputs {
    by_step: Vec<(String, Value)>,
    /// The message of the step before, whichever that is.
    last: Value,
}

fn inputs(task: &TaskContext) -> Result<Inputs, TaskError> {
    let mut by_step = Vec::new();
    for (message, step) in task.messages().iter().zip(task.input_nodes()) {
        let data = message
            .json()
            .map_err(|error| wrong(format!("the data of {step}: {error}")))?;
        by_step.push((step.clone(), data));
    }
    let metadata: Value = serde_json::from_slice(&task.message().metadata).unwrap_or_default();
    if let Some(passthrough) = metadata["passthrough"].as_object() {
        for (step, message) in passthrough {
            by_step.push((step.clone(), message["data"].clone()));
        }
    }
    Ok(Inputs {
        by_step,
        last: task.data()?,
    })
}

/// The action that the rule gives.
fn choose<'a>(rule: &'a Value, inputs: &Inputs) -> Result<&'a Value, TaskError> {
    match (rule["type"].as_str(), rule["subtype"].as_str()) {
        (Some("CONDITION"), _) => {
            let branch = if condition(rule, inputs, 0)? {
                "positive"
            } else {
                "negative"
            };
            Ok(&rule["actions"][branch])
        }
        (Some("BRANCHING"), Some("SWITCH")) => {
            let options = rule["options"]
                .as_array()
                .ok_or_else(|| wrong("`options` is no list"))?;
            for option in options {
                if condition(option, inputs, 0)? {
                    return Ok(&option["action"]);
                }
            }
            Ok(&rule["default"]["action"])
        }
        (kind, subtype) => Err(wrong(format!(
            "rule {}/{} is not supported: CONDITION with AND or OR, and BRANCHING with SWITCH are",
            kind.unwrap_or("without type"),
            subtype.unwrap_or("without subtype"),
        ))),
    }
}

fn condition(rule: &Value, inputs: &Inputs, depth: usize) -> Result<bool, TaskError> {
    if depth >= DEPTH_MAX {
        return Err(wrong(format!(
            "conditions are nested more than {DEPTH_MAX} deep"
        )));
    }
    if rule["type"].as_str() == Some("operation") {
        return operation(rule, inputs);
    }
    let operands = rule["operands"]
        .as_array()
        .ok_or_else(|| wrong("`operands` is no list"))?;
    let mut truths = operands
        .iter()
        .map(|operand| condition(operand, inputs, depth + 1));
    match rule["subtype"].as_str() {
        Some("AND") => truths.try_fold(true, |all, one| Ok(one? && all)),
        Some("OR") => truths.try_fold(false, |any, one| Ok(one? || any)),
        other => Err(wrong(format!("a condition is AND or OR, not {other:?}"))),
    }
}

fn operation(operation: &Value, inputs: &Inputs) -> Result<bool, TaskError> {
    let found = operand(&operation["key"], inputs)?;
    match operation["operation"].as_str() {
        Some("EQUALS") => Ok(found == operand(&operation["value"], inputs)?),
        Some("CONTAINS") => contains(&found, &operation["value"], inputs),
        Some("IS_TRUTHY") => Ok(match found {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            _ => true,
        }),
        other => Err(wrong(format!(
            "an operation is EQUALS, CONTAINS or IS_TRUTHY, not {other:?}"
        ))),
    }
}

fn contains(found: &Value, value: &Value, inputs: &Inputs) -> Result<bool, TaskError> {
    if value["type"].as_str() == Some("regex") {
        let pattern = value["data"]["value"]
            .as_str()
            .ok_or_else(|| wrong("a regex has no `value`"))?;
        // A pattern of plain characters only. A whole regular expression engine is not worth its
        // dangers in an example.
        if pattern.contains([
            '\\', '^', '$', '.', '|', '?', '*', '+', '(', ')', '[', ']', '{', '}',
        ]) {
            return Err(wrong(format!(
                "the regex {pattern:?} has special characters, which are not supported"
            )));
        }
        let text = found.as_str().unwrap_or_default();
        let ignore_case = value["data"]["flags"]
            .as_str()
            .is_some_and(|flags| flags.contains('i'));
        return Ok(if ignore_case {
            text.to_lowercase().contains(&pattern.to_lowercase())
        } else {
            text.contains(pattern)
        });
    }
    let part = operand(value, inputs)?;
    Ok(match (found, &part) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(list), part) => list.contains(part),
        _ => false,
    })
}

/// What one side of an operation is: a reference into an earlier step's output, or a constant.
fn operand(operand: &Value, inputs: &Inputs) -> Result<Value, TaskError> {
    let data = &operand["data"];
    if operand["type"].as_str() != Some("ref") {
        return Ok(data.clone());
    }
    let step = data["stepId"]
        .as_str()
        .map_or_else(|| data["stepId"].to_string(), str::to_owned);
    let field = data["field"]
        .as_str()
        .ok_or_else(|| wrong("a reference has no `field`"))?;
    let output = inputs
        .by_step
        .iter()
        .find(|(name, _)| *name == step)
        .map_or(&inputs.last, |(_, output)| output);
    let found = field
        .split('.')
        .try_fold(output, |value, part| value.get(part));
    // What is not there is null, which equals nothing that a rule asks for.
    Ok(found.cloned().unwrap_or_default())
}

/// The steps that an action runs; nothing means all.
fn targets(action: &Value, allowed: &[String]) -> Result<Option<Vec<String>>, TaskError> {
    match action["command"].as_str() {
        Some("void") => Ok(Some(Vec::new())),
        Some("run-next-steps") => {
            let parameters = action["parameters"].as_array().cloned().unwrap_or_default();
            let mut targets = Vec::new();
            for parameter in &parameters {
                let text = parameter
                    .as_str()
                    .ok_or_else(|| wrong("a parameter is no text"))?;
                // OIH writes `flow:step` too; a step of another flow is no target of this one.
                let step = text.rsplit_once(':').map_or(text, |(_, step)| step);
                if !allowed.iter().any(|target| target == step) {
                    return Err(wrong(format!(
                        "{step:?} is not among the next steps {allowed:?}"
                    )));
                }
                targets.push(step.to_owned());
            }
            Ok(Some(targets))
        }
        // As OIH does: any other command is ignored, and all next steps run.
        _ => Ok(None),
    }
}

fn wrong(message: impl Into<String>) -> TaskError {
    TaskError::fatal("RULE_NOT_UNDERSTOOD", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs(last: Value) -> Inputs {
        Inputs {
            by_step: vec![("early".to_owned(), json!({"tenant": {"zip": 55779}}))],
            last,
        }
    }

    fn sample_rule() -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/data/oih-flows/logic-gateway-flows.json");
        let flows: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        flows[0]["graph"]["nodes"][1]["fields"]["rule"].clone()
    }

    fn chosen(rule: &Value, last: Value) -> Option<Vec<String>> {
        let allowed = ["positive", "negative", "a", "b"].map(str::to_owned);
        let action = choose(rule, &inputs(last)).expect("understood");
        targets(action, &allowed).expect("targets")
    }

    fn equals(step: &str, field: &str, data: Value) -> Value {
        json!({
            "type": "operation", "operation": "EQUALS",
            "key": {"type": "ref", "data": {"stepId": step, "field": field}},
            "value": {"type": "string", "data": data},
        })
    }

    #[test]
    fn the_sample_rule_chooses_by_the_user_name() {
        let rule = sample_rule();
        let bert = json!({"username": "Bert Müller"});
        assert_eq!(chosen(&rule, bert), Some(vec!["positive".to_owned()]));
        let ada = json!({"username": "Ada Lovelace"});
        assert_eq!(chosen(&rule, ada), Some(vec!["negative".to_owned()]));
        assert_eq!(chosen(&rule, json!({})), Some(vec!["negative".to_owned()]));
    }

    #[test]
    fn conditions_nest_and_look_at_earlier_steps() {
        let rule = json!({
            "type": "CONDITION", "subtype": "OR",
            "operands": [
                equals("x", "no.such.field", json!("y")),
                {"type": "CONDITION", "subtype": "AND", "operands": [
                    equals("early", "tenant.zip", json!(55779)),
                    {"type": "operation", "operation": "CONTAINS",
                     "key": {"type": "ref", "data": {"stepId": "x", "field": "mail"}},
                     "value": {"type": "regex", "data": {"value": "EXAMPLE", "flags": "i"}}},
                ]},
            ],
            "actions": {
                "positive": {"command": "run-next-steps", "parameters": ["flow7:a"]},
                "negative": {"command": "void", "parameters": []},
            },
        });
        assert_eq!(
            chosen(&rule, json!({"mail": "x@example.com"})),
            Some(vec!["a".to_owned()])
        );
        assert_eq!(
            chosen(&rule, json!({"mail": "x@elsewhere.com"})),
            Some(vec![])
        );
    }

    #[test]
    fn a_switch_takes_the_first_true_option_or_its_default() {
        let option = |name: &str, step: &str| {
            json!({
                "type": "CONDITION", "subtype": "AND",
                "operands": [equals("x", "kind", json!(name))],
                "action": {"command": "run-next-steps", "parameters": [step]},
            })
        };
        let rule = json!({
            "type": "BRANCHING", "subtype": "SWITCH",
            "options": [option("one", "a"), option("two", "b"), option("two", "a")],
            "default": {"action": {"command": "something-else"}},
        });
        assert_eq!(
            chosen(&rule, json!({"kind": "two"})),
            Some(vec!["b".to_owned()])
        );
        assert_eq!(
            chosen(&rule, json!({"kind": "three"})),
            None,
            "all next steps"
        );
    }

    #[test]
    fn what_is_not_understood_is_fatal_and_named() {
        for (rule, word) in [
            (
                json!({"type": "BRANCHING", "subtype": "JOIN"}),
                "BRANCHING/JOIN",
            ),
            (
                json!({"type": "CONDITION", "subtype": "XOR", "operands": []}),
                "XOR",
            ),
            (json!({"type": "CONDITION", "subtype": "AND"}), "operands"),
            (
                json!({"type": "CONDITION", "subtype": "AND", "operands": [{"type": "operation"}]}),
                "EQUALS",
            ),
        ] {
            let error = choose(&rule, &inputs(json!({}))).expect_err(word);
            assert!(error.fatal && error.message.contains(word), "{error}");
        }
        let action = json!({"command": "run-next-steps", "parameters": ["nowhere"]});
        assert!(
            targets(&action, &["a".to_owned()])
                .unwrap_err()
                .message
                .contains("nowhere")
        );
        let mut deep = equals("x", "y", json!(1));
        for _ in 0..100 {
            deep = json!({"type": "CONDITION", "subtype": "AND", "operands": [deep]});
        }
        assert!(
            choose(&deep, &inputs(json!({})))
                .unwrap_err()
                .message
                .contains("deep")
        );
    }
}
