//! Damaged files are an error, never an empty answer.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tidemill_rows::{Key, Mutation};
use tidemill_store::{NodeStore, OpenError, StoreError};
use tidemill_types::ErrorClass;

use super::{GROUP, append, files, identity, open, read_all, small, sync};

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("write");
}

fn open_error(dir: &Path) -> StoreError {
    match NodeStore::open(dir, &identity(), small()) {
        Ok(_) => panic!("opened"),
        Err(OpenError::Store { error, .. }) => error,
        Err(other) => panic!("{other}"),
    }
}

/// The newest WAL file and how much of it was written: a recycled or preallocated file is longer.
fn wal(dir: &Path) -> (PathBuf, usize) {
    let path = files(&dir.join("log"), "log").pop_last().expect("a WAL").0;
    let bytes = fs::read(&path).expect("read");
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty")
        + 1;
    (path, used)
}

/// Copies a data directory, to damage it in many ways.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copy");
        }
    }
}

#[test]
fn every_flip_in_the_wal_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let log = open(dir.path()).log(GROUP);
        for index in 0..40 {
            append(&log, index..index + 1, 100);
        }
    }
    let (path, used) = wal(dir.path());
    let name = path.strip_prefix(dir.path()).expect("inside").to_owned();
    let damaged = tempfile::tempdir().expect("dir");
    for at in (0..used).step_by(used / 25) {
        let dir = damaged.path().join(at.to_string());
        copy(path.parent().expect("log").parent().expect("data"), &dir);
        flip(&dir.join(&name), at);
        let error = open_error(&dir);
        assert_eq!(
            error.class(),
            ErrorClass::Corrupt,
            "byte {at} of {used}: {error}"
        );
        // It does not go away by trying again.
        assert_eq!(open_error(&dir).class(), ErrorClass::Corrupt);
    }
}

#[test]
fn an_unacknowledged_torn_tail_is_cut_off() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let log = open(dir.path()).log(GROUP);
        append(&log, 0..20, 100);
        // Written but never synced on its own: what a crash may tear.
        log.save_committed(Bytes::from(vec![7; 300]));
        wait_for_committed(dir.path());
    }
    let (path, used) = wal(dir.path());
    let bytes = fs::read(&path).expect("read");
    for cut in [1, 150, 299] {
        let torn = tempfile::tempdir().expect("dir");
        copy(dir.path(), torn.path());
        let path = torn
            .path()
            .join("log")
            .join(path.file_name().expect("name"));
        fs::write(&path, &bytes[..used - cut]).expect("write");
        let store = open(torn.path());
        let log = store.log(GROUP);
        assert_eq!(read_all(&log, 0).len(), 20);
        assert_eq!(log.read_committed(), Ok(None), "whole or not at all");
        append(&log, 20..21, 10);
        drop((log, store));
        assert_eq!(read_all(&open(torn.path()).log(GROUP), 0).len(), 21);
    }
}

/// Waits, without a sync, until the writer has written the committed position.
fn wait_for_committed(dir: &Path) {
    let deadline = std::time::Instant::now() + super::DEADLINE;
    loop {
        let (path, _) = wal(dir);
        let bytes = fs::read(path).expect("read");
        if bytes
            .windows(300)
            .any(|window| window.iter().all(|byte| *byte == 7))
        {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "not written");
        std::thread::yield_now();
    }
}

#[test]
fn a_cut_into_what_was_acknowledged_is_damage() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let log = open(dir.path()).log(GROUP);
        append(&log, 0..20, 100);
        append(&log, 20..21, 100);
    }
    let (path, used) = wal(dir.path());
    let bytes = fs::read(&path).expect("read");
    fs::write(&path, &bytes[..used - 10]).expect("write");
    let error = open_error(dir.path());
    assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
    assert!(
        error.to_string().contains("WAL was synced up to"),
        "{error}"
    );
}

