//! A failed fsync ends all writing, and nothing acknowledged before it is lost.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use tidemill_rows::Mutation;
use tidemill_store::{NodeStore, StoreError, StoreOptions};

use super::{GROUP, entry, identity, open, read_all, small, sync};

const CHILD: &str = "TIDEMILL_STORE_TEST_SYNC_DIR";

/// Appends until it is refused, and prints what it has seen.
fn write_until_refused(dir: &Path) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let options = StoreOptions {
        on_fail_stop: Some(Arc::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        })),
        ..small()
    };
    let store = NodeStore::open(dir, &identity(), options).expect("open");
    let log = store.log(GROUP);
    for index in 0..2000 {
        match sync(|done| log.append(vec![entry(index, 0, 100)], done)) {
            Ok(()) => println!("acknowledged {index}"),
            Err(error) => {
                println!("refused {error}");
                break;
            }
        }
    }
    // A second fsync would succeed: the kernel has forgotten. It must not be tried.
    let vote = sync(|done| log.save_vote(Bytes::new(), done));
    assert_eq!(vote, Err(StoreError::Stopped));
    let state = store.state(GROUP).expect("open").write::<Mutation>(&[]);
    assert_eq!(state, Err(StoreError::Stopped));
    println!("stopped {}", calls.load(Ordering::SeqCst));
}

#[test]
fn a_failed_fsync_stops_the_store() {
    if let Some(dir) = env::var_os(CHILD) {
        return write_until_refused(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("dir");
    let child = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
        // Once only: what follows would succeed.
        .args(["-e", "inject=fdatasync:error=EIO:when=150"])
        .arg(env::current_exe().expect("path"))
        .args(["--exact", "sync::a_failed_fsync_stops_the_store", "--nocapture"])
        .env(CHILD, dir.path())
        .stderr(Stdio::null())
        .output();
    let Ok(child) = child else {
        eprintln!("skipped: there is no strace");
        return;
    };
    let output = String::from_utf8(child.stdout).expect("text");
    if !output.contains("acknowledged 0") {
        eprintln!("skipped: strace may not trace here");
        return;
    }
    assert!(output.contains("refused log: write: IO error"), "{output}");
    assert!(output.contains("stopped 1"), "told once: {output}");
    let acknowledged = output.matches("acknowledged ").count();
    assert!((20..200).contains(&acknowledged), "{acknowledged}");
    let entries = read_all(&open(dir.path()).log(GROUP), 0);
    assert!(entries.len() >= acknowledged);
    for (index, found) in entries.iter().enumerate() {
        assert_eq!(*found, entry(index as u64, 0, 100));
    }
}
