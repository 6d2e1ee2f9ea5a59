//! Holds what docs/architecture.md says of the workspace: which crate may use which, where each
//! vendor has its home, how long a file may be. Reads the manifests and the sources; builds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use tidemill_tests::workspace::{self, cargo, root};

/// The most lines that a source file may have without saying at its top why it is longer.
const FILE_LINES_MAX: usize = 600;
/// How far from the top the reason for a long file may stand.
const REASON_WITHIN_LINES: usize = 20;

/// What each crate of ours may have as a normal or build dependency, of ours. Arrows point down only.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("expression", &[]),
    ("rows", &["types"]),
    ("core", &["types", "expression", "rows"]),
    ("proto", &["types", "rows"]),
    ("store", &["types", "rows"]),
    ("replica", &["types", "rows", "proto", "store"]),
    (
        "server",
        &[
            "types",
            "expression",
            "rows",
            "core",
            "proto",
            "store",
            "replica",
        ],
    ),
    ("sdk", &["types", "proto"]),
    ("testkit", &["types", "rows", "core"]),
    // Compiles files of `replica` and `store` a second time, and so stands where those do; nothing
    // stands on it.
    (
        "simulation",
        &[
            "types", "rows", "core", "proto", "replica", "server", "testkit",
        ],
    ),
    (
        "tidemill",
        &[
            "types",
            "expression",
            "rows",
            "core",
            "proto",
            "store",
            "replica",
            "server",
            "sdk",
        ],
    ),
    // It judges the engine, so it knows nothing of it: only nouns and the public messages.
    ("checker", &["types", "proto"]),
    ("loadtest", &["types", "proto", "sdk", "tests", "checker"]),
    ("tests", &["types", "sdk", "checker"]),
];

/// External crates that a crate of ours must not name, as a dependency of any kind that ships.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "types",
        &[
            "tokio",
            "rand",
            "getrandom",
            "uuid",
            "prost",
            "tonic",
            "openraft",
            "rocksdb",
        ],
    ),
    (
        "expression",
        &[
            "tokio",
            "rand",
            "getrandom",
            "uuid",
            "prost",
            "tonic",
            "openraft",
            "rocksdb",
        ],
    ),
    (
        "rows",
        &[
            "tokio",
            "rand",
            "getrandom",
            "uuid",
            "tonic",
            "openraft",
            "rocksdb",
        ],
    ),
    (
        "core",
        &[
            "tokio",
            "rand",
            "getrandom",
            "uuid",
            "tonic",
            "openraft",
            "rocksdb",
        ],
    ),
    ("proto", &["openraft", "rocksdb"]),
    ("store", &["openraft", "tonic", "axum"]),
    ("replica", &["axum", "rocksdb"]),
    ("server", &["openraft", "rocksdb"]),
    ("sdk", &["openraft", "rocksdb", "axum"]),
    ("testkit", &["openraft", "rocksdb", "tonic"]),
];

/// A vendor's types stay behind one crate of ours.
const HOMES: &[(&str, &str)] = &[("openraft", "replica"), ("rocksdb", "store")];

/// This crate is that one's files, compiled again, and so has its vendor.
const RECOMPILES: (&str, &str) = ("simulation", "replica");

/// Crates that must not reach these by any path: a pure crate's dependencies are pure too.
const PURE: &[&str] = &["types", "expression", "rows", "core"];
const IMPURE: &[&str] = &[
    "tokio",
    "rand",
    "getrandom",
    "uuid",
    "openraft",
    "rocksdb",
    "tonic",
    "mio",
    "reqwest",
    "hyper",
];

/// The workspace's packages, by their short name (without `tidemill-`).
fn packages() -> BTreeMap<String, Value> {
    workspace::packages(&["--no-deps"])
        .into_iter()
        .map(|package| (short(text_of(&package["name"])), package))
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("tidemill-").unwrap_or(name).to_owned()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a string in cargo's metadata")
}

/// The names of a package's dependencies that ship with it: all kinds but `dev`.
fn shipped(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"]
        .as_array()
        .expect("a package has dependencies")
        .iter()
        .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
}

fn is_ours(name: &str) -> bool {
    name == "tidemill" || name.starts_with("tidemill-")
}

/// All files with one of these endings below the workspace, without what is built or stored.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be listed") {
            let entry = entry.expect("a folder entry can be read");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                let stored = name.starts_with("tidemill-") || name == "target" || name == ".git";
                if !stored {
                    folders.push(path);
                }
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn report(rule: &str, problems: Vec<String>) {
    assert!(problems.is_empty(), "{rule}:\n  {}", problems.join("\n  "));
}

