//! The workspace as cargo and its files tell of it, for the tests that hold its rules.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Its folder.
///
/// # Panics
/// Never: this package lies in it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package lies in the workspace's folder")
        .to_path_buf()
}

/// What cargo prints.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {args:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// The packages that `cargo metadata` knows, asked with these arguments beside the usual ones.
///
/// # Panics
/// When cargo fails.
#[must_use]
pub fn packages(args: &[&str]) -> Vec<Value> {
    let usual = ["metadata", "--offline", "--format-version", "1"];
    let text = cargo(&[&usual, args].concat());
    let metadata: Value = serde_json::from_str(&text).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}
