//! Order, group commit, and what is there after reopening.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, mpsc::sync_channel},
};

use bytes::Bytes;
use tidemill_rows::Mutation;
use tidemill_store::{NodeStore, StoreError, StoreOptions};
use tidemill_types::{ErrorClass, PartitionId};

use super::{
    DEADLINE, GROUP, MIB, append, done, entry, files, identity, open, read_all, small, sync, wait,
};

#[test]
fn acknowledges_in_order_over_all_groups() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let order = Arc::new(Mutex::new(Vec::new()));
    let (finished, receiver) = sync_channel(300);
    for number in 0..300_u64 {
        let log = store.log(PartitionId((number % 3) as u16));
        let (order, finished) = (Arc::clone(&order), finished.clone());
        let done: tidemill_store::Done = Box::new(move |result| {
            result.expect("written");
            order.lock().expect("lock").push(number);
            let _ = finished.send(());
        });
        match number % 5 {
            0 => log.save_vote(Bytes::from(number.to_string()), done),
            _ => log.append(
                vec![entry(log.last_index().map_or(0, |last| last + 1), 0, 50)],
                done,
            ),
        }
        log.save_committed(Bytes::from(number.to_string()));
    }
    for _ in 0..300 {
        receiver.recv_timeout(DEADLINE).expect("acknowledged");
    }
    assert_eq!(*order.lock().expect("lock"), (0..300).collect::<Vec<_>>());
}

#[test]
fn what_waits_shares_a_sync() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    // The first `done` holds the writer until all others wait.
    let (release, held) = sync_channel::<()>(1);
    let (holding, writer_is_held) = sync_channel(1);
    store.log(GROUP).save_vote(
        Bytes::from_static(b"vote"),
        Box::new(move |_| {
            holding.send(()).expect("test waits");
            held.recv_timeout(DEADLINE).expect("released");
        }),
    );
    writer_is_held.recv_timeout(DEADLINE).expect("held");
    let before = store.stats();
    let mut receivers = Vec::new();
    for index in 0..500 {
        for group in 0..2 {
            let (done, receiver) = done();
            store
                .log(PartitionId(group))
                .append(vec![entry(index, 0, 100)], done);
            receivers.push(receiver);
        }
    }
    release.send(()).expect("writer waits");
    for receiver in receivers {
        wait(&receiver).expect("written");
    }
    let after = store.stats();
    assert_eq!(after.appended_entries - before.appended_entries, 1000);
    assert_eq!(after.appended_bytes - before.appended_bytes, 100_000);
    assert_eq!(
        after.syncs - before.syncs,
        1,
        "1,000 appends that waited are one sync"
    );
}

#[test]
fn a_committed_position_has_no_sync_of_its_own() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let log = store.log(GROUP);
    append(&log, 0..1, 10);
    let before = store.stats().syncs;
    for number in 0..100_u32 {
        log.save_committed(Bytes::from(number.to_string()));
    }
    sync(|done| log.barrier(done)).expect("barrier");
    assert_eq!(store.stats().syncs - before, 1, "only the barrier's");
    assert_eq!(log.read_committed(), Ok(Some(Bytes::from_static(b"99"))));
}

#[test]
fn reopened_it_has_everything() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let store = open(dir.path());
        let (one, two) = (store.log(GROUP), store.log(PartitionId(2)));
        append(&one, 1..101, 2000);
        append(&two, 7..9, 10);
        sync(|done| one.save_vote(Bytes::from_static(b"vote"), done)).expect("vote");
        one.save_committed(Bytes::from_static(b"committed"));
        sync(|done| one.purge_to(40, Bytes::from_static(b"forty"), done)).expect("purge");
        sync(|done| one.truncate_from(91, done)).expect("truncate");
        append(&one, 91..93, 5);
    }
    let store = open(dir.path());
    assert_eq!(store.groups(), [GROUP, PartitionId(2)]);
    let (one, two) = (store.log(GROUP), store.log(PartitionId(2)));
    assert_eq!(one.read_vote(), Ok(Some(Bytes::from_static(b"vote"))));
    assert_eq!(
        one.read_committed(),
        Ok(Some(Bytes::from_static(b"committed")))
    );
    assert_eq!(one.read_purged(), Ok(Some(Bytes::from_static(b"forty"))));
    assert_eq!(two.read_vote(), Ok(None));
    let expected: Vec<_> = (41..91)
        .map(|index| entry(index, 0, 2000))
        .chain((91..93).map(|index| entry(index, 0, 5)))
        .collect();
    assert_eq!(read_all(&one, 41), expected);
    assert_eq!(one.last(), Ok(Some(entry(92, 0, 5))));
    assert_eq!(read_all(&two, 7).len(), 2);
    append(&one, 93..94, 5);
    store.verify_log().expect("whole");
}

