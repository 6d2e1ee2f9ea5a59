//! How far the WAL was synced, kept outside it.
//!
//! RocksDB takes the first record that it cannot read for the end of the WAL, since a crash leaves
//! just that: a torn tail. Damage further up looks the same and would silently drop what was
//! acknowledged. So after each sync the sequence number is written here, without a sync of its own:
//! the page cache survives a crash of the process, and after a power cut the mark may be old but is
//! never ahead of the WAL. A log that ends before its mark is damaged.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{StoreError, file};

const FILE: &str = "SYNCED";
const LEN: usize = 12;
/// How old the mark on disk may be, at most, when power is cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub struct SyncMark {
    path: PathBuf,
    file: Option<File>,
    sequence: u64,
    synced: Instant,
    dirty: bool,
}

impl SyncMark {
    /// The mark of the log in `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let bytes = file::read(&path)?;
        let sequence = match &bytes {
            None => 0,
            Some(bytes) => Self::decode(bytes)
                .ok_or_else(|| StoreError::corrupt(format!("{} is not a mark", path.display())))?,
        };
        let mut mark = Self {
            path,
            file: None,
            sequence,
            synced: Instant::now(),
            dirty: false,
        };
        if bytes.is_some() {
            mark.open_file()?;
        }
        Ok(mark)
    }

    /// False before the log was first opened.
    pub fn exists(&self) -> bool {
        self.file.is_some()
    }

    /// Compares the mark with what was recovered.
    pub fn check(&self, recovered: u64) -> Result<(), StoreError> {
        if recovered < self.sequence {
            return Err(StoreError::corrupt(format!(
                "the log's WAL was synced up to sequence number {}, but can be read only up to \
                 {recovered}: {} is damaged or files are missing in it",
                self.sequence,
                self.path.with_file_name(super::database::FOLDER).display()
            )));
        }
        Ok(())
    }

    /// Notes that the WAL is synced up to `sequence`.
    pub fn advance(&mut self, sequence: u64) -> Result<(), StoreError> {
        if self.file.is_none() {
            file::replace(&self.path, &Self::encode(sequence))?;
            self.open_file()?;
        }
        let file = self.file.as_ref().expect("opened above");
        file.write_all_at(&Self::encode(sequence), 0)
            .map_err(|error| StoreError::path("write", &self.path, &error))?;
        self.sequence = sequence;
        self.dirty = true;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes the mark itself durable, if it changed.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if let (true, Some(file)) = (self.dirty, &self.file) {
            file.sync_data()
                .map_err(|error| StoreError::path("sync", &self.path, &error))?;
            self.dirty = false;
            self.synced = Instant::now();
        }
        Ok(())
    }

    fn open_file(&mut self) -> Result<(), StoreError> {
        let file = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .map_err(|error| StoreError::path("open", &self.path, &error))?;
        self.file = Some(file);
        Ok(())
    }

    // 12 bytes at the start of the file never straddle a sector, so they are not torn.
    fn encode(sequence: u64) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..8]);
        bytes[8..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<u64> {
        let bytes: [u8; LEN] = bytes.try_into().ok()?;
        let sequence = u64::from_be_bytes(bytes[..8].try_into().ok()?);
        (Self::encode(sequence) == bytes).then_some(sequence)
    }
}
