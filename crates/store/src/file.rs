//! Small files that must be there whole or not at all, across a power cut.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use crate::StoreError;

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::path("sync directory", dir, &error))
}

/// Makes a file's bytes durable.
pub fn sync_file(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::path("sync", path, &error))
}

/// Creates a directory, with parents, durably: a synced file in a directory whose own name was lost is
/// lost too.
pub fn create_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::path("create", dir, &error));
        }
        _ => {}
    }
    sync_dir(parent)
}

/// Replaces a file by a synced temporary one and a rename: readers see the old or the new, whole.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let parent = path
        .parent()
        .ok_or_else(|| StoreError::corrupt(format!("{} has no directory", path.display())))?;
    let temporary = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| StoreError::path("write", &temporary, &error))?;
    fs::rename(&temporary, path).map_err(|error| StoreError::path("rename to", path, &error))?;
    sync_dir(parent)
}

/// A file's bytes, or none when there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::path("read", path, &error)),
    }
}

/// Length and CRC32C of a file.
pub fn checksum(path: &Path) -> Result<(u64, u32), StoreError> {
    const CHUNK: usize = 1 << 20;
    let failed = |error: io::Error| StoreError::path("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    let (mut len, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut chunk).map_err(failed)?;
        if read == 0 {
            return Ok((len, crc));
        }
        len += read as u64;
        crc = crc32c::crc32c_append(crc, &chunk[..read]);
    }
}
