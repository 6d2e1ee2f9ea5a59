//! A replication session's requests: how many are under way, and when there must be no more.
//!
//! Knows nothing of how they are sent: the whole-node simulation (`crates/simulation`) compiles this file too.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    limits::{APPENDS_IN_FLIGHT_MAX, COMMIT_WAIT},
    raft::Types,
    shared::Shared,
};

/// Requests that were sent and whose answers openraft has not taken.
pub(super) struct InFlight {
    shared: Arc<Shared>,
    room: Semaphore,
    sent_at: Mutex<VecDeque<Instant>>,
    is_given: AtomicBool,
    is_overtaken: AtomicBool,
    is_ambiguous: AtomicBool,
}

impl InFlight {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            room: Semaphore::new(APPENDS_IN_FLIGHT_MAX),
            sent_at: Mutex::default(),
            is_given: AtomicBool::new(false),
            is_overtaken: AtomicBool::new(false),
            is_ambiguous: AtomicBool::new(false),
        }
    }

    fn sent_at(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.sent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room.
    pub async fn sent(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        self.sent_at().push_back(Instant::now());
    }

    /// An answer is given to openraft.
    pub fn given(&self) {
        self.is_given.store(true, Relaxed);
    }

    /// openraft asks for an answer: it has done with the one before.
    pub fn asked(&self) {
        if self.is_given.swap(false, Relaxed) {
            self.room.add_permits(1);
            self.sent_at().pop_front();
            self.shared.wake_sessions();
        }
    }

    pub fn oldest(&self) -> Option<Duration> {
        self.sent_at().front().map(Instant::elapsed)
    }

    fn is_empty(&self) -> bool {
        self.sent_at().is_empty()
    }

    /// Whether the requests have ended because the log is purged beyond what the follower has.
    pub fn is_overtaken(&self) -> bool {
        self.is_overtaken.load(Relaxed)
    }

    /// Whether openraft could take an answer for that of another request. It must get none any more.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous.load(Relaxed)
    }

    /// Returns when there are entries after the one that was sent last; or when all is answered, and a commit has
    /// waited for entries long enough.
    async fn wait_for_entries(&self, sent: u64) {
        let shared = &self.shared;
        let has_entries = || shared.has_appended_beyond(sent);
        shared.until(|| has_entries() || self.is_empty()).await;
        // Whether they come or not, there is something to ask for.
        let _ = timeout(COMMIT_WAIT, shared.until(has_entries)).await;
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
    in_flight: Arc<InFlight>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    input.take_while(move |request| {
        let next = request.prev_log_id.map_or(0, |prev| prev.index() + 1);
        let is_overtaken = request.entries.is_empty() && in_flight.shared.is_overtaken(next);
        in_flight.is_overtaken.fetch_or(is_overtaken, Relaxed);
        std::future::ready(!is_overtaken)
    })
}

