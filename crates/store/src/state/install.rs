//! Which directory holds a group's state, and how another takes its place.
//!
//! `CURRENT_STATE` names the directory; replacing that file by a rename is the one step that switches.
//! What it does not name is not there, and is removed at the next start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tidemill_types::PartitionId;

use super::{CheckpointFiles, checkpoint::CHECKPOINT_LIST, database::StateDatabase};
use crate::{StoreError, StoreOptions, file, memory::SharedMemory};

const POINTER: &str = "CURRENT_STATE";

/// Opens the current state below `dir`; makes an empty one when there is none.
pub fn open_current(
    group: PartitionId,
    dir: &Path,
    options: &StoreOptions,
    memory: &SharedMemory,
) -> Result<StateDatabase, StoreError> {
    file::create_dir(dir)?;
    let current = current_number(dir)?;
    let number = current.unwrap_or_default();
    remove_others(dir, current)?;
    let database = StateDatabase::open(
        group,
        path_of(dir, number),
        current.is_none(),
        options,
        memory,
    )?;
    if current.is_none() {
        switch(dir, &database)?;
    }
    Ok(database)
}

/// Makes a new state, not yet current, of the checkpoint in `from`.
pub fn prepare(
    group: PartitionId,
    dir: &Path,
    from: &Path,
    options: &StoreOptions,
    memory: &SharedMemory,
) -> Result<StateDatabase, StoreError> {
    let files = CheckpointFiles::read(from)?;
    files.verify(from)?;
    let current = current_number(dir)?;
    // Not only the next number: a replaced state may still be open for a view.
    let number = (current.unwrap_or_default() + 1..)
        .find(|number| !path_of(dir, *number).exists())
        .expect("there are fewer directories than numbers");
    let path = path_of(dir, number);
    let filled = fill(&files, from, &path)
        .and_then(|()| StateDatabase::open(group, path.clone(), false, options, memory));
    // A test's fault is a crash, which cleans up nothing. Also removed at the next start.
    if filled.is_err() && !cfg!(test) {
        let _ = fs::remove_dir_all(&path);
    }
    filled
}

fn fill(files: &CheckpointFiles, from: &Path, to: &Path) -> Result<(), StoreError> {
    fault("create directory")?;
    file::create_dir(to)?;
    for listed in &files.files {
        if listed.name == CHECKPOINT_LIST {
            continue;
        }
        fault("copy file")?;
        let (source, target) = (from.join(&listed.name), to.join(&listed.name));
        // Table files never change, so both may have the same; RocksDB writes on in others.
        let is_table = Path::new(&listed.name)
            .extension()
            .is_some_and(|extension| extension == "sst");
        if !is_table || fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)
                .map_err(|error| StoreError::path("copy to", &target, &error))?;
        }
        file::sync_file(&target)?;
    }
    fault("sync directory")?;
    file::sync_dir(to)
}

/// Makes `database` the current state.
pub fn switch(dir: &Path, database: &StateDatabase) -> Result<(), StoreError> {
    fault("switch")?;
    let name = database
        .dir()
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| StoreError::corrupt("a state directory without a name"))?;
    file::replace(&dir.join(POINTER), format!("{name}\n").as_bytes())?;
    fault("switched")
}

fn current_number(dir: &Path) -> Result<Option<u64>, StoreError> {
    let path = dir.join(POINTER);
    let Some(bytes) = file::read(&path)? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim_end().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| StoreError::corrupt(format!("{} does not name a state", path.display())))
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}"))
}

/// Removes what an install that did not end, or a replaced state, has left.
fn remove_others(dir: &Path, current: Option<u64>) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::path("clean up", dir, &error);
    let keep = current.map(|number| path_of(dir, number));
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_state = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_state && Some(&path) != keep.as_ref() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "tests make it fail")]
fn fault(_before: &str) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
pub use faults::{fail_at, fault};

/// Lets a test end an install at a step, as a crash would: what is there stays there.
#[cfg(test)]
mod faults {
    use std::cell::Cell;

    use crate::StoreError;

    thread_local!(static STEPS_LEFT: Cell<Option<u32>> = const { Cell::new(None) });

    pub fn fail_at(step: Option<u32>) {
        STEPS_LEFT.set(step);
    }

    pub fn fault(before: &str) -> Result<(), StoreError> {
        match STEPS_LEFT.get() {
            Some(0) => Err(StoreError::Io {
                what: format!("before {before}"),
                error: "fault of a test".to_owned(),
            }),
            Some(left) => {
                STEPS_LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tidemill_rows::{Key, Mutation};
    use tidemill_types::PartitionId;

    use super::*;
    use crate::{StateStore, stats::Counters, stop::FailStop};

    fn open(dir: &Path) -> StateStore {
        let options = StoreOptions::default();
        let memory = SharedMemory::new(&options).expect("memory");
        StateStore::open(
            PartitionId(1),
            dir.to_owned(),
            &options,
            &memory,
            Arc::new(FailStop::new(None)),
            Arc::new(Counters::default()),
        )
        .expect("open")
    }

    fn write(state: &StateStore, value: &'static [u8]) {
        let (key, value) = (Key::from(b"key"), Bytes::from_static(value));
        state.write(&[Mutation::Put { key, value }]).expect("write");
        state.flush().expect("flush");
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_state_or_the_new() {
        let dir = tempfile::tempdir().expect("dir");
        let (data, checkpoint) = (dir.path().join("state"), dir.path().join("checkpoint"));
        let state = open(&data);
        write(&state, b"new");
        state.checkpoint(&checkpoint).expect("checkpoint");
        write(&state, b"old");
        drop(state);
        let (mut olds, mut news) = (0, 0);
        for step in 0.. {
            let state = open(&data);
            assert_eq!(state.get(b"key"), Ok(Some(Bytes::from_static(b"old"))));
            fail_at(Some(step));
            let installed = state.install(&checkpoint);
            fail_at(None);
            drop(state);
            let state = open(&data);
            let found = state.get(b"key").expect("read");
            let found = found.expect("one of both");
            state.verify().expect("whole");
            let states = fs::read_dir(&data).expect("list").count() - 1;
            assert_eq!(states, 1, "the other one is gone");
            match (&installed, &*found) {
                (Err(_), b"old") => olds += 1,
                (_, b"new") => news += 1,
                other => panic!("step {step}: {other:?}"),
            }
            write(&state, b"old");
            if installed.is_ok() {
                break;
            }
        }
        // Create, a copy per file, sync, switch: before the rename the old, after it the new.
        assert!(olds >= 6, "{olds} steps with the old state");
        assert_eq!(news, 2, "the step after the switch, and the whole install");
    }
}
