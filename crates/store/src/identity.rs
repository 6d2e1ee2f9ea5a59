//! Whose data a directory holds. A node that starts on another's data would vote with its promises.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_types::NodeId;

use crate::{OpenError, StoreError, file};

/// The format that this version writes. Raised when an older version must not open the directory.
pub const FORMAT: u32 = 1;

const FILE: &str = "IDENTITY";

/// Whose data a directory holds, kept as JSON in its file `IDENTITY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreIdentity {
    /// The format of everything in the directory.
    pub format: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
}

/// Only the format: all that may be read of a file that a newer version wrote.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl StoreIdentity {
    /// An identity of this version's format.
    #[must_use]
    pub fn new(cluster: impl Into<String>, node: NodeId) -> Self {
        Self {
            format: FORMAT,
            cluster: cluster.into(),
            node,
        }
    }

    /// What a directory says of itself; none when it says nothing. Opens nothing else.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read or understood.
    pub fn read(dir: &Path) -> Result<Option<Self>, OpenError> {
        let failed = |error| OpenError::Store {
            dir: dir.display().to_string(),
            error,
        };
        let Some(bytes) = file::read(&dir.join(FILE)).map_err(failed)? else {
            return Ok(None);
        };
        let damaged = |error: serde_json::Error| {
            failed(StoreError::corrupt(format!(
                "{FILE} is not an identity: {error}"
            )))
        };
        let FormatOnly { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat {
                dir: dir.display().to_string(),
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Refuses a directory of somebody else; true when the directory is new and [`Self::claim`] must follow.
    pub(crate) fn check(&self, dir: &Path) -> Result<bool, OpenError> {
        if let Some(found) = Self::read(dir)? {
            if found.cluster == self.cluster && found.node == self.node {
                return Ok(false);
            }
            return Err(OpenError::OtherIdentity {
                dir: dir.display().to_string(),
                found_cluster: found.cluster,
                found_node: found.node,
                cluster: self.cluster.clone(),
                node: self.node,
            });
        }
        if self.format > FORMAT {
            return Err(OpenError::NewerFormat {
                dir: dir.display().to_string(),
                found: self.format,
                known: FORMAT,
            });
        }
        // `lost+found` makes the root of a file system of its own acceptable; the temporary file is
        // ours, from a crash during the first claim.
        let mut entries = dir.read_dir().map_err(|error| OpenError::Store {
            dir: dir.display().to_string(),
            error: StoreError::path("list", dir, &error),
        })?;
        let foreign = entries.any(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                name != "lost+found" && name != "IDENTITY.tmp"
            })
        });
        if foreign {
            return Err(OpenError::NotOurs {
                dir: dir.display().to_string(),
            });
        }
        Ok(true)
    }

    /// Writes the file, before anything else is in the directory.
    pub(crate) fn claim(&self, dir: &Path) -> Result<(), StoreError> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| StoreError::corrupt(format!("{FILE} cannot be written: {error}")))?;
        text.push(b'\n');
        file::replace(&dir.join(FILE), &text)
    }
}