/// The requests, each asked for when there are entries for it, or all before it are answered.
///
/// openraft finds the request that an answer is of by the last entry, and counts from when it was asked for that
/// request how long the follower has promised to follow no other leader. A request without entries ends where
/// the one before it did: the answer to that one would be taken for its own, and make the leader serve reads while
/// another one is elected (seed 1218 of the campaign: a node that was stopped for four seconds found old answers when it
/// went on). So nothing is asked for that would have no entries while anything is in flight.
///
/// A commit is told in a request without entries where there are none to tell it with. Next to a single caller
/// that would be a second message for every first one, so it waits a little for entries.
pub(super) fn with_entries<S>(
    input: S,
    in_flight: Arc<InFlight>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let state = (input, in_flight, None);
    stream::unfold(state, |(mut input, in_flight, sent)| async move {
        if let Some(sent) = sent {
            in_flight.wait_for_entries(sent).await;
        }
        let request = input.next().await?;
        if request.entries.is_empty() && !in_flight.is_empty() {
            // Entries were appended, and openraft has not heard of it. Seldom if ever; but it must not stand.
            in_flight.is_ambiguous.store(true, Relaxed);
            return None;
        }
        let last = request.entries.last().map(|last| &last.log_id);
        let last = last.or(request.prev_log_id.as_ref());
        let sent = Some(last.map_or(0, |last| last.index()));
        Some((request, (input, in_flight, sent)))
    })
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

    /// Requests with and without entries, as openraft would make them, of a log that has entries up to `appended`.
    fn fixture(
        requests: Vec<AppendEntriesRequest<Types>>,
        appended: u64,
    ) -> (
        impl Stream<Item = AppendEntriesRequest<Types>> + Unpin,
        Arc<InFlight>,
        Arc<Shared>,
    ) {
        let shared = Arc::new(Shared::new(u64::MAX));
        shared.set_appended(appended);
        let in_flight = Arc::new(InFlight::new(&shared));
        let sent = with_entries(stream::iter(requests), Arc::clone(&in_flight));
        let sent = sent.then({
            let in_flight = Arc::clone(&in_flight);
            move |request| {
                let in_flight = Arc::clone(&in_flight);
                async move {
                    in_flight.sent().await;
                    request
                }
            }
        });
        (Box::pin(sent), in_flight, shared)
    }

    fn entry(index: u64) -> Entry {
        Entry::new(log_id(1, index), Payload::Blank)
    }

    fn take_answer(in_flight: &InFlight) {
        in_flight.given();
        in_flight.asked();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_without_entries_is_asked_for_while_anything_is_in_flight() {
        let requests = vec![
            request(3, vec![entry(4)]),
            request(4, vec![entry(5)]),
            request(5, vec![]),
            request(5, vec![]),
            request(5, vec![entry(6)]),
        ];
        let (mut sent, in_flight, shared) = fixture(requests, 5);
        for _ in 0..2 {
            assert!(sent.next().now_or_never().flatten().is_some());
        }
        let long = Duration::from_secs(5);
        assert!(timeout(long, sent.next()).await.is_err());
        take_answer(&in_flight);
        assert!(timeout(long, sent.next()).await.is_err(), "one is left");
        // Given is not taken.
        in_flight.given();
        assert!(timeout(long, sent.next()).await.is_err());
        in_flight.asked();
        for _ in 0..2 {
            let commit = sent.next().await.expect("a request");
            assert!(commit.entries.is_empty());
            assert!(timeout(long, sent.next()).await.is_err());
            take_answer(&in_flight);
        }
        shared.set_appended(6);
        assert!(sent.next().now_or_never().flatten().is_some());
        assert!(!in_flight.is_ambiguous());
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_waits_for_entries_but_not_long() {
        let requests = vec![
            request(3, vec![entry(4)]),
            request(4, vec![entry(5)]),
            request(5, vec![]),
        ];
        let (mut sent, in_flight, shared) = fixture(requests, 4);
        assert!(sent.next().await.is_some());
        take_answer(&in_flight);
        assert!(sent.next().now_or_never().is_none());
        shared.set_appended(5);
        assert!(sent.next().now_or_never().flatten().is_some());
        take_answer(&in_flight);
        let start = Instant::now();
        assert!(sent.next().await.is_some());
        assert!(start.elapsed() >= COMMIT_WAIT);
    }

    #[tokio::test]
    async fn a_request_that_has_no_entries_all_the_same_ends_the_session() {
        let requests = vec![request(3, vec![entry(4)]), request(4, vec![])];
        let (mut sent, in_flight, _shared) = fixture(requests, 5);
        assert!(sent.next().await.is_some());
        assert!(sent.next().await.is_none());
        assert!(in_flight.is_ambiguous());
    }

    #[tokio::test]
    async fn a_session_that_the_purge_has_overtaken_ends() {
        let shared = Arc::new(Shared::new(u64::MAX));
        let in_flight = Arc::new(InFlight::new(&shared));
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
        let sent: Vec<_> = while_readable(input, Arc::clone(&in_flight))
            .collect()
            .await;
        assert_eq!(sent.len(), 2);
        assert!(in_flight.is_overtaken());
    }
}
