//! All that there is to judge by.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
};

use serde_json::Value;

use crate::{FileError, JournalFile, Story, Verdict, history::History};

/// A first line is read up to here to tell what a file is.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Histories and journals, read.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What clients and workers saw.
    pub history: History,
    /// Each node's journal.
    pub journals: Vec<JournalFile>,
    /// The fold of the longest chains.
    pub story: Story,
}

impl Evidence {
    /// Reads files of both kinds.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read<P: AsRef<Path>>(
        files: impl IntoIterator<Item = P>,
        verdict: &mut Verdict,
    ) -> Result<Self, FileError> {
        let mut evidence = Self::default();
        let mut histories = 0;
        for path in files {
            let path = path.as_ref();
            let read_error = |source| FileError::Read {
                path: path.to_path_buf(),
                source,
            };
            match kind(path).map_err(read_error)? {
                Some(Kind::History) => {
                    histories += 1;
                    evidence.history.read(path, verdict).map_err(read_error)?;
                }
                Some(Kind::Journal) => {
                    let journal = JournalFile::read(path, verdict).map_err(read_error)?;
                    evidence.journals.push(journal);
                }
                None => {
                    return Err(FileError::Kind {
                        path: path.to_path_buf(),
                    });
                }
            }
        }
        if histories == 0 || evidence.journals.is_empty() {
            return Err(FileError::TooFew {
                histories,
                journals: evidence.journals.len(),
            });
        }
        evidence.fold(verdict)?;
        Ok(evidence)
    }

    /// Folds each partition's longest chain. That the others are the same is a rule of its own.
    fn fold(&mut self, verdict: &mut Verdict) -> Result<(), FileError> {
        let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); self.journals.len()];
        let partitions = self.journals.iter().flat_map(|j| j.chains.keys().copied());
        let partitions: std::collections::BTreeSet<u32> = partitions.collect();
        for partition in partitions {
            let len = |journal: &JournalFile| {
                let chain = journal.chains.get(&partition);
                chain.map_or(0, |chain| chain.hashes.len())
            };
            let mut longest = 0;
            for (at, journal) in self.journals.iter().enumerate() {
                if len(journal) > len(&self.journals[longest]) {
                    longest = at;
                }
            }
            wanted[longest].push(partition);
        }
        for (journal, wanted) in self.journals.iter().zip(&wanted) {
            if wanted.is_empty() {
                continue;
            }
            let story = &mut self.story;
            journal
                .records(wanted, |record| story.take(&record, verdict))
                .map_err(|source| FileError::Read {
                    path: journal.path.clone(),
                    source,
                })?;
        }
        Ok(())
    }
}

enum Kind {
    History,
    Journal,
}

fn kind(path: &Path) -> std::io::Result<Option<Kind>> {
    let mut line = Vec::new();
    let file = BufReader::new(File::open(path)?);
    file.take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
    let header: Value = serde_json::from_slice(&line).unwrap_or_default();
    Ok(
        if header["tidemill_history"].as_u64() == Some(crate::history::FORMAT) {
            Some(Kind::History)
        } else if header.get("tidemill_journal").is_some() {
            Some(Kind::Journal)
        } else {
            None
        },
    )
}
