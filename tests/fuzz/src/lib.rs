//! What is fuzzed: whatever comes from outside or from the disk, as bytes.
//!
//! Each target takes any bytes, must not panic, hang or eat memory, and says whether they were accepted. What
//! was accepted is held to more: written again and read again it is the same, and it means the same.
//! Run by libFuzzer (`fuzz_targets/`, `make fuzz`) and, with the kept seeds and seeded mutations of them, by
//! `tests/tests/fuzz_seeds.rs` in `make test`.

mod grpc;
mod peer;
mod stored;
mod text;
mod webhook;

pub use grpc::REQUESTS;
pub use stored::ROWS;

/// A target: true when the bytes were accepted.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name. Each has a folder in `seeds/` and a file in `fuzz_targets/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("flow_document", text::flow_document),
    ("expression", text::expression),
    ("cron", text::cron),
    ("webhook", webhook::webhook),
    ("grpc", grpc::grpc),
    ("journal_file", text::journal_file),
    ("peer", peer::peer),
    ("stored", stored::stored),
];

/// Runs a target by its name.
///
/// # Panics
/// When there is none of that name, and when the target found something.
pub fn run(name: &str, bytes: &[u8]) -> bool {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("a target's name").1(bytes)
}
