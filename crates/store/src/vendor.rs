//! RocksDB's errors as ours. Apart from [`StoreError`] itself, whose file knows no vendor.

use crate::StoreError;

impl StoreError {
    pub(crate) fn rocksdb(what: impl Into<String>, error: &rocksdb::Error) -> Self {
        let what = what.into();
        let message: &str = error.as_ref();
        // The C API hands over text only; the subcode of ENOSPC shows in it and nowhere else.
        if message.contains("No space left on device") {
            return Self::NoSpace {
                what: format!("{what} ({message})"),
            };
        }
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Corrupt {
                what: format!("{what}: {message}"),
            },
            _ => Self::Io {
                what,
                error: message.to_owned(),
            },
        }
    }
}