/// Writes until a WAL file has taken the place of an older one; gives the log.
fn recycled(dir: &Path) -> tidemill_store::LogStore {
    let log = open(dir).log(GROUP);
    let mut inodes = std::collections::BTreeMap::new();
    for round in 0..1000 {
        append(&log, round * 10..(round + 1) * 10, 8000);
        for path in files(&dir.join("log"), "log").into_keys() {
            let inode = path.metadata().expect("metadata").ino();
            let first = inodes.entry(inode).or_insert_with(|| path.clone());
            if *first != path {
                return log;
            }
        }
    }
    panic!("no WAL file was used again");
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    let found = bytes.windows(what.len()).position(|some| some == what);
    found.expect("it was written")
}

#[test]
fn damage_in_a_recycled_wal_is_told_from_its_end() {
    let dir = tempfile::tempdir().expect("dir");
    let last = {
        let log = recycled(dir.path());
        let next = log.last_index().map_or(0, |last| last + 1);
        sync(|done| log.append(vec![super::entry(next, 99, 1000)], done)).expect("append");
        log.save_committed(Bytes::from(vec![7; 300]));
        wait_for_committed(dir.path());
        next
    };
    let (path, _) = wal(dir.path());
    let name = path.strip_prefix(dir.path()).expect("inside").to_owned();
    let bytes = fs::read(&path).expect("read");

    let torn = tempfile::tempdir().expect("dir");
    copy(dir.path(), torn.path());
    flip(&torn.path().join(&name), find(&bytes, &[7; 300]) + 100);
    let store = open(torn.path());
    let log = store.log(GROUP);
    assert_eq!(log.read_committed(), Ok(None), "it was never synced");
    assert_eq!(log.last(), Ok(Some(super::entry(last, 99, 1000))));
    append(&log, last + 1..last + 2, 10);
    drop((log, store));
    assert_eq!(open(torn.path()).log(GROUP).last_index(), Some(last + 1));

    let damaged = tempfile::tempdir().expect("dir");
    copy(dir.path(), damaged.path());
    let at = find(&bytes, &super::entry(last, 99, 1000).bytes);
    flip(&damaged.path().join(&name), at + 500);
    assert_eq!(open_error(damaged.path()).class(), ErrorClass::Corrupt);
}

