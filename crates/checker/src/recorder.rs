//! Writes a history while it happens.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use serde_json::Value;

use crate::history::{Call, Event, FORMAT, Line, Outcome};

/// A history that many clients and workers of one process write at once.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    next: AtomicU64,
    file: Mutex<BufWriter<File>>,
}

impl Recorder {
    /// Begins a file. `note` is an object whose fields go into its first line, such as the seed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path, note: &Value) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut header = serde_json::Map::new();
        header.insert("tidemill_history".to_owned(), FORMAT.into());
        if let Value::Object(note) = note {
            header.extend(note.clone());
        }
        writeln!(file, "{}", Value::Object(header))?;
        Ok(Self {
            begun: Instant::now(),
            next: AtomicU64::new(1),
            file: Mutex::new(file),
        })
    }

    fn file(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line.
    ///
    /// # Panics
    /// When the file cannot be written: a history with holes would judge wrongly.
    pub fn write(&self, event: Event) {
        let mut file = self.file();
        // The time is read under the lock, so that the order of lines is that of their times.
        let at_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let line = serde_json::to_string(&Line { at_us, event }).expect("a line is plain JSON");
        writeln!(file, "{line}").expect("the history can be written");
    }

    /// A call is about to be sent. Gives its id.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn call(&self, client: &str, call: Call) -> u64 {
        let id = self.next.fetch_add(1, Relaxed);
        let client = client.to_owned();
        self.write(Event::Call { id, client, call });
        id
    }

    /// The answer to a call is there.
    ///
    /// # Panics
    /// As [`Self::write`].
    pub fn answer(&self, id: u64, outcome: Outcome) {
        self.write(Event::Return { id, outcome });
    }

    /// Writes what is in memory still.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&self) -> std::io::Result<()> {
        self.file().flush()
    }
}
