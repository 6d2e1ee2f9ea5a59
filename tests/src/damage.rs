//! Damage to the files of a node that does not run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// Between two flipped bytes: no block of a table file escapes.
const FLIP_EVERY: usize = 512;

/// Files in a folder whose names begin or end so, the largest first.
///
/// # Errors
/// When there is none.
pub fn files(folder: &Path, begin: &str, end: &str) -> Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = entry.metadata()?.len();
        if name.starts_with(begin) && name.ends_with(end) && size > 0 {
            found.push((size, entry.path()));
        }
    }
    ensure!(
        !found.is_empty(),
        "no file {begin}*{end} in {}",
        folder.display()
    );
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

/// Flips one bit in the middle of a file.
///
/// # Errors
/// When it cannot be read or written.
pub fn flip_middle(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    Ok(fs::write(path, bytes)?)
}

/// Flips bits all over a file.
///
/// # Errors
/// When it cannot be read or written.
pub fn flip_all_over(path: &Path) -> Result<()> {
    let mut bytes = fs::read(path)?;
    for byte in bytes.iter_mut().step_by(FLIP_EVERY) {
        *byte ^= 0x10;
    }
    Ok(fs::write(path, bytes)?)
}

/// Copies a folder with all that is in it.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let path = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &path)?;
        } else {
            fs::copy(entry.path(), path)?;
        }
    }
    Ok(())
}
