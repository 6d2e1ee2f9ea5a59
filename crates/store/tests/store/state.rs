//! Rows, views, flushes, checkpoints and installs.

use std::{fs, path::Path};

use bytes::Bytes;
use tidemill_rows::{Key, Mutation};
use tidemill_store::{CHECKPOINT_LIST, CheckpointFiles, StateStore};
use tidemill_types::ErrorClass;

use super::{GROUP, open};

pub fn put(key: &str, value: &str) -> Mutation {
    Mutation::Put {
        key: Key::from(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn row(key: &str, value: &str) -> (Key, Bytes) {
    match put(key, value) {
        Mutation::Put { key, value } => (key, value),
        other => panic!("{other:?}"),
    }
}

fn all(state: &StateStore) -> Vec<(Key, Bytes)> {
    state.scan(b"", b"\xff", usize::MAX, false).expect("scan")
}

#[test]
fn writes_in_the_order_given() {
    let dir = tempfile::tempdir().expect("dir");
    let state = open(dir.path()).state(GROUP).expect("state");
    let delete = |key: &'static str| Mutation::Delete {
        key: Key::from(key.as_bytes()),
    };
    let range = |from: &'static str, to: &'static str| Mutation::DeleteRange {
        from: Key::from(from.as_bytes()),
        to: Key::from(to.as_bytes()),
    };
    let mutations = [
        put("a", "1"),
        put("b", "1"),
        range("a", "c"),
        put("a", "2"),
        put("c", "1"),
        delete("c"),
        put("d", "1"),
        range("z", "a"),
        put("e", ""),
    ];
    state.write(&mutations).expect("write");
    assert_eq!(all(&state), [row("a", "2"), row("d", "1"), row("e", "")]);
    assert_eq!(state.get(b"e"), Ok(Some(Bytes::new())));
    assert_eq!(state.get(b"b"), Ok(None));
    let reverse = state.scan(b"a", b"e", 2, true).expect("scan");
    assert_eq!(reverse, [row("d", "1"), row("a", "2")]);
    assert_eq!(state.scan(b"b", b"a", 2, true), Ok(vec![]));
    assert_eq!(state.scan(b"a", b"z", 0, false), Ok(vec![]));
}

#[test]
fn only_what_is_flushed_is_durable() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let state = store.state(GROUP).expect("state");
    state
        .write(&[put("applied", "1"), put("row", "1")])
        .expect("write");
    assert_eq!(state.durable(b"applied"), Ok(None));
    state.flush().expect("flush");
    state
        .write(&[put("applied", "2"), put("row", "2")])
        .expect("write");
    assert_eq!(
        state.durable(b"applied"),
        Ok(Some(Bytes::from_static(b"1")))
    );
    assert_eq!(state.get(b"applied"), Ok(Some(Bytes::from_static(b"2"))));
    state.flush().expect("flush");
    assert_eq!(
        state.durable(b"applied"),
        Ok(Some(Bytes::from_static(b"2")))
    );
    drop((state, store));
    let state = open(dir.path()).state(GROUP).expect("state");
    assert_eq!(all(&state), [row("applied", "2"), row("row", "2")]);
}

#[test]
fn a_view_stays_while_everything_changes() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let state = store.state(GROUP).expect("state");
    state.write(&[put("a", "1")]).expect("write");
    state
        .checkpoint(&dir.path().join("checkpoint"))
        .expect("checkpoint");
    state.write(&[put("a", "2")]).expect("write");
    let view = state.view();
    state.write(&[put("a", "3"), put("b", "3")]).expect("write");
    state.flush().expect("flush");
    assert_eq!(view.get(b"a"), Ok(Some(Bytes::from_static(b"2"))));
    state
        .install(&dir.path().join("checkpoint"))
        .expect("install");
    assert_eq!(all(&state), [row("a", "1")]);
    assert_eq!(view.scan(b"a", b"z", 9, false), Ok(vec![row("a", "2")]));
    drop((state, store));
    assert_eq!(
        view.get(b"a"),
        Ok(Some(Bytes::from_static(b"2"))),
        "it outlives the node's handle"
    );
}

