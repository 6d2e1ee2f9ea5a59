//! The cases of cases.txt, and what the library promises around evaluation.

use serde_json::{Value, json};
use tidemill_expression::{EvaluateError, Expression, Limits};

/// 2024-02-29T12:34:56.789Z
const NOW_MS: i64 = 1_709_210_096_789;

fn check(
    expression: &str,
    input: &Value,
    variables: &[(&str, &Value)],
    wanted: &str,
) -> Result<(), String> {
    let limits = Limits::default().at(NOW_MS);
    let found = Expression::parse(expression)
        .map_err(|error| error.to_string())
        .and_then(|parsed| {
            parsed
                .evaluate(input, variables, &limits)
                .map_err(|error| error.to_string())
        });
    let agrees = match (&found, wanted.strip_prefix("error ")) {
        (Err(message), Some(part)) => message.contains(part),
        (Ok(None), None) => wanted == "nothing",
        (Ok(Some(value)), None) => {
            serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value)
        }
        _ => false,
    };
    if agrees {
        Ok(())
    } else {
        Err(format!(
            "{expression}\n   wanted {wanted}\n   found  {found:?}"
        ))
    }
}

#[test]
fn cases() {
    let mut input = Value::Null;
    let mut variables: Vec<(String, Value)> = Vec::new();
    let mut failures = Vec::new();
    let mut count = 0;
    for line in include_str!("cases.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(json) = line.strip_prefix("input ") {
            input = serde_json::from_str(json).expect("the input is JSON");
        } else if let Some(rest) = line.strip_prefix("variable ") {
            let (name, json) = rest
                .split_once(' ')
                .expect("a variable has a name and a value");
            variables.push((
                name.to_owned(),
                serde_json::from_str(json).expect("the value is JSON"),
            ));
        } else {
            let (expression, wanted) = line.split_once("  =>  ").expect("a case has an outcome");
            let bindings: Vec<(&str, &Value)> = variables
                .iter()
                .map(|(name, value)| (&**name, value))
                .collect();
            failures.extend(check(expression.trim(), &input, &bindings, wanted).err());
            count += 1;
        }
    }
    assert!(count > 50, "only {count} cases were found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_condition_must_be_true_or_false() {
    let input = json!({"amount": 3, "missing": null});
    let limits = Limits::default();
    let condition = |source: &str| {
        Expression::parse(source)
            .expect("the condition parses")
            .evaluate_condition(&input, &[], &limits)
    };
    assert_eq!(condition("amount > 2"), Ok(true));
    assert_eq!(condition("amount > 3"), Ok(false));
    assert_eq!(
        condition("$boolean(nope)"),
        Err(EvaluateError::NotBoolean { got: "nothing" })
    );
    assert_eq!(condition("$exists(nope)"), Ok(false));
    for (source, got) in [
        ("nope > 2", "nothing"),
        ("amount", "number"),
        ("'true'", "string"),
        ("missing", "null"),
        ("[true, false]", "array"),
        ("$", "object"),
        ("$not", "function"),
    ] {
        assert_eq!(
            condition(source),
            Err(EvaluateError::NotBoolean { got }),
            "{source}"
        );
    }
}

#[test]
fn without_a_time_there_is_none() {
    for source in ["$now()", "$millis()"] {
        let expression = Expression::parse(source).expect("it parses");
        let error = expression
            .evaluate(&Value::Null, &[], &Limits::default())
            .expect_err(source);
        assert!(
            matches!(error, EvaluateError::Failed { code: "TX1002", .. }),
            "{error}"
        );
    }
}

#[test]
fn each_limit_is_reached_exactly() {
    let evaluate = |source: &str, limits: &Limits| {
        Expression::parse(source).expect("it parses").evaluate(
            &json!({"a": "0123456789"}),
            &[],
            limits,
        )
    };
    let output = |bytes| Limits {
        output_bytes: bytes,
        ..Limits::default()
    };
    assert!(evaluate("a", &output(13)).is_ok());
    assert_eq!(
        evaluate("a", &output(12)),
        Err(EvaluateError::OutputLimit { limit: 12 })
    );

    let depth = |depth| Limits {
        depth,
        ..Limits::default()
    };
    assert!(evaluate("(((1)))", &depth(4)).is_ok());
    assert_eq!(
        evaluate("(((1)))", &depth(3)),
        Err(EvaluateError::DepthLimit)
    );

    let steps = |steps| Limits {
        steps,
        ..Limits::default()
    };
    let needed = (0..)
        .find(|count| evaluate("$sum([1..10])", &steps(*count)).is_ok())
        .expect("some count suffices");
    assert!(
        (10..200).contains(&needed),
        "{needed} steps for a sum of ten"
    );
    assert_eq!(
        evaluate("$sum([1..10])", &steps(needed - 1)),
        Err(EvaluateError::StepLimit { limit: needed - 1 })
    );

    let memory = |memory_bytes| Limits {
        memory_bytes,
        ..Limits::default()
    };
    assert!(evaluate("$pad(a, 100)", &memory(4_096)).is_ok());
    assert_eq!(
        evaluate("$pad(a, 2000)", &memory(4_096)),
        Err(EvaluateError::MemoryLimit { limit: 4_096 })
    );
}

#[test]
fn an_expression_can_be_shared_and_shown() {
    fn shared<T: Clone + Send + Sync + 'static>(value: &T) -> T {
        value.clone()
    }
    let expression = Expression::parse("a & /b/i(\"B\").match").expect("it parses");
    let clone = shared(&expression);
    assert_eq!(clone.source(), expression.source());
    assert_eq!(
        format!("{clone:?}"),
        r#"Expression("a & /b/i(\"B\").match")"#
    );
    for number in 0..3 {
        let result = clone.evaluate(&json!({"a": number}), &[], &Limits::default());
        assert_eq!(result, Ok(Some(json!(format!("{number}B")))));
    }
}

#[test]
fn a_refusal_says_where() {
    let error = Expression::parse("é & 'x' & )").expect_err("it does not parse");
    assert_eq!(error.position, 10);
    assert!(error.to_string().contains("character 10"), "{error}");
}
