//! Whose data it is, and how much room there is.

use std::fs;

use tidemill_store::{FORMAT, NodeStore, OpenError, StoreIdentity, StoreOptions};
use tidemill_types::NodeId;

use super::{GROUP, append, identity, open, small};

fn refusal(dir: &std::path::Path, identity: &StoreIdentity) -> OpenError {
    match NodeStore::open(dir, identity, small()) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[test]
fn refuses_the_data_of_others() {
    let dir = tempfile::tempdir().expect("dir");
    append(&open(dir.path()).log(GROUP), 0..1, 1);
    for other in [
        StoreIdentity::new("other", NodeId(1)),
        StoreIdentity::new("test", NodeId(2)),
    ] {
        let error = refusal(dir.path(), &other);
        assert!(matches!(error, OpenError::OtherIdentity { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("belongs to node 1 of cluster \"test\""),
            "{error}"
        );
    }
    open(dir.path());
}

#[test]
fn refuses_a_newer_format_and_a_damaged_identity() {
    let dir = tempfile::tempdir().expect("dir");
    drop(open(dir.path()));
    let path = dir.path().join("IDENTITY");
    // A newer version may have fields that this one does not know.
    let newer = format!(r#"{{"format": {}, "shape": "round"}}"#, FORMAT + 1);
    fs::write(&path, newer).expect("write");
    let error = refusal(dir.path(), &identity());
    assert!(
        matches!(error, OpenError::NewerFormat { found, .. } if found == FORMAT + 1),
        "{error}"
    );
    fs::write(&path, "{").expect("write");
    let error = refusal(dir.path(), &identity());
    assert!(error.to_string().contains("IDENTITY"), "{error}");
}

#[test]
fn refuses_a_folder_of_something_else() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("thesis.txt"), "precious").expect("write");
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
    assert_eq!(
        fs::read_dir(dir.path()).expect("list").count(),
        1,
        "nothing left behind"
    );
}

#[test]
fn refuses_to_be_opened_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let error = refusal(dir.path(), &identity());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    // A handle keeps it open, too.
    let log = store.log(GROUP);
    drop(store);
    assert!(matches!(
        refusal(dir.path(), &identity()),
        OpenError::Locked { .. }
    ));
    drop(log);
    open(dir.path());
}

#[test]
fn says_when_space_is_low() {
    let dir = tempfile::tempdir().expect("dir");
    let free = open(dir.path()).space().expect("space").free;
    for (reserve, low, critical) in [(free * 2, true, false), (free * 8, true, true)] {
        let options = StoreOptions {
            reserve_bytes: reserve,
            ..small()
        };
        let store = NodeStore::open(dir.path(), &identity(), options).expect("open");
        let space = store.space().expect("space");
        assert_eq!(
            (space.low, space.critical),
            (low, critical),
            "{space:?} of {reserve}"
        );
    }
    let options = StoreOptions {
        reserve_bytes: 4 << 20,
        ..small()
    };
    let store = NodeStore::open(dir.path(), &identity(), options).expect("open");
    assert!(!store.space().expect("space").low);
    assert_eq!(
        fs::metadata(dir.path().join("BALLAST"))
            .expect("ballast")
            .len(),
        1 << 20
    );
}
