//! Decides, from what clients and workers wrote down and from exported journals, whether every promise of
//! Tidemill was kept.
//!
//! Owns the format of histories ([`history`]) and one rule per promise ([`rules`]). It must never depend on
//! the engine: what it knows of an execution it reads in the journal's records, by their public meaning
//! (`docs/journal.md`). It opens no connection and reads no clock.
//!
//! ```no_run
//! let verdict = tidemill_checker::check(["history.jsonl", "node-1.jsonl", "node-2.jsonl"])?;
//! for violation in &verdict.violations {
//!     println!("{violation}");
//! }
//! # Ok::<(), tidemill_checker::FileError>(())
//! ```

pub mod history;
pub mod rules;

mod evidence;
mod fold;
mod journal;
mod recorder;
mod verdict;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use evidence::Evidence;
pub use fold::{Ended, ExecutionStory, StepStory, Story};
pub use journal::{Chain, JournalFile};
pub use recorder::Recorder;
pub use verdict::{Counts, Rule, Verdict, Violation};

/// Why a file could not be judged at all. What is wrong *in* a file is a [`Violation`].
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its first line says neither that it is a history nor a journal.
    #[error(
        "{path}: the first line is no header of a history ({{\"tidemill_history\": 1}}) or of a journal export ({{\"tidemill_journal\": 1, …}})"
    )]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Nothing to judge by.
    #[error(
        "at least one history and one exported journal are needed; there are {histories} and {journals}"
    )]
    TooFew {
        /// Histories given.
        histories: usize,
        /// Journals given.
        journals: usize,
    },
}

/// Reads histories and journals (told apart by their first lines, in any order) and applies all rules.
///
/// # Errors
/// [`FileError`].
pub fn check<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Verdict, FileError> {
    let mut verdict = Verdict::default();
    let evidence = Evidence::read(files, &mut verdict)?;
    rules::apply(&evidence, &mut verdict);
    Ok(verdict)
}
