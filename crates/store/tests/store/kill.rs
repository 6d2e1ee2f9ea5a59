//! Killed with SIGKILL while it writes, everything acknowledged is there.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
};

use bytes::Bytes;
use tidemill_rows::{Mutation, Table, key};
use tidemill_store::{NodeStore, StoreOptions};
use tidemill_types::PartitionId;

use super::{GROUP, entry, identity, open, read_all};

const CHILD: &str = "TIDEMILL_STORE_TEST_DIR";
const GROUPS: u16 = 3;
const IN_FLIGHT: usize = 8;

/// Runs a test of this file as a process of its own that writes into `dir`, and kills it at a line for which `at` says
/// so. What is still in the pipe then was said before, and is told too.
fn run_until(test: &str, dir: &Path, mut at: impl FnMut(&str) -> bool) {
    let mut child = Command::new(env::current_exe().expect("path"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("child");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    for line in output.lines().map_while(Result::ok) {
        if at(&line) {
            child.kill().expect("kill");
        }
    }
    child.wait().expect("ended");
}

/// Appends for ever, and prints each acknowledgement.
fn write_until_killed(dir: &Path) {
    let store = open(dir);
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    std::thread::spawn(move || {
        for index in 0_u64.. {
            for group in 0..GROUPS {
                let log = store.log(PartitionId(group));
                let next = log.last_index().map_or(0, |last| last + 1);
                let sender = sender.clone();
                log.append(
                    vec![entry(next, 0, 700)],
                    Box::new(move |result| {
                        result.expect("written");
                        let _ = sender.send((group, next));
                    }),
                );
                log.save_committed(Bytes::from(index.to_string()));
            }
        }
    });
    let mut out = std::io::stdout();
    for (group, index) in receiver {
        writeln!(out, "acknowledged {group} {index}").expect("parent reads");
    }
}

#[test]
fn survives_sigkill() {
    if let Some(dir) = env::var_os(CHILD) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("dir");
    for round in 0..4_u64 {
        let mut acknowledged = [None; GROUPS as usize];
        let mut count = 0;
        let test = "kill::survives_sigkill";
        run_until(test, dir.path(), |line| {
            if let Some(rest) = line.strip_prefix("acknowledged ") {
                let (group, index) = rest.split_once(' ').expect("two numbers");
                let group: usize = group.parse().expect("group");
                acknowledged[group] = Some(index.parse::<u64>().expect("index"));
                count += 1;
            }
            count == 500 + round * 700
        });
        let store = open(dir.path());
        for (group, acknowledged) in acknowledged.iter().enumerate() {
            let acknowledged = acknowledged.expect("wrote something");
            let log = store.log(PartitionId(group as u16));
            let entries = read_all(&log, 0);
            assert!(
                entries.len() as u64 > acknowledged,
                "group {group} lost entries"
            );
            for (index, found) in entries.iter().enumerate() {
                assert_eq!(*found, entry(index as u64, 0, 700));
            }
        }
    }
}

/// The tables of the rows that each batch has: each lies apart from the others.
const TABLES: [Table; 8] = [
    Table::Lease,
    Table::Execution,
    Table::Step,
    Table::Message,
    Table::Request,
    Table::Timer,
    Table::ExecutionByFlow,
    Table::Journal,
];

/// Batches of one row in each table, of memory that is soon full: some is flushed, in the midst of it.
fn change_until_killed(dir: &Path) {
    let store = open_small(dir);
    let state = store.state(GROUP).expect("state");
    let mut out = std::io::stdout();
    for number in 1_u64.. {
        let rows = TABLES.map(|table| Mutation::Put {
            key: key::start(GROUP, table).freeze(),
            // Of different lengths, so that their memory is full at different times.
            value: [
                &number.to_be_bytes()[..],
                &[7; 3_000][..(table as usize) * 10],
            ]
            .concat()
            .into(),
        });
        state.write(&rows).expect("written");
        if number % 50 == 0 {
            writeln!(out, "wrote {number}").expect("parent reads");
        }
    }
}

#[test]
fn a_state_that_is_killed_has_all_of_a_batch_or_nothing() {
    if let Some(dir) = env::var_os(CHILD) {
        return change_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("dir");
    let mut survived = 0;
    for round in 1..=4_u64 {
        let mut wrote = 0;
        let test = "kill::a_state_that_is_killed_has_all_of_a_batch_or_nothing";
        run_until(test, dir.path(), |line| {
            let number = line.strip_prefix("wrote ");
            let number = number.map(|number| number.parse().expect("a number"));
            wrote = number.unwrap_or(wrote);
            number == Some(round * 250)
        });
        assert!(wrote >= round * 250);
        let store = open_small(dir.path());
        let state = store.state(GROUP).expect("state");
        let numbers = TABLES.map(|table| {
            let row = state.get(&key::start(GROUP, table).freeze());
            let row = row.expect("read").unwrap_or_default();
            row.first_chunk::<8>()
                .map_or(0, |number| u64::from_be_bytes(*number))
        });
        assert_eq!(numbers, [numbers[0]; TABLES.len()], "all are of one batch");
        survived = survived.max(numbers[0]);
    }
    assert!(survived > 0, "nothing was flushed");
}

fn open_small(dir: &Path) -> NodeStore {
    let options = StoreOptions {
        state_memory_bytes: 256 << 10,
        ..StoreOptions::default()
    };
    NodeStore::open(dir, &identity(), options).expect("open")
}
