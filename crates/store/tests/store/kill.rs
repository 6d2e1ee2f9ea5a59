//! Killed with SIGKILL while it writes, everything acknowledged is there.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
};

use bytes::Bytes;
use tidemill_types::PartitionId;

use super::{entry, open, read_all};

const CHILD: &str = "TIDEMILL_STORE_TEST_DIR";
const GROUPS: u16 = 3;
const IN_FLIGHT: usize = 8;

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
        let mut child = Command::new(env::current_exe().expect("path"))
            .args(["--exact", "kill::survives_sigkill", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("child");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut acknowledged = [None; GROUPS as usize];
        let mut count = 0;
        for line in output.lines().map_while(Result::ok) {
            if let Some(rest) = line.strip_prefix("acknowledged ") {
                let (group, index) = rest.split_once(' ').expect("two numbers");
                let group: usize = group.parse().expect("group");
                acknowledged[group] = Some(index.parse::<u64>().expect("index"));
                count += 1;
            }
            if count == 500 + round * 700 {
                // What is still in the pipe after this was acknowledged too.
                child.kill().expect("kill");
            }
        }
        child.wait().expect("ended");
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
