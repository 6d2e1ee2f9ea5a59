//! openraft's log storage over the store's log of one group.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    alias::{LogIdOf, VoteOf},
    storage::{IOFlushed, RaftLogStorage},
};
use tidemill_store::{LogEntry, LogStore, StoreError};
use tokio::sync::oneshot;

use crate::{
    codec,
    limits::{APPEND_BYTES_MAX, APPLY_READ_BYTES_MAX},
    raft::{Entry, Types},
    shared::Shared,
};

/// The log of one group. Vote, entries and committed position go through one ordered WAL.
#[derive(Clone)]
pub(crate) struct Log {
    store: LogStore,
    shared: Arc<Shared>,
}

pub(crate) fn io_error(error: StoreError) -> io::Error {
    io::Error::other(error)
}

impl Log {
    pub fn new(store: LogStore, shared: Arc<Shared>) -> Self {
        Self { store, shared }
    }

    /// Waits until what `ask` asked for is synced.
    async fn synced(ask: impl FnOnce(tidemill_store::Done)) -> Result<(), io::Error> {
        let (tell, told) = oneshot::channel();
        ask(Box::new(move |result| {
            // Nobody listens when the group has been stopped meanwhile.
            let _ = tell.send(result);
        }));
        told.await
            .unwrap_or(Err(StoreError::Stopped))
            .map_err(io_error)
    }

    fn decode(entry: LogEntry) -> Result<Entry, io::Error> {
        let decoded = codec::decode_entry(entry.bytes)?;
        if decoded.log_id.index() != entry.index {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "log entry {} names index {}",
                    entry.index,
                    decoded.log_id.index()
                ),
            ));
        }
        Ok(decoded)
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        Self::entries(self.store.read(from, to, bytes_max))
    }

    /// A log that has failed takes entries no more, and openraft asks for them all the same: with none given, it
    /// would go on as if they had been applied.
    fn read_to_apply(&self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(from, to, APPLY_READ_BYTES_MAX)?;
        if entries.is_empty() {
            self.store.check().map_err(io_error)?;
        }
        Ok(entries)
    }

    fn entries(read: Result<Vec<LogEntry>, StoreError>) -> Result<Vec<Entry>, io::Error> {
        let entries = read.map_err(io_error)?;
        entries.into_iter().map(Self::decode).collect()
    }

    /// As `from` to `to` (exclusive), from the first entry that was not purged.
    fn bounds(&self, range: &impl RangeBounds<u64>) -> Result<(u64, u64), io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let purged_to = self.purged()?.map_or(0, |purged| purged.index() + 1);
        let first = self.store.first_index().unwrap_or(0);
        Ok((from.max(first).max(purged_to), to))
    }

    fn purged(&self) -> Result<Option<LogIdOf<Types>>, io::Error> {
        let marker = self.store.read_purged().map_err(io_error)?;
        Ok(marker.map(|m| codec::decode_log_id(&m)).transpose()?)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = self.bounds(&range)?;
        self.read(from, to, usize::MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // In pieces: after a restart everything since the last flush is read through here.
        let log = self.clone();
        let bounds = self.bounds(&range);
        stream::once(async move { bounds })
            .map_ok(move |(from, to)| {
                let log = log.clone();
                stream::try_unfold(from, move |from| {
                    let read = if from < to {
                        log.read_to_apply(from, to)
                    } else {
                        Ok(Vec::new())
                    };
                    async move {
                        let entries = read?;
                        let next = from + entries.len() as u64;
                        Ok::<_, io::Error>(
                            (!entries.is_empty())
                                .then(|| (stream::iter(entries.into_iter().map(Ok)), next)),
                        )
                    }
                })
                .try_flatten()
            })
            .try_flatten()
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        let vote = self.store.read_vote().map_err(io_error)?;
        Ok(vote.map(|v| codec::decode_vote(&v)).transpose()?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        match self.store.read(start, end, APPEND_BYTES_MAX) {
            // The session has ended and asks once more, after openraft has purged what it stood at; or the
            // purge has overtaken it. openraft takes an error for the log's, and stops the group; nothing it
            // takes for a heartbeat, for ever, so whoever sends it must end the session.
            Err(error @ StoreError::Purged { .. }) => {
                self.shared.note_purged_read(start);
                tracing::warn!(%error, "replication asks for what was purged");
                Ok(Vec::new())
            }
            read => Self::entries(read),
        }
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.purged()?;
        let last = self.store.last().map_err(io_error)?;
        let last = last.map(Self::decode).transpose()?.map(|e| e.log_id);
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        let bytes = codec::encode_vote(vote);
        Self::synced(|done| self.store.save_vote(bytes, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let bytes = committed.map_or_else(Bytes::new, codec::encode_log_id);
        self.store.save_committed(bytes);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<Types>>, io::Error> {
        let committed = self.store.read_committed().map_err(io_error)?;
        let committed = committed.filter(|bytes| !bytes.is_empty());
        Ok(committed.map(|c| codec::decode_log_id(&c)).transpose()?)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|entry| LogEntry {
                index: entry.log_id.index(),
                bytes: codec::encode_entry(&entry),
            })
            .collect();
        if let Some(last) = entries.last() {
            self.shared.set_appended(last.index);
        }
        self.store.append(
            entries,
            Box::new(move |result| callback.io_completed(result.map_err(io_error))),
        );
        Ok(())
    }

    async fn truncate_after(
        &mut self,
        last_log_id: Option<LogIdOf<Types>>,
    ) -> Result<(), io::Error> {
        let from = last_log_id.map_or(0, |id| id.index() + 1);
        Self::synced(|done| self.store.truncate_from(from, done)).await
    }

    async fn purge(&mut self, log_id: LogIdOf<Types>) -> Result<(), io::Error> {
        let marker = codec::encode_log_id(log_id);
        Self::synced(|done| self.store.purge_to(log_id.index(), marker, done)).await
    }
}

#[cfg(test)]
mod tests {
    use openraft::{entry::RaftEntry, storage::RaftLogStorageExt};
    use tidemill_store::{NodeStore, StoreIdentity, StoreOptions};
    use tidemill_types::{NodeId, PartitionId};

    use super::*;
    use crate::raft::{Payload, log_id};

    #[tokio::test]
    async fn a_session_that_asks_for_what_was_purged_stops_nothing() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let identity = StoreIdentity::new("test", NodeId(1));
        let store =
            NodeStore::open(dir.path(), &identity, StoreOptions::default()).expect("new store");
        let shared = Arc::new(Shared::new(u64::MAX));
        let mut log = Log::new(store.log(PartitionId(1)), Arc::clone(&shared));
        let entries = (1..=9).map(|index| Entry::new(log_id(1, index), Payload::Blank));
        log.blocking_append(entries.collect::<Vec<_>>())
            .await
            .expect("appended");
        log.purge(log_id(1, 5)).await.expect("purged");
        let gone = log.limited_get_log_entries(3, 10).await;
        assert!(gone.expect("no error").is_empty());
        assert!(shared.is_overtaken(3) && !shared.is_overtaken(4));
        let kept = log.limited_get_log_entries(6, 10).await.expect("read");
        assert_eq!(kept.len(), 4);
    }
}
