//! Two small C programs, compiled when a campaign begins: what a Rust program must not do (`unsafe` is forbidden
//! here) and a test must.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

const FAULTS: &str = include_str!("faults.c");
const CUT_POWER: &str = include_str!("cut_power.c");

/// The compiled programs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Preloaded into servers: their clock and their fsync.
    pub faults: PathBuf,
    /// Cuts the power of a file system.
    pub cut_power: PathBuf,
}

impl Tools {
    /// Compiles them into a folder.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub fn build(folder: &Path) -> Result<Self> {
        let tools = Self {
            faults: folder.join("faults.so"),
            cut_power: folder.join("cut_power"),
        };
        compile(
            FAULTS,
            &tools.faults,
            &["-shared", "-fPIC", "-ldl", "-lpthread"],
        )?;
        compile(CUT_POWER, &tools.cut_power, &[])?;
        Ok(tools)
    }
}

fn compile(text: &str, target: &Path, flags: &[&str]) -> Result<()> {
    let source = target.with_extension("c");
    fs::write(&source, text)?;
    let output = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(target)
        .arg(&source)
        .args(flags)
        .output()
        .context("there is no C compiler (cc)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cc: {said}");
    Ok(())
}

/// The words that a server's preloaded library reads.
#[derive(Debug)]
pub struct Switches {
    path: PathBuf,
    words: std::sync::Mutex<[i64; 4]>,
}

impl Switches {
    /// Makes the file, with all switches off.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: PathBuf) -> Result<Self> {
        let switches = Self {
            path,
            words: std::sync::Mutex::new([0; 4]),
        };
        switches.set(0, 0)?;
        Ok(switches)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn set(&self, at: usize, value: i64) -> Result<()> {
        let mut words = self
            .words
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        words[at] = value;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // In place: a server has the file mapped, and must see it change.
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)?;
        std::io::Write::write_all(&mut file, &bytes)?;
        Ok(())
    }

    /// The clock is wrong by this much.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn skew_ms(&self, ms: i64) -> Result<()> {
        self.set(0, ms * 1_000_000)
    }

    /// What fsync does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sync(&self, sync: Sync) -> Result<()> {
        self.set(1, sync as i64)
    }

    /// How much longer fsync takes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sync_delay(&self, delay: std::time::Duration) -> Result<()> {
        self.set(2, i64::try_from(delay.as_micros())?)
    }

    /// What writes to files do.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, write: Write) -> Result<()> {
        self.set(3, write as i64)
    }
}

/// What writes to files do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Their work.
    Works = 0,
    /// They fail with EIO.
    Fails = 1,
    /// A half is written, and then they fail with EIO.
    Tears = 2,
}

/// What fsync does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Its work.
    Works = 0,
    /// It fails with EIO.
    Fails = 1,
    /// It says that it has done it, and has done nothing.
    Lies = 2,
}