fn states_on_disk(dir: &Path) -> usize {
    let list = fs::read_dir(dir.join("state/1")).expect("list");
    list.filter(|entry| entry.as_ref().expect("entry").path().is_dir())
        .count()
}

#[test]
fn a_checkpoint_is_installed_elsewhere() {
    let (from, to) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    let source = open(from.path());
    let state = source.state(GROUP).expect("state");
    let rows: Vec<_> = (0..2000)
        .map(|n| put(&format!("key{n:05}"), &"x".repeat(n)))
        .collect();
    for some in rows.chunks(100) {
        state.write(some).expect("write");
    }
    let sent = from.path().join("checkpoints/1");
    let files = state.checkpoint(&sent).expect("checkpoint");
    assert_eq!(
        files.files.last().map(|file| file.name.as_str()),
        Some(CHECKPOINT_LIST)
    );
    assert_eq!(CheckpointFiles::read(&sent), Ok(files.clone()));
    state.write(&[put("later", "1")]).expect("write");

    // As a transfer does: only what is listed, byte by byte.
    let received = to.path().join("received");
    fs::create_dir(&received).expect("create");
    for file in &files.files {
        let bytes = fs::read(sent.join(&file.name)).expect("read");
        assert_eq!(bytes.len() as u64, file.len);
        fs::write(received.join(&file.name), bytes).expect("write");
    }
    let data = to.path().join("data");
    let target = open(&data);
    let replaced = target.state(GROUP).expect("state");
    let clone = replaced.clone();
    replaced.write(&[put("old", "1")]).expect("write");
    replaced.install(&received).expect("install");
    assert_eq!(all(&clone).len(), 2000);
    assert_eq!(clone.get(b"old"), Ok(None));
    assert_eq!(
        replaced
            .durable(b"key01999")
            .expect("read")
            .map(|row| row.len()),
        Some(1999)
    );
    assert_eq!(clone.verify().expect("whole").rows, 2000);
    // Again, over itself; the files received are still as they were.
    clone.write(&[put("new", "1")]).expect("write");
    replaced.install(&received).expect("install");
    assert_eq!(all(&clone).len(), 2000);
    assert_eq!(states_on_disk(&data), 1);
    drop((replaced, clone, target));
    assert_eq!(all(&open(&data).state(GROUP).expect("state")).len(), 2000);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let state = open(dir.path()).state(GROUP).expect("state");
    state.write(&[put("a", "1")]).expect("write");
    let files = state
        .checkpoint(&dir.path().join("whole"))
        .expect("checkpoint");
    state.write(&[put("a", "2")]).expect("write");
    for file in &files.files {
        let changes: &[&str] = match file.len {
            0 => &["remove"],
            _ => &["flip", "cut", "remove"],
        };
        for change in changes {
            let damaged = dir.path().join("damaged");
            fs::create_dir(&damaged).expect("create");
            for other in &files.files {
                let mut bytes = fs::read(dir.path().join("whole").join(&other.name)).expect("read");
                if other.name == file.name {
                    match *change {
                        "flip" => {
                            let middle = bytes.len() / 2;
                            bytes[middle] ^= 1;
                        }
                        "cut" => bytes.truncate(bytes.len() - 1),
                        _ => continue,
                    }
                }
                fs::write(damaged.join(&other.name), bytes).expect("write");
            }
            let error = state.install(&damaged).expect_err("damaged");
            assert_eq!(
                error.class(),
                ErrorClass::Corrupt,
                "{change} {}: {error}",
                file.name
            );
            fs::remove_dir_all(&damaged).expect("remove");
        }
    }
    assert_eq!(all(&state), [row("a", "2")]);
    assert_eq!(states_on_disk(dir.path()), 1);
    state.write(&[put("a", "3")]).expect("not stopped");
}
