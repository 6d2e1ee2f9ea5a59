//! Holds docs/limits.md complete: every constant of the limits file with its value and meaning, and the test
//! that reaches it, which must exist.

use std::{fmt::Write as _, path::Path};

/// What a row says that has no test.
const NOT_REACHED: &str = "not reached by a test";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A constant, as the source has it.
#[derive(Debug)]
struct Limit {
    name: String,
    value: String,
    meaning: String,
}

fn limits() -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut meaning: Vec<String> = Vec::new();
    let source = read("crates/types/src/limits.rs");
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            meaning.push(text.to_owned());
        } else if let Some(declared) = line.strip_prefix("pub const ") {
            let (name, rest) = declared.split_once(": ").expect("a name and its type");
            let (_, value) = rest.split_once(" = ").expect("a value on the same line");
            let value = value.trim_end_matches(';');
            let is_number = value
                .bytes()
                .all(|b| b.is_ascii_digit() || b"_ *".contains(&b));
            limits.push(Limit {
                name: name.to_owned(),
                value: if is_number {
                    value.replace('_', "")
                } else {
                    value.to_owned()
                },
                meaning: std::mem::take(&mut meaning).join(" "),
            });
        }
    }
    limits
}

/// The cells of the table's rows: name, value, meaning, what reaches it.
fn rows() -> Vec<Vec<String>> {
    let text = read("docs/limits.md");
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_table_is_that_of_the_source() {
    let (limits, rows) = (limits(), rows());
    assert!(limits.len() > 100, "the source was read");
    let expected: Vec<_> = limits
        .iter()
        .map(|limit| {
            let name = format!("`{}`", limit.name);
            [name, limit.value.clone(), limit.meaning.clone()]
        })
        .collect();
    let found: Vec<_> = rows.iter().map(|row| &row[..3]).collect();
    let mut wrong = String::new();
    for row in &expected {
        if !found.contains(&row.as_slice()) {
            let _ = writeln!(wrong, "| {} | {NOT_REACHED} |", row.join(" | "));
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/limits.md lacks, or has otherwise:\n{wrong}"
    );
    let unknown: Vec<_> = found
        .iter()
        .filter(|row| !expected.iter().any(|one| one.as_slice() == **row))
        .collect();
    assert!(unknown.is_empty(), "not in the source: {unknown:?}");
    assert_eq!(found.len(), expected.len(), "a row is there twice");
}

#[test]
fn the_tests_that_it_names_exist() {
    let mut wrong = Vec::new();
    for row in rows() {
        let reached = &row[3];
        if reached == NOT_REACHED {
            continue;
        }
        // `name` in path
        let named = reached
            .strip_prefix('`')
            .and_then(|rest| rest.split_once("` in "));
        let Some((test, path)) = named else {
            wrong.push(format!("{}: {reached}", row[0]));
            continue;
        };
        // A test: an attribute above it, and not only a function of that name.
        let source = read(path);
        let is_test = source.split("test]").skip(1).chain(
            // tokio::test with arguments, and proptest's, end otherwise.
            source.split("test(").skip(1),
        );
        let function = format!("fn {test}(");
        if !is_test.into_iter().any(|after| {
            let first = after.find("fn ").map(|at| &after[at..]);
            first.is_some_and(|first| first.starts_with(&function))
        }) {
            wrong.push(format!("{}: no test {test} in {path}", row[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
