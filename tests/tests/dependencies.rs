//! Holds what deny.toml says of what we depend on, where cargo-deny is not installed: licences and
//! sources.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tidemill_tests::workspace::{packages, root};

/// The target that the toolchain builds for: other platforms' crates may not be downloaded.
fn host() -> String {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("rustc prints UTF-8");
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("rustc names its host")
        .to_owned()
}

fn every_package() -> Vec<Value> {
    packages(&["--filter-platform", &host()])
}

/// The licences that deny.toml allows.
fn allowed_licences() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml can be read");
    let deny: toml::Table = text.parse().expect("deny.toml is TOML");
    deny["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow is a list")
        .iter()
        .map(|licence| licence.as_str().expect("a licence is a string").to_owned())
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds more than `OR`;
/// `/` is what old manifests write for `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any_of(&words, allowed);
    assert!(
        rest.is_empty(),
        "licence expression not understood: {expression}"
    );
    met
}

fn any_of<'a, 'b>(words: &'b [&'a str], allowed: &BTreeSet<String>) -> (bool, &'b [&'a str]) {
    let (mut met, mut rest) = all_of(words, allowed);
    while rest.first() == Some(&"OR") {
        let (next, after) = all_of(&rest[1..], allowed);
        met |= next;
        rest = after;
    }
    (met, rest)
}

fn all_of<'a, 'b>(words: &'b [&'a str], allowed: &BTreeSet<String>) -> (bool, &'b [&'a str]) {
    let (mut met, mut rest) = one(words, allowed);
    while rest.first() == Some(&"AND") {
        let (next, after) = one(&rest[1..], allowed);
        met &= next;
        rest = after;
    }
    (met, rest)
}

fn one<'a, 'b>(words: &'b [&'a str], allowed: &BTreeSet<String>) -> (bool, &'b [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (met, rest) = any_of(inner, allowed);
            assert_eq!(rest.first(), Some(&")"), "unclosed bracket in a licence");
            (met, &rest[1..])
        }
        [licence, "WITH", exception, rest @ ..] => (
            allowed.contains(&format!("{licence} WITH {exception}")),
            rest,
        ),
        [licence, rest @ ..] => (allowed.contains(*licence), rest),
        [] => panic!("a licence expression ends too soon"),
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed: BTreeSet<String> = ["MIT", "Zlib", "A WITH E"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT AND Zlib", true),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("(MIT OR Zlib) AND GPL-3.0", false),
        ("GPL-3.0 AND MIT OR Zlib", true),
        ("A WITH E", true),
        ("MIT WITH E", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed_licences();
    let packages = every_package();
    assert!(packages.len() > 100, "all dependencies are looked at");
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or("none"), &allowed))
        .map(|package| format!("{} ({})", package["name"], package["license"]))
        .collect();
    assert!(
        refused.is_empty(),
        "deny.toml does not allow the licences of {refused:#?}"
    );
}

#[test]
fn everything_comes_from_crates_io() {
    let elsewhere: Vec<String> = every_package()
        .iter()
        .filter(|package| {
            let source = package["source"].as_str();
            source.is_some_and(|s| s != "registry+https://github.com/rust-lang/crates.io-index")
        })
        .map(|package| package["name"].to_string())
        .collect();
    assert!(elsewhere.is_empty(), "not from crates.io: {elsewhere:?}");
}