#[test]
fn crates_depend_downwards_only() {
    let layers: BTreeMap<&str, BTreeSet<&str>> = LAYERS
        .iter()
        .map(|(name, below)| (*name, below.iter().copied().collect()))
        .collect();
    let mut problems = Vec::new();
    for (name, package) in packages() {
        let Some(below) = layers.get(name.as_str()) else {
            problems.push(format!("{name} has no place in LAYERS: give it one"));
            continue;
        };
        for dependency in shipped(&package) {
            let dependency = text_of(&dependency["name"]);
            if is_ours(dependency) && !below.contains(short(dependency).as_str()) {
                problems.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    report("a crate depends on crates below it only", problems);
}

#[test]
fn every_layer_is_a_crate() {
    let packages = packages();
    let gone = LAYERS
        .iter()
        .filter(|(name, _)| !packages.contains_key(*name));
    report(
        "LAYERS names crates that exist",
        gone.map(|(name, _)| (*name).to_owned()).collect(),
    );
}

#[test]
fn crates_keep_to_their_vendors() {
    let packages = packages();
    let mut problems = Vec::new();
    for (name, forbidden) in FORBIDDEN {
        let package = packages
            .get(*name)
            .expect("FORBIDDEN names crates that exist");
        for dependency in shipped(package) {
            let dependency = text_of(&dependency["name"]);
            if forbidden.contains(&dependency) {
                problems.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    for (vendor, home) in HOMES {
        for (name, package) in &packages {
            let uses = shipped(package).any(|dependency| text_of(&dependency["name"]) == *vendor);
            let is_recompiled = RECOMPILES == (name.as_str(), *home);
            if uses && name != home && !is_recompiled {
                problems.push(format!("{vendor} has its home in {home}, not in {name}"));
            }
        }
    }
    report("each vendor has one home", problems);
}

#[test]
fn pure_crates_read_no_clock_by_chrono() {
    let packages = packages();
    let mut problems = Vec::new();
    for name in PURE {
        let package = packages.get(*name).expect("PURE names crates that exist");
        for dependency in shipped(package).filter(|d| text_of(&d["name"]) == "chrono") {
            let by_default = dependency["uses_default_features"].as_bool() != Some(false);
            let features = dependency["features"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let by_name = features
                .iter()
                .any(|f| ["clock", "now"].contains(&text_of(f)));
            if by_default || by_name {
                problems.push(format!("{name} switches chrono's clock on"));
            }
        }
    }
    report("the pure crates use chrono without its clock", problems);
}

#[test]
fn pure_crates_reach_nothing_impure() {
    let mut problems = Vec::new();
    for name in PURE {
        let package = format!("tidemill-{name}");
        // Procedural macros run in the compiler, not in the crate.
        let tree = cargo(&[
            "tree",
            "--offline",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--package",
            &package,
        ]);
        let reached: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
        assert!(
            reached.contains(package.as_str()),
            "cargo tree names the crate itself"
        );
        for impure in IMPURE.iter().filter(|impure| reached.contains(**impure)) {
            problems.push(format!(
                "{name} reaches {impure}: cargo tree -i {impure} -p {package}"
            ));
        }
    }
    report("the pure crates' dependencies are pure", problems);
}

#[test]
fn every_crate_takes_the_workspaces_lints() {
    let mut problems = Vec::new();
    for (name, package) in packages() {
        let manifest = std::fs::read_to_string(text_of(&package["manifest_path"]))
            .expect("a manifest can be read");
        if !manifest.contains("[lints]\nworkspace = true") {
            problems.push(format!("{name} has no `[lints] workspace = true`"));
        }
    }
    report(
        "the workspace's lints (no unsafe code) hold everywhere",
        problems,
    );
}

#[test]
fn a_long_file_says_why() {
    let mut problems = Vec::new();
    for path in files(&[".rs", ".proto", ".sh"]) {
        let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
        let lines = text.lines().count();
        let top = text.lines().take(REASON_WITHIN_LINES);
        let reason = top
            .filter_map(|line| line.split_once("Long because:"))
            .any(|(_, why)| !why.trim().is_empty());
        if lines > FILE_LINES_MAX && !reason {
            problems.push(format!("{}: {lines} lines", path.display()));
        }
    }
    report(
        "a file has at most 600 lines, or a line `// Long because: …` near its top",
        problems,
    );
}

#[test]
fn modules_are_named_files() {
    let sources = files(&["mod.rs"]).into_iter();
    let in_crates = sources.filter(|path| path.starts_with(root().join("crates")));
    report(
        "a module is name.rs and name/, not mod.rs",
        in_crates
            .filter(|path| path.file_name().is_some_and(|name| name == "mod.rs"))
            .filter(|path| path.components().any(|part| part.as_os_str() == "src"))
            .map(|path| path.display().to_string())
            .collect(),
    );
}

#[test]
fn no_toolchain_file() {
    // rustup would download a whole toolchain for it; `rust-version` says what is needed.
    for name in ["rust-toolchain.toml", "rust-toolchain"] {
        assert!(!root().join(name).exists(), "{name} must not exist");
    }
}