#[test]
fn reads_see_appends_before_they_are_synced() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let log = store.log(GROUP);
    append(&log, 0..10, 3000);
    let (release, held) = sync_channel::<()>(1);
    log.save_vote(
        Bytes::from_static(b"vote"),
        Box::new(move |_| held.recv_timeout(DEADLINE).expect("released")),
    );
    // Far more than the tail may hold: what is not written must stay nevertheless.
    let (done, receiver) = done();
    log.append((10..20).map(|index| entry(index, 1, 3000)).collect(), done);
    let (truncated, truncation) = super::done();
    log.truncate_from(18, truncated);
    let (appended, last_append) = super::done();
    log.append(vec![entry(18, 2, 10)], appended);
    let read = read_all(&log, 5);
    assert_eq!(read.len(), 14);
    assert_eq!(read[4], entry(9, 0, 3000), "from disk");
    assert_eq!(read[5], entry(10, 1, 3000), "from the tail");
    assert_eq!(log.last(), Ok(Some(entry(18, 2, 10))));
    release.send(()).expect("writer waits");
    for receiver in [receiver, truncation, last_append] {
        wait(&receiver).expect("written");
    }
    assert_eq!(read_all(&log, 5), read);
}

#[test]
fn bounds_a_read_by_bytes_but_gives_one() {
    let dir = tempfile::tempdir().expect("dir");
    for tail in [0, MIB] {
        let options = StoreOptions {
            log_tail_bytes: tail,
            ..small()
        };
        let store = NodeStore::open(dir.path(), &identity(), options).expect("open");
        let log = store.log(PartitionId(u16::from(tail > 0)));
        append(&log, 0..20, 1000);
        append(&log, 20..21, 1000);
        assert_eq!(log.read(3, 21, 4500).expect("read").len(), 4);
        assert_eq!(log.read(3, 21, 1).expect("read").len(), 1);
        assert_eq!(log.read(3, 5, usize::MAX).expect("read").len(), 2);
        assert_eq!(log.read(21, 30, 1), Ok(vec![]));
        assert_eq!(log.read(5, 5, 1), Ok(vec![]));
    }
}

#[test]
fn refuses_gaps_and_purged_reads() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let log = store.log(GROUP);
    append(&log, 5..10, 10);
    for indexes in [vec![11], vec![9], vec![10, 12]] {
        let entries = indexes
            .into_iter()
            .map(|index| entry(index, 0, 1))
            .collect();
        let error = sync(|done| log.append(entries, done)).expect_err("no gap");
        assert_eq!(error.class(), ErrorClass::Corrupt);
    }
    assert!(log.read(2, 6, 1).is_err(), "before the first entry");
    sync(|done| log.purge_to(6, Bytes::new(), done)).expect("purge");
    let purged = StoreError::Purged {
        group: GROUP,
        index: 6,
        purged: 6,
    };
    assert_eq!(log.read(6, 8, 1), Err(purged));
    assert!(sync(|done| log.truncate_from(6, done)).is_err());
    assert_eq!(read_all(&log, 7).len(), 3);
    assert!(store.stopped().is_none(), "a wrong call stops nothing");
}

