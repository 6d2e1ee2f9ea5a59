//! A small file system in memory, for disks that fill up.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// What fills it, beside the node's own data.
const FILLER: &str = "filler";

/// A file system of its own, mounted until this is dropped. Mounting needs root.
#[derive(Debug)]
pub struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// Mounts one of so many bytes.
    ///
    /// # Errors
    /// Where it cannot be mounted. That fails the test rather than skip it in silence: `make test` finds
    /// out beforehand whether this machine lets us mount, and says which tests it leaves out.
    pub fn mount(bytes: u64) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tidemill-tmpfs-")
            .tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .context("there is no `mount`: run `make test`, which leaves this test out")?;
        ensure!(
            output.status.success(),
            "a tmpfs cannot be mounted here (`make test` leaves this test out and says so): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self { dir })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join(FILLER)
    }

    /// Writes until not a byte is left, as another program would that has run wild.
    ///
    /// # Errors
    /// When writing fails for another reason.
    pub fn fill(&self) -> Result<()> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())?;
        let block = vec![0x5a; 1 << 16];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives all back that [`Self::fill`] took.
    ///
    /// # Errors
    /// When it was not full.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a node that is only being ended may have files open.
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}
