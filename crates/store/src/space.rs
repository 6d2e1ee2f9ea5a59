//! Disk space: new work is refused before the disk is full, because RocksDB cannot go on after a
//! failed write to its log and the node then has to restart.
//!
//! Two watermarks, and a ballast. Below `reserve_bytes` the node takes no new work; what is running
//! may end, elections go on. Below a quarter of it followers should refuse entries too. The ballast is
//! a file of that quarter's size. When another process has filled the disk all the same and the node
//! has stopped, it is deleted at the next start: RocksDB cannot open a log without writing what it
//! replays. A running node never lets it go, or would only run into the end a little later.

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
    state: Mutex<Ballast>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ballast {
    Held,
    Released,
    /// The file system cannot allocate; not tried again.
    Unsupported,
}

impl SpaceMonitor {
    /// Lets the ballast go when there is no room to open the databases.
    pub fn open(dir: &Path, reserve: u64) -> Result<Self, StoreError> {
        let ballast = dir.join(BALLAST_FILE);
        let monitor = Self {
            dir: dir.to_owned(),
            state: Mutex::new(if ballast.exists() {
                Ballast::Held
            } else {
                Ballast::Released
            }),
            ballast,
            reserve,
        };
        if monitor.read()?.critical {
            monitor.release()?;
        } else {
            monitor.restore()?;
        }
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

    fn release(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        if *state == Ballast::Held {
            tracing::warn!("disk nearly full, ballast released");
            fs::remove_file(&self.ballast)
                .map_err(|error| StoreError::path("remove", &self.ballast, &error))?;
            *state = Ballast::Released;
        }
        Ok(())
    }

    /// Takes the ballast back once there is room to spare.
    pub fn restore(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock().expect("nothing panics while it is held");
        let enough = self.reserve.saturating_add(2 * self.critical());
        if *state == Ballast::Released && self.read()?.free >= enough {
            *state = self.take_ballast();
        }
        Ok(())
    }

    /// A comfort, not a need: a file system that cannot allocate goes without.
    fn take_ballast(&self) -> Ballast {
        let taken = File::create(&self.ballast).and_then(|file| {
            fallocate(file, FallocateFlags::empty(), 0, self.critical().max(1)).map_err(Into::into)
        });
        match taken {
            Ok(()) => Ballast::Held,
            Err(error) => {
                tracing::debug!(%error, "no ballast on this file system");
                let _ = fs::remove_file(&self.ballast);
                Ballast::Unsupported
            }
        }
    }
}