#[test]
fn purging_deletes_files() {
    let dir = tempfile::tempdir().expect("dir");
    let options = StoreOptions {
        log_memory_bytes: 256 << 10,
        ..small()
    };
    let store = NodeStore::open(dir.path(), &identity(), options.clone()).expect("open");
    let (log, idle) = (store.log(GROUP), store.log(PartitionId(2)));
    append(&idle, 0..5, 100);
    let mut bytes_max = 0;
    for round in 0..40 {
        append(&log, round * 100..(round + 1) * 100, 4096);
        sync(|done| log.purge_to(round * 100 + 50, Bytes::new(), done)).expect("purge");
        bytes_max = bytes_max.max(store.stats().log_file_bytes);
    }
    let written = store.stats().appended_bytes;
    assert!(written > 16_000_000);
    assert!(
        bytes_max < written / 2,
        "{bytes_max} bytes of files for {written} written"
    );
    drop((log, idle, store));
    let store = NodeStore::open(dir.path(), &identity(), options).expect("open");
    assert_eq!(read_all(&store.log(GROUP), 3951).len(), 49);
    assert_eq!(read_all(&store.log(PartitionId(2)), 0).len(), 5);
}

/// A sync of a file that grows waits for the file system's journal, and for whoever else writes to it.
#[test]
fn wal_files_are_used_again_and_do_not_grow() {
    let dir = tempfile::tempdir().expect("dir");
    let store = NodeStore::open(dir.path(), &identity(), StoreOptions::default()).expect("open");
    // Of a group that is busy and one that is not, with positions: they hold on to the WAL until they are flushed.
    let (log, idle) = (store.log(GROUP), store.log(PartitionId(2)));
    append(&idle, 0..1, 100);
    let begun = 2 * StoreOptions::default().wal_bytes_max;
    let wal = dir.path().join("log");
    let (mut next, mut seen, mut rotations) = (0, BTreeSet::new(), 0);
    while store.stats().appended_bytes < 2 * begun {
        log.save_committed(Bytes::from_static(b"committed"));
        append(&log, next..next + 4, 256 << 10);
        next += 4;
        if store.stats().appended_bytes < begun {
            seen.extend(files(&wal, "log").into_keys());
            continue;
        }
        for (path, bytes) in files(&wal, "log") {
            if seen.insert(path.clone()) {
                rotations += 1;
                assert!(bytes > 8 * MIB as u64, "{}: {bytes} bytes", path.display());
            }
        }
    }
    assert!(rotations >= 4, "{rotations}");
}

#[test]
fn purging_past_the_end_moves_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    {
        let store = open(dir.path());
        let log = store.log(GROUP);
        append(&log, 0..10, 10);
        sync(|done| log.purge_to(99, Bytes::from_static(b"snapshot"), done)).expect("purge");
        assert_eq!(log.last(), Ok(None));
        assert!(sync(|done| log.append(vec![entry(10, 0, 1)], done)).is_err());
        append(&log, 100..101, 10);
    }
    let store = open(dir.path());
    let log = store.log(GROUP);
    assert_eq!(log.last_index(), Some(100));
    sync(|done| log.purge_to(50, Bytes::from_static(b"older"), done)).expect("nothing to do");
    assert_eq!(log.read_purged(), Ok(Some(Bytes::from_static(b"snapshot"))));
}

#[test]
fn a_panic_in_a_callback_stops_the_store_and_answers_everybody() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let log = store.log(GROUP);
    append(&log, 0..3, 10);
    assert_eq!(log.check(), Ok(()));
    log.save_vote(Bytes::new(), Box::new(|_| panic!("a caller's mistake")));
    // Answered, whether it came into the same batch or was too late.
    let answer = sync(|done| log.append(vec![entry(3, 0, 1)], done));
    assert!(
        matches!(answer, Ok(()) | Err(StoreError::Stopped)),
        "{answer:?}"
    );
    assert!(store.stopped().is_some());
    assert_eq!(log.check(), Err(StoreError::Stopped));
    assert_eq!(
        sync(|done| log.append(vec![], done)),
        Err(StoreError::Stopped)
    );
    assert_eq!(
        store.state(GROUP).expect("open").write::<Mutation>(&[]),
        Err(StoreError::Stopped)
    );
    assert!(read_all(&log, 0).len() >= 3, "reads go on");
}
