//! Checkpoints: a copy of the state in a directory, with a list of its files. Whoever has all files
//! and the list can tell whether they are whole, without opening a database.

use std::{fs, path::Path};

use rocksdb::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};

use super::database::StateDatabase;
use crate::{StoreError, file};

/// Name of the list in a checkpoint's directory.
pub const CHECKPOINT_LIST: &str = "CHECKPOINT";

const FORMAT: u32 = 1;

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointFile {
    /// Its name in the checkpoint's directory; never a path.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// CRC32C of its bytes.
    pub crc32c: u32,
}

/// All files of a checkpoint, in order of their names; the list itself is one more, last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFiles {
    /// What is to be sent: with all of it, and nothing else, a checkpoint can be installed.
    pub files: Vec<CheckpointFile>,
}

/// What the list's file says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    format: u32,
    files: Vec<CheckpointFile>,
    /// CRC32C of all names, lengths and checksums.
    crc32c: u32,
}

impl List {
    fn new(files: Vec<CheckpointFile>) -> Self {
        Self {
            format: FORMAT,
            crc32c: Self::checksum(&files),
            files,
        }
    }

    fn checksum(files: &[CheckpointFile]) -> u32 {
        files.iter().fold(0, |crc, file| {
            let crc = crc32c::crc32c_append(crc, file.name.as_bytes());
            let crc = crc32c::crc32c_append(crc, &file.len.to_be_bytes());
            crc32c::crc32c_append(crc, &file.crc32c.to_be_bytes())
        })
    }
}

impl CheckpointFiles {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// Reads the list of the checkpoint in `dir`, and adds the list's own file. Does not look at the
    /// other files.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when there is no list, or it is damaged or of a newer format.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(CHECKPOINT_LIST);
        let wrong = |why: String| StoreError::corrupt(format!("{}: {why}", path.display()));
        let bytes =
            file::read(&path)?.ok_or_else(|| wrong("a checkpoint without a list".to_owned()))?;
        let list: List =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if list.format != FORMAT {
            return Err(wrong(format!("format {} is not known", list.format)));
        }
        if List::checksum(&list.files) != list.crc32c {
            return Err(wrong("checksum does not match".to_owned()));
        }
        let mut files = list.files;
        if let Some(path) = files.iter().find(|file| !is_plain_name(&file.name)) {
            return Err(wrong(format!("{:?} is not a file name", path.name)));
        }
        files.push(CheckpointFile {
            name: CHECKPOINT_LIST.to_owned(),
            len: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        });
        Ok(Self { files })
    }

    /// Compares the files in `dir` with the list. Reads all of them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when one is damaged or missing.
    pub fn verify(&self, dir: &Path) -> Result<(), StoreError> {
        for expected in &self.files {
            let path = dir.join(&expected.name);
            if !path.is_file() {
                return Err(StoreError::corrupt(format!(
                    "{} of the checkpoint is missing",
                    path.display()
                )));
            }
            let (len, crc32c) = file::checksum(&path)?;
            if (len, crc32c) != (expected.len, expected.crc32c) {
                return Err(StoreError::corrupt(format!(
                    "{} of the checkpoint has {len} bytes with checksum {crc32c:08x}, expected {} with \
                     {:08x}",
                    path.display(),
                    expected.len,
                    expected.crc32c
                )));
            }
        }
        Ok(())
    }
}

/// The list may come from another node: a name must not lead out of its directory.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

pub fn create(database: &StateDatabase, to: &Path) -> Result<CheckpointFiles, StoreError> {
    if let Some(parent) = to.parent() {
        file::create_dir(parent)?;
    }
    Checkpoint::new(database.db())
        .and_then(|checkpoint| checkpoint.create_checkpoint(to))
        .map_err(|error| StoreError::rocksdb(format!("checkpoint to {}", to.display()), &error))?;
    let mut files = Vec::new();
    let list = fs::read_dir(to).map_err(|error| StoreError::path("list", to, &error))?;
    for entry in list {
        let entry = entry.map_err(|error| StoreError::path("list", to, &error))?;
        let name = entry.file_name().into_string().map_err(|name| {
            StoreError::corrupt(format!("checkpoint holds a file named {}", name.display()))
        })?;
        let (len, crc32c) = file::checksum(&entry.path())?;
        files.push(CheckpointFile { name, len, crc32c });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let text = serde_json::to_vec(&List::new(files)).map_err(|error| {
        StoreError::corrupt(format!("checkpoint list cannot be written: {error}"))
    })?;
    file::replace(&to.join(CHECKPOINT_LIST), &text)?;
    CheckpointFiles::read(to)
}
