//! Documents in, problems out: the cases stand in `flow_problems.txt`.

use tidemill_core::flow;

const CASES: &str = include_str!("flow_problems.txt");

/// What an author sees of a text, a line per problem.
fn problems_of(text: &str) -> String {
    let problems = match flow::parse(text) {
        Err(problems) => problems,
        Ok(documents) => documents.iter().flat_map(flow::validate).collect(),
    };
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// Each case is `=== what it shows`, the text, `---`, and the problems; set `UPDATE=1` to write the latter anew.
#[allow(
    clippy::disallowed_methods,
    reason = "a test rewrites its data when asked"
)]
#[test]
fn each_text_has_the_problems_that_stand_below_it() {
    let mut actual = String::new();
    for case in CASES.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title");
        let (text, _) = rest.split_once("\n---\n").expect("a text and its problems");
        actual.push_str(&format!(
            "=== {title}\n{text}\n---\n{}\n",
            problems_of(text)
        ));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/flow_problems.txt"),
            &actual,
        )
        .expect("the cases can be written");
        return;
    }
    for (expected, actual) in CASES.split("=== ").zip(actual.split("=== ")) {
        assert_eq!(expected.trim_end(), actual.trim_end());
    }
}