#[test]
fn missing_files_are_found() {
    for what in ["the WAL", "CURRENT", "everything"] {
        let dir = tempfile::tempdir().expect("dir");
        append(&open(dir.path()).log(GROUP), 0..20, 100);
        match what {
            "the WAL" => fs::remove_file(wal(dir.path()).0).expect("remove"),
            "CURRENT" => fs::remove_file(dir.path().join("log/CURRENT")).expect("remove"),
            _ => fs::remove_dir_all(dir.path().join("log")).expect("remove"),
        }
        let error = open_error(dir.path());
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::Io { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn flips_in_table_files_of_the_log_are_found() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let log = open(dir.path()).log(GROUP);
        for round in 0..30 {
            append(&log, round * 50..(round + 1) * 50, 4000);
        }
    }
    let tables = files(&dir.path().join("log"), "sst");
    assert!(!tables.is_empty(), "something was flushed");
    for table in tables.keys() {
        let damaged = tempfile::tempdir().expect("dir");
        copy(dir.path(), damaged.path());
        let path = damaged
            .path()
            .join("log")
            .join(table.file_name().expect("name"));
        let len = fs::metadata(&path).expect("metadata").len() as usize;
        flip(&path, len / 2);
        let error = open_error(damaged.path());
        assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
    }
}

#[test]
fn flips_in_table_files_of_state_are_found() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let state = open(dir.path()).state(GROUP).expect("state");
        for key in 0..2000_u32 {
            let key = Key::from(&key.to_be_bytes());
            state
                .write(&[Mutation::Put {
                    key,
                    value: vec![9; 500].into(),
                }])
                .expect("write");
        }
        state.flush().expect("flush");
        state.verify().expect("whole");
    }
    let table = files(&dir.path().join("state/1/00000000"), "sst")
        .pop_last()
        .expect("a table")
        .0;
    flip(&table, 3000);
    let store = open(dir.path());
    let state = store
        .state(GROUP)
        .expect("damage in rows is found when they are read");
    assert_eq!(
        state.verify().expect_err("damaged").class(),
        ErrorClass::Corrupt
    );
    let scanned = state.scan(b"", b"\xff", usize::MAX, false);
    assert_eq!(scanned.expect_err("damaged").class(), ErrorClass::Corrupt);
    let mut damaged = 0;
    for key in 0..2000_u32 {
        match state.get(&key.to_be_bytes()) {
            Ok(row) => assert!(row.is_some(), "row {key} was not found"),
            Err(error) => {
                assert_eq!(error.class(), ErrorClass::Corrupt);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn a_damaged_mark_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    append(&open(dir.path()).log(GROUP), 0..20, 100);
    flip(&dir.path().join("SYNCED"), 3);
    assert_eq!(open_error(dir.path()).class(), ErrorClass::Corrupt);
}

#[test]
fn mounted_full_disk_stops_the_node_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    // Where this cannot be mounted, `make test` leaves the test out and says so.
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(dir.path())
        .status()
        .is_ok_and(|status| status.success());
    assert!(mounted, "cannot mount a tmpfs");
    let result = std::panic::catch_unwind(|| fill_and_recover(dir.path()));
    let unmounted = std::process::Command::new("umount")
        .arg(dir.path())
        .status();
    assert!(unmounted.is_ok_and(|status| status.success()), "unmounted");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn fill_and_recover(dir: &Path) {
    let data = dir.join("data");
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&calls);
    let options = tidemill_store::StoreOptions {
        reserve_bytes: 8 << 20,
        on_fail_stop: Some(std::sync::Arc::new(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        })),
        ..small()
    };
    let store = NodeStore::open(&data, &identity(), options.clone()).expect("open");
    let log = store.log(GROUP);
    append(&log, 0..10, 1000);
    assert!(!store.space().expect("space").low);
    // Another process takes all the space but 3 MiB: the node says so before anything fails.
    let free = store.space().expect("space").free;
    fs::write(dir.join("other"), vec![1; free as usize - (3 << 20)]).expect("fill");
    let space = store.space().expect("space");
    assert!(space.low, "{space:?}");
    // Whoever goes on writing reaches the end.
    let mut acknowledged = 9;
    let error = loop {
        let next = acknowledged + 1;
        match sync(|done| log.append(vec![super::entry(next, 0, 100_000)], done)) {
            Ok(()) => acknowledged = next,
            Err(error) => break error,
        }
        assert!(acknowledged < 1000, "the disk never filled");
    };
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(store.stopped().is_some());
    assert_eq!(
        calls.load(std::sync::atomic::Ordering::SeqCst),
        1,
        "told once"
    );
    assert_eq!(
        sync(|done| log.save_vote(Bytes::new(), done)),
        Err(StoreError::Stopped)
    );
    assert_eq!(log.read(0, 5, usize::MAX).expect("reads go on").len(), 5);
    drop((log, store));
    // Restarted while the disk is still full, it lives on its ballast and serves reads.
    let full = NodeStore::open(&data, &identity(), options.clone()).expect("opens");
    assert!(full.space().expect("space").low);
    assert!(!data.join("BALLAST").exists());
    assert_eq!(
        full.log(GROUP)
            .read(0, 5, usize::MAX)
            .expect("reads go on")
            .len(),
        5
    );
    drop(full);
    fs::remove_file(dir.join("other")).expect("free");
    let store = NodeStore::open(&data, &identity(), options).expect("recovers");
    let log = store.log(GROUP);
    assert!(log.last_index() >= Some(acknowledged));
    assert!(!store.space().expect("space").low);
    assert!(data.join("BALLAST").exists(), "taken back");
    let next = log.last_index().map_or(0, |last| last + 1);
    append(&log, next..next + 1, 100);
    assert_eq!(log.read(0, 10, usize::MAX).expect("read").len(), 10);
}
