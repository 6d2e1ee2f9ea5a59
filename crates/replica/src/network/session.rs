//! A replication session's requests: how many are under way, and when there must be no more.
//!
//! Knows nothing of how they are sent: the whole-node simulation (`crates/simulation`) compiles this file too.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::{APPENDS_IN_FLIGHT_MAX, COMMIT_WAIT, NEXT_COMMIT_WAIT},
    raft::Types,
    shared::Shared,
};

/// Requests that were sent and not answered.
pub(super) struct InFlight {
    room: Semaphore,
    sent_at: Mutex<VecDeque<Instant>>,
    is_overtaken: AtomicBool,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            room: Semaphore::new(APPENDS_IN_FLIGHT_MAX),
            sent_at: Mutex::default(),
            is_overtaken: AtomicBool::new(false),
        }
    }
}

impl InFlight {
    /// Waits for room.
    pub async fn sent(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.push_back(Instant::now());
    }

    pub fn answered(&self) {
        self.room.add_permits(1);
        let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.pop_front();
    }

    pub fn oldest(&self) -> Option<Duration> {
        let sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.front().map(Instant::elapsed)
    }
    /// Whether the requests have ended because the log is purged beyond what the follower has.
    pub fn is_overtaken(&self) -> bool {
        self.is_overtaken.load(Relaxed)
    }
}

/// The requests, until the session is over.
pub(super) fn while_open<S: Stream + Send + Unpin + 'static>(
    input: S,
    session: &CancellationToken,
) -> impl Stream<Item = S::Item> + Send + use<S> {
    input.take_until(session.clone().cancelled_owned())
}

/// The requests, until one comes that can carry nothing, now or ever: openraft would send it for ever, and
/// the follower would stay behind for as long as this leader leads.
pub(super) fn while_readable<S>(
    input: S,
    shared: Arc<Shared>,
    in_flight: Arc<InFlight>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    input.take_while(move |request| {
        let next = request.prev_log_id.map_or(0, |prev| prev.index() + 1);
        let is_overtaken = request.entries.is_empty() && shared.is_overtaken(next);
        in_flight.is_overtaken.fetch_or(is_overtaken, Relaxed);
        std::future::ready(!is_overtaken)
    })
}

/// The requests, each asked for when there are entries for it, or a little later.
///
/// openraft tells each follower of each commit, in a request without entries where there are none to send.
/// Next to a single caller that is a second message for every first one. Asked a little later, it tells of the
/// commit with the entries that follow it. Nothing that openraft has given away is held back: how long a
/// follower has promised to follow is counted from when a request was asked for.
pub(super) fn with_entries<S>(
    input: S,
    shared: Arc<Shared>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let state = (input, shared, None);
    stream::unfold(state, |(mut input, shared, sent)| async move {
        if let Some(sent) = sent {
            wait_for_entries(&shared, sent).await;
        }
        let request = input.next().await?;
        let sent = request.entries.last().map(|last| last.log_id.index());
        Some((request, (input, shared, sent)))
    })
}

/// Returns when there are entries after the one that was sent last, or a commit has waited for them long enough.
async fn wait_for_entries(shared: &Shared, sent: u64) {
    // What was sent last is to be told of, too. If it takes long, what was committed before is.
    let committed = shared.applied_or_appended_beyond(sent);
    if timeout(NEXT_COMMIT_WAIT, committed).await.is_ok() {
        let _ = timeout(COMMIT_WAIT, shared.appended_beyond(sent)).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use openraft::entry::RaftEntry as _;

    use super::*;
    use crate::raft::{Entry, Payload, Vote, log_id};

    #[tokio::test]
    async fn nothing_is_asked_for_after_the_session() {
        let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let input = stream::iter(0..).map({
            let asked = Arc::clone(&asked);
            move |n: u64| {
                asked.fetch_add(1, Relaxed);
                n
            }
        });
        let session = CancellationToken::new();
        let mut requests = Box::pin(while_open(input, &session));
        assert_eq!(requests.next().await, Some(0));
        drop(session.drop_guard());
        assert_eq!(requests.next().now_or_never(), Some(None));
        assert_eq!(asked.load(Relaxed), 1);
    }

    fn request(prev: u64, entries: Vec<Entry>) -> AppendEntriesRequest<Types> {
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, prev)),
            entries,
            leader_commit: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_entries_the_next_request_waits_for_more_of_them_but_not_long() {
        let entry = |index| Entry::new(log_id(1, index), Payload::Blank);
        let shared = Arc::new(Shared::new(u64::MAX));
        shared.set_appended(5);
        let input = vec![
            request(3, vec![entry(4)]),
            request(4, vec![entry(5)]),
            request(5, vec![entry(6)]),
            request(6, vec![]),
            request(6, vec![entry(7)]),
            request(7, vec![]),
        ];
        let mut sent = Box::pin(with_entries(stream::iter(input), Arc::clone(&shared)));
        let start = Instant::now();
        // There is another one already.
        for _ in 0..2 {
            assert!(sent.next().now_or_never().flatten().is_some());
        }
        // There is none, then there is.
        assert!(sent.next().now_or_never().is_none());
        shared.set_appended(6);
        assert!(sent.next().now_or_never().flatten().is_some());
        assert_eq!(start.elapsed(), Duration::ZERO);
        // There is none for as long as it waits, once what was sent is committed.
        assert!(sent.next().now_or_never().is_none());
        shared.set_applied(6);
        let commit = sent.next().await.expect("a request");
        assert!(commit.entries.is_empty());
        assert!(start.elapsed() >= COMMIT_WAIT && start.elapsed() < NEXT_COMMIT_WAIT);
        // One without entries makes nothing wait.
        assert!(sent.next().now_or_never().flatten().is_some());
        // What is not committed for long is not waited for.
        let start = Instant::now();
        assert!(sent.next().await.is_some());
        assert!(start.elapsed() >= NEXT_COMMIT_WAIT);
    }

    #[tokio::test]
    async fn a_session_that_the_purge_has_overtaken_ends() {
        let shared = Arc::new(Shared::new(u64::MAX));
        let in_flight = Arc::new(InFlight::default());
        shared.note_purged_read(7);
        // Entries that were read before the purge, and a commit without entries ahead of it, go out.
        let read = vec![Entry::new(log_id(1, 4), Payload::Blank)];
        let input = vec![
            request(3, read),
            request(7, vec![]),
            request(6, vec![]),
            request(9, vec![]),
        ];
        let input = stream::iter(input);
        let sent: Vec<_> = while_readable(input, shared, Arc::clone(&in_flight))
            .collect()
            .await;
        assert_eq!(sent.len(), 2);
        assert!(in_flight.is_overtaken());
    }
}
