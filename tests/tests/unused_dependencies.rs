//! Catches what the compiler does not: a dependency that is declared and that nothing names.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tidemill_tests::workspace::packages;

/// All Rust text of a package.
fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a package's folder can be listed") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source file is UTF-8"));
        }
    }
}

/// Whether the text uses the crate: `rand::rng()` or `use rand;`, but not `operand::new()`.
fn uses(text: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let is_path = after.starts_with("::") && !before.ends_with(part_of_word);
        let is_import = before.ends_with("use ") && !after.starts_with(part_of_word);
        is_path || is_import
    })
}

#[test]
fn a_use_is_a_whole_word() {
    assert!(uses("let x = rand::rng();", "rand"));
    assert!(uses("use rand as r;", "rand"));
    assert!(!uses("operand::new(); // rand is not used", "rand"));
    assert!(!uses("use rand_core;", "rand"));
}

/// One that only generated code uses is listed in its package's
/// `[package.metadata.cargo-machete] ignored`, which cargo-machete reads too.
#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for package in packages(&["--no-deps"]) {
        let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
        let mut text = String::new();
        sources(
            manifest.parent().expect("a manifest is in a folder"),
            &mut text,
        );
        let ignored = &package["metadata"]["cargo-machete"]["ignored"];
        let ignored: Vec<&Value> = ignored.as_array().into_iter().flatten().collect();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if ignored.contains(&&dependency["name"]) {
                continue;
            }
            let renamed = dependency["rename"].as_str();
            let name = renamed.unwrap_or(dependency["name"].as_str().expect("a name"));
            if !uses(&text, &name.replace('-', "_")) {
                unused.push(format!("{}: {name}", package["name"]));
            }
        }
    }
    unused.sort();
    assert!(unused.is_empty(), "declared and never named: {unused:#?}");
}
