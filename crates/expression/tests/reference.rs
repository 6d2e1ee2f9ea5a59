//! Each case of reference.json gives what the reference implementation of JSONata gives.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tidemill_expression::{EvaluateError, Expression, Limits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    #[allow(dead_code)]
    note: String,
    inputs: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    input: String,
    expression: String,
    /// Absent for nothing and for errors; a present null is a result.
    #[serde(default, with = "present")]
    result: Option<Value>,
    #[serde(default)]
    nothing: bool,
    error: Option<String>,
}

mod present {
    use serde::{Deserialize, Deserializer};
    use serde_json::Value;

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(from).map(Some)
    }
}

/// Where we differ on purpose: the expression, what we give, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "a[",
        "error S0207",
        "we say that the expression ends too early, not that `]` is missing",
    ),
    ("$eval", "error TX0002", "refused when parsed"),
];

fn ours(expression: &str, input: &Value) -> String {
    let parsed = match Expression::parse(expression) {
        Ok(parsed) => parsed,
        Err(error) => {
            return format!(
                "error {}",
                error.message.split(':').next().unwrap_or_default()
            );
        }
    };
    match parsed.evaluate(input, &[], &Limits::transform()) {
        Ok(None) => "nothing".to_owned(),
        Ok(Some(value)) => format!("result {}", normal(&value)),
        Err(EvaluateError::Failed { code: "TX1001", .. }) => "error function".to_owned(),
        Err(EvaluateError::Failed { code, .. }) => format!("error {code}"),
        Err(limit) => format!("limit {limit}"),
    }
}

/// Text in which 1 and 1.0 are the same.
fn normal(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("{}", number.as_f64().expect("a double")),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(normal).collect::<Vec<_>>().join(",")
        ),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", normal(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn agrees_with_the_reference_implementation() {
    let text = include_str!("reference.json");
    let corpus: Corpus = serde_json::from_str(text).expect("reference.json has this shape");
    assert!(
        corpus.cases.len() >= 300,
        "the corpus has only {} cases",
        corpus.cases.len()
    );
    let mut differences = Vec::new();
    let mut exceptions_seen = 0;
    for case in &corpus.cases {
        let input = &corpus.inputs[&case.input];
        let wanted = match (&case.error, &case.result) {
            (Some(code), _) => format!("error {code}"),
            (None, Some(value)) => format!("result {}", normal(value)),
            (None, None) => {
                assert!(case.nothing, "{} has no outcome", case.expression);
                "nothing".to_owned()
            }
        };
        let found = ours(&case.expression, input);
        if let Some((_, ours, _)) = EXCEPTIONS
            .iter()
            .find(|(known, _, _)| *known == case.expression)
        {
            exceptions_seen += 1;
            assert_eq!(&found, ours, "the exception {}", case.expression);
            assert_ne!(found, wanted, "no exception any more: {}", case.expression);
        } else if found != wanted {
            differences.push(format!(
                "[{}] {}\n   wanted {wanted}\n   found  {found}",
                case.input, case.expression
            ));
        }
    }
    assert_eq!(
        exceptions_seen,
        EXCEPTIONS.len(),
        "each exception is in the corpus"
    );
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
