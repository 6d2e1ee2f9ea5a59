//! A node's disk: an ext4 file system in a file, that can be filled, and whose power can be cut.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::tools::Tools;

/// Sparse: only what is written takes room.
const BYTES: u64 = 2 << 30;
/// What fills it, beside the node's own data.
const FILLER: &str = "filler";

/// Mounted until this is dropped. Needs root, loop devices and mkfs.ext4.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
    is_mounted: bool,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}

impl Disk {
    /// Unmounts what campaigns left behind whose process is gone, and removes their folders.
    pub fn sweep(prefix: &str) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        for entry in fs::read_dir(std::env::temp_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.split('-').next());
            if !owner.is_some_and(super::network::is_gone) {
                continue;
            }
            let folder = entry.path().display().to_string();
            let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
            let mut was_running = false;
            for place in places.filter(|place| place.starts_with(&folder)) {
                was_running = true;
                let _ = Command::new("umount").args(["-l", place]).status();
            }
            // One without mounts has ended as it should, and is kept because it found something.
            if was_running {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Makes and mounts one below a folder.
    ///
    /// # Errors
    /// Where that is not to be had.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut disk = Self {
            image: folder.join("disk.img"),
            mounted_at: folder.join("disk"),
            is_mounted: false,
        };
        fs::create_dir_all(&disk.mounted_at)?;
        File::create(&disk.image)?.set_len(BYTES)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m0", "-E", "lazy_itable_init=1,nodiscard"])
            .arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    fn mount(&mut self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&self.image, &self.mounted_at]))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Nothing more is written, and what was not synced is lost.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut_power(&self, tools: &Tools) -> Result<()> {
        run(Command::new(&tools.cut_power).arg(&self.mounted_at))
    }

    /// Power is back: mounts it anew, with what is left. Nobody may use it meanwhile.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn restore_power(&mut self) -> Result<()> {
        run(Command::new("umount").arg(&self.mounted_at))?;
        self.is_mounted = false;
        self.mount()
    }

    /// Takes every byte that is left.
    ///
    /// # Errors
    /// When it cannot be filled.
    pub fn fill(&self) -> Result<()> {
        let file = File::create(self.mounted_at.join(FILLER))?;
        // Space is reserved without writing it; what does not fit is tried in halves.
        let mut size = BYTES;
        let mut taken = 0;
        while size >= 4_096 {
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), taken, size) {
                Ok(()) => taken += size,
                Err(rustix::io::Errno::NOSPC) => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives all back that [`Self::fill`] took.
    ///
    /// # Errors
    /// When it cannot.
    pub fn free(&self) -> Result<()> {
        match fs::remove_file(self.mounted_at.join(FILLER)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: a process that is only being ended may have files open.
            let _ = Command::new("umount")
                .arg("-l")
                .arg(&self.mounted_at)
                .status();
        }
    }
}
