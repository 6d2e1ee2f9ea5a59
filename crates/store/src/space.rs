//! Disk space: new work is refused before the disk is full, because RocksDB cannot go on after a
//! failed write to its log and the node then has to restart.
//!
//! Two watermarks, and a ballast. Below `reserve_bytes` the node takes no new work; what is running
//! may end, elections go on. Below a quarter of it followers should refuse entries too. The ballast is
//! a file of that quarter's size, deleted when that mark is reached: it is what a node starts from, to
//! serve reads, when another process has filled the disk.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::StoreError;

const BALLAST_FILE: &str = "BALLAST";
const CRITICAL_DIVISOR: u64 = 4;

/// How much room the data directory's file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes free to this process, without the ballast.
    pub free: u64,
    /// Below the reserve: refuse new work as unavailable.
    pub low: bool,
    /// Below a quarter of the reserve: refuse replicated entries and snapshots too, lest a write of the
    /// log fails and the node stops.
    pub critical: bool,
}

pub struct SpaceMonitor {
    dir: PathBuf,
    ballast: PathBuf,
    reserve: u64,
    has_ballast: Mutex<bool>,
}

impl SpaceMonitor {
    /// Frees the ballast when there is no room to open the databases.
    pub fn open(dir: &Path, reserve: u64) -> Result<Self, StoreError> {
        let ballast = dir.join(BALLAST_FILE);
        let monitor = Self {
            dir: dir.to_owned(),
            has_ballast: Mutex::new(ballast.exists()),
            ballast,
            reserve,
        };
        monitor.adjust()?;
        Ok(monitor)
    }

    fn critical(&self) -> u64 {
        self.reserve / CRITICAL_DIVISOR
    }

    pub fn read(&self) -> Result<Space, StoreError> {
        let stat = statvfs(&self.dir)
            .map_err(|errno| StoreError::path("read free space of", &self.dir, &errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Space {
            free,
            low: free < self.reserve,
            critical: free < self.critical(),
        })
    }

    /// Lets the ballast go, or takes it back with room to spare, lest it comes and goes.
    pub fn adjust(&self) -> Result<Space, StoreError> {
        let mut has_ballast = self
            .has_ballast
            .lock()
            .expect("nothing panics while it is held");
        let space = self.read()?;
        if *has_ballast && space.critical {
            tracing::warn!(free = space.free, "disk nearly full, ballast released");
            fs::remove_file(&self.ballast)
                .map_err(|error| StoreError::path("remove", &self.ballast, &error))?;
            *has_ballast = false;
            return self.read();
        }
        if !*has_ballast && space.free >= self.reserve.saturating_add(2 * self.critical()) {
            *has_ballast = self.take_ballast();
            return self.read();
        }
        Ok(space)
    }

    /// A comfort, not a need: a file system that cannot allocate goes without.
    fn take_ballast(&self) -> bool {
        let taken = File::create(&self.ballast).and_then(|file| {
            fallocate(file, FallocateFlags::empty(), 0, self.critical().max(1)).map_err(Into::into)
        });
        if let Err(error) = &taken {
            tracing::debug!(%error, "no ballast on this file system");
            let _ = fs::remove_file(&self.ballast);
        }
        taken.is_ok()
    }
}
