//! The fuzz targets without a fuzzer: every kept seed, and thousands of mutations of them, the same each time.
//!
//! `TIDEMILL_FUZZ_MUTATIONS` sets how many per target. A failure leaves its input in the folder for temporary
//! files and says where: put it into `tests/fuzz/seeds/TARGET` as `any-WHAT` once it is mended.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use tidemill_tests::random::Random;

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
#[path = "fuzz_seeds/writing.rs"]
mod writing;

/// Mutations per target unless TIDEMILL_FUZZ_MUTATIONS says otherwise.
const MUTATIONS: u64 = 10_000;
/// Most bytes of a mutated input.
const INPUT_BYTES_MAX: usize = 8 * 1024;
/// Most changes that make one mutation.
const CHANGES_MAX: u64 = 6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Names and bytes of a target's seeds, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("seeds").join(target);
    let mut seeds: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let entry = entry.expect("a folder's entry");
            let name = entry.file_name().into_string().expect("a plain name");
            (name, std::fs::read(entry.path()).expect("a seed"))
        })
        .collect();
    seeds.sort();
    seeds
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            let name = name.into_string().expect("a plain name");
            name.strip_suffix(".rs").unwrap_or(&name).to_owned()
        })
        .collect()
}

#[test]
fn each_target_has_seeds_and_a_fuzzer() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(n, _)| (*n).into()).collect();
    assert_eq!(names_in(&folder().join("seeds")), targets);
    assert_eq!(names_in(&folder().join("fuzz_targets")), targets);
    for target in &targets {
        let file = folder().join("fuzz_targets").join(format!("{target}.rs"));
        let text = std::fs::read_to_string(file).expect("a target's file");
        assert!(
            text.contains(&format!("run(\"{target}\", bytes)")),
            "{target}"
        );
    }
}

/// So that a mutation is near something that is read: a seed is accepted unless its name says otherwise.
#[test]
fn each_seed_is_accepted_or_named_bad() {
    let mut wrong = Vec::new();
    for (target, _) in fuzz::TARGETS {
        let mut accepted = 0;
        for (name, bytes) in seeds(target) {
            let found = fuzz::run(target, &bytes);
            accepted += u32::from(found);
            if !name.starts_with("any-") && found == name.starts_with("bad-") {
                wrong.push(format!("{target}/{name}"));
            }
        }
        assert!(accepted > 0, "no seed of {target} is accepted");
    }
    assert!(
        wrong.is_empty(),
        "accepted or refused against their names: {wrong:#?}"
    );
}

#[test]
fn every_request_and_every_row_is_fuzzed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let words_after = |folder: &str, before: &str| -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let Ok(text) = std::fs::read_to_string(path) else {
                continue;
            };
            found.extend(text.split(before).skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_alphanumeric());
                rest[..end.unwrap_or(rest.len())].to_owned()
            }));
        }
        found
    };
    // A PageRequest is part of other requests.
    let requests: BTreeSet<String> = words_after("proto/tidemill/v1", "\nmessage ")
        .into_iter()
        .filter(|name| name.ends_with("Request") && name != "PageRequest")
        .collect();
    let fuzzed: BTreeSet<String> = fuzz::REQUESTS.iter().map(|(n, _)| (*n).into()).collect();
    assert_eq!(fuzzed, requests);
    // Rows are those that `stored!` declares: indented, in the table modules.
    let rows = words_after("crates/rows/src/table", "\n    pub struct ");
    let fuzzed: BTreeSet<String> = fuzz::ROWS.iter().map(|(n, _)| (*n).into()).collect();
    let missing: Vec<_> = rows.difference(&fuzzed).collect();
    assert!(missing.is_empty() && !rows.is_empty(), "{missing:?}");
}

/// Not a test: writes the seeds that no editor can write. Run it when a message or a row gets a field:
/// `cargo nextest run -p tidemill-tests --test fuzz_seeds --run-ignored only`.
#[test]
#[ignore = "writes tests/fuzz/seeds"]
fn write_binary_seeds() {
    for (target, name, bytes) in writing::seeds() {
        let path = folder().join("seeds").join(target).join(name);
        std::fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// What texts and protobuf are sensitive to.
const MORSELS: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80",
    b"\xf0\x9f\x98\x80",
    b"\xc3",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e308",
    b"null",
    b"\"",
    b"\\u0000",
    b"{",
    b"}",
    b"[[[[[[[[",
    b"]",
    b"(",
    b")",
    b"*",
    b"/",
    b",",
    b": ",
    b"\n",
    b"\r\n",
    b"- ",
    b"&a",
    b"*a",
    b"$",
    b"%",
    b"%ff",
    b"&",
    b"=",
    b"<!DOCTYPE",
    b"<a>",
    b"L",
    b"#",
    b"W",
];

/// One input: a seed, changed a few times.
fn mutated(seeds: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].1.clone();
    for _ in 0..=random.draw() % CHANGES_MAX {
        let at = random.below(bytes.len() + 1);
        let to = at + random.below(bytes.len() - at + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.draw() as u8,
            2 => drop(bytes.drain(at..to.min(at + 16))),
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..to].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = &seeds[random.below(seeds.len())].1;
                let from = random.below(other.len() + 1);
                let part = other[from..].to_vec();
                bytes.splice(at..to, part);
            }
            _ => {
                let morsel = MORSELS[random.below(MORSELS.len())];
                bytes.splice(at..at, morsel.iter().copied());
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

/// Feeds mutations to a target. Each has a seed of its own, so that one is repeated without those before.
fn feed(target: &str) {
    let count = std::env::var("TIDEMILL_FUZZ_MUTATIONS")
        .map_or(MUTATIONS, |text| text.parse().expect("a number"));
    let seeds = seeds(target);
    let mut accepted = 0;
    for number in 0..count {
        let bytes = mutated(&seeds, &mut Random::new(number, 0));
        match catch_unwind(AssertUnwindSafe(|| fuzz::run(target, &bytes))) {
            Ok(found) => accepted += u64::from(found),
            Err(_) => {
                let path = std::env::temp_dir().join(format!("any-{target}-{number}"));
                std::fs::write(&path, &bytes).expect("the input can be kept");
                panic!(
                    "{target}, mutation {number}: see above; the input is in {}",
                    path.display()
                );
            }
        }
    }
    println!("{target}: {accepted} of {count} were accepted");
    // With none accepted only the first check of each target would have been reached.
    assert!(accepted > 0, "no mutation of {target} was accepted");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { feed(stringify!($name)); })*

        #[test]
        fn every_target_is_fed() {
            let fed: BTreeSet<&str> = [$(stringify!($name)),*].into();
            assert_eq!(fed, fuzz::TARGETS.iter().map(|(name, _)| *name).collect());
        }
    };
}

targets!(flow_document expression cron webhook grpc journal_file peer stored);
