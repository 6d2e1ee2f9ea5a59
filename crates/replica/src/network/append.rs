//! A leader's entries for one follower in one group: a stream of requests, answered in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use openraft::{
    base::BoxStream,
    errors::RPCError,
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::{client::Failure, link::Link, serve::GROUP, wire};
use crate::{
    limits::{APPEND_TIMEOUT, APPENDS_IN_FLIGHT_MAX},
    raft::Types,
    shared::Shared,
};

type Answers = BoxStream<'static, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Requests that were sent and not answered.
struct InFlight {
    room: Semaphore,
    sent_at: Mutex<VecDeque<Instant>>,
    /// The requests have ended, because the log is purged beyond what the follower has.
    is_overtaken: AtomicBool,
}

impl InFlight {
    /// Waits for room.
    async fn sent(&self) {
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.push_back(Instant::now());
    }

    fn answered(&self) {
        self.room.add_permits(1);
        let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.pop_front();
    }

    fn oldest(&self) -> Option<Duration> {
        let sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        sent_at.front().map(Instant::elapsed)
    }
}

/// Opens the stream. It ends when `input` does, or at the first answer that is not `matching`.
pub(super) async fn open<S>(
    link: &Arc<Link>,
    group: PartitionId,
    shared: &Arc<Shared>,
    failure: Failure,
    mut input: S,
) -> Result<Answers, RPCError<Types>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    // openraft waits out its backoff inside of `input`. Where a connection fails at once, as to a node that
    // is down, nobody would ask `input` for anything, and the leader would try again without a pause.
    let Some(first) = input.next().await else {
        return Ok(Box::pin(stream::empty()));
    };
    let input = stream::once(std::future::ready(first)).chain(input);
    let in_flight = Arc::new(InFlight {
        room: Semaphore::new(APPENDS_IN_FLIGHT_MAX),
        sent_at: Mutex::new(VecDeque::new()),
        is_overtaken: AtomicBool::new(false),
    });
    // The connection polls the requests on its own, even after the answers were dropped: openraft has
    // moved on then, and what it would read may be purged.
    let session = CancellationToken::new();
    let requests = {
        let in_flight = Arc::clone(&in_flight);
        let link = Arc::clone(link);
        let input = while_readable(input, Arc::clone(shared), Arc::clone(&in_flight));
        let input = while_open(Box::pin(input), &session);
        input.then(move |request| {
            let in_flight = Arc::clone(&in_flight);
            let link = Arc::clone(&link);
            async move {
                in_flight.sent().await;
                link.counters.appends.fetch_add(1, Relaxed);
                wire::append_to_wire(request)
            }
        })
    };
    let session = session.drop_guard();
    let mut request = Request::new(requests);
    request
        .metadata_mut()
        .insert(GROUP, u64::from(group.0).into());
    let mut client = link.client();
    let answers = match timeout(APPEND_TIMEOUT, client.append(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(failure.of(&status)),
        Err(_) => return Err(failure.timeout(APPEND_TIMEOUT)),
    };
    Ok(Box::pin(stream::unfold(
        Some((answers, in_flight, failure, session)),
        |state| async move {
            let (mut answers, in_flight, failure, session) = state?;
            match next(&mut answers, &in_flight).await {
                // Told as a failure, openraft looks at the follower anew, and finds that it needs a snapshot.
                Ok(None) if in_flight.is_overtaken.load(Relaxed) => {
                    let why = "the log is purged beyond what the follower has";
                    Some((Err(failure.of(&Status::aborted(why))), None))
                }
                Ok(None) => None,
                Ok(Some(answer)) => match wire::appended_from_wire(answer) {
                    Ok(answer) => Some((Ok(answer), Some((answers, in_flight, failure, session)))),
                    Err(error) => {
                        Some((Err(failure.of(&Status::internal(error.to_string()))), None))
                    }
                },
                Err(Some(status)) => Some((Err(failure.of(&status)), None)),
                Err(None) => Some((Err(failure.timeout(APPEND_TIMEOUT)), None)),
            }
        },
    )))
}

/// The requests, until the session is over.
fn while_open<S: Stream + Send + Unpin + 'static>(
    input: S,
    session: &CancellationToken,
) -> impl Stream<Item = S::Item> + Send + use<S> {
    input.take_until(session.clone().cancelled_owned())
}

/// The requests, until one comes that can carry nothing, now or ever: openraft would send it for ever, and
/// the follower would stay behind for as long as this leader leads.
fn while_readable<S>(
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

/// The next answer; an error without status when none comes in time.
async fn next(
    answers: &mut Streaming<peer::AppendResponse>,
    in_flight: &InFlight,
) -> Result<Option<peer::AppendResponse>, Option<Status>> {
    loop {
        match timeout(APPEND_TIMEOUT / 4, answers.message()).await {
            Ok(Ok(answer)) => {
                in_flight.answered();
                return Ok(answer);
            }
            Ok(Err(status)) => return Err(Some(status)),
            Err(_) => {
                if in_flight.oldest().is_some_and(|age| age > APPEND_TIMEOUT) {
                    return Err(None);
                }
            }
        }
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

    #[tokio::test]
    async fn a_session_that_the_purge_has_overtaken_ends() {
        let request = |prev, entries| AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, prev)),
            entries,
            leader_commit: None,
        };
        let shared = Arc::new(Shared::new(u64::MAX));
        let in_flight = Arc::new(InFlight {
            room: Semaphore::new(1),
            sent_at: Mutex::default(),
            is_overtaken: AtomicBool::new(false),
        });
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
        assert!(in_flight.is_overtaken.load(Relaxed));
    }
}
