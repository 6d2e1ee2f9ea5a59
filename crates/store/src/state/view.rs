//! A group's state at one point in time.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};
use self_cell::self_cell;
use tidemill_rows::Key;

use super::database::StateDatabase;
use crate::StoreError;

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

// A snapshot borrows its database; a view must be able to outlive the handle that it came from.
self_cell!(
    struct Cell {
        owner: Arc<StateDatabase>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// A group's state at one point in time, whatever is written or installed later. Every method may wait
/// for the disk.
pub struct StateView {
    cell: Cell,
}

fn failed(error: &rocksdb::Error) -> StoreError {
    StoreError::rocksdb("state: read", error)
}

impl StateView {
    pub(super) fn of(database: Arc<StateDatabase>) -> Self {
        Self {
            cell: Cell::new(database, |database| database.db().snapshot()),
        }
    }

    /// A row.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let snapshot = self.cell.borrow_dependent();
        let database = self.cell.borrow_owner();
        let family = database.family(database.families().of(key));
        let row = snapshot
            .get_pinned_cf(family, key)
            .map_err(|error| failed(&error))?;
        Ok(row.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// Up to `limit` rows from `from` up to, without, `to`; from the end backwards when `reverse`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row is damaged.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        self.each(from, to, reverse, |key, value| {
            rows.push((Key::from(key), Bytes::copy_from_slice(value)));
            if rows.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(rows)
    }

    /// Calls `each` with all rows from `from` up to, without, `to`, until it breaks. Holds none of them in
    /// memory.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a row is damaged.
    pub fn visit(
        &self,
        from: &[u8],
        to: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.each(from, to, false, each)
    }

    fn each(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        mut each: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let database = self.cell.borrow_owner();
        let mut parts = database.families().parts(from, to);
        if reverse {
            parts.reverse();
        }
        for (family, from, to) in parts {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(&*from);
            options.set_iterate_upper_bound(&*to);
            let family = database.family(family);
            let snapshot = self.cell.borrow_dependent();
            let mut rows = snapshot.raw_iterator_cf_opt(family, options);
            if reverse {
                rows.seek_to_last();
            } else {
                rows.seek_to_first();
            }
            while let Some((key, value)) = rows.item() {
                if each(key, value).is_break() {
                    return Ok(());
                }
                if reverse {
                    rows.prev();
                } else {
                    rows.next();
                }
            }
            rows.status().map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}
