//! A leader's entries for one follower in one group: a stream of requests, answered in order.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use futures::{Stream, StreamExt, stream};
use openraft::{
    base::BoxStream,
    errors::RPCError,
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use super::{
    client::Failure,
    link::Link,
    serve::GROUP,
    session::{InFlight, while_open, while_readable, with_entries},
    wire,
};
use crate::{limits::APPEND_TIMEOUT, raft::Types, shared::Shared};

type Answers = BoxStream<'static, Result<StreamAppendResult<Types>, RPCError<Types>>>;

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
    let in_flight = Arc::new(InFlight::new(shared));
    // The connection polls the requests on its own, even after the answers were dropped: openraft has
    // moved on then, and what it would read may be purged.
    let session = CancellationToken::new();
    let requests = {
        let in_flight = Arc::clone(&in_flight);
        let link = Arc::clone(link);
        let input = while_readable(input, Arc::clone(&in_flight));
        let input = with_entries(Box::pin(input), Arc::clone(&in_flight));
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
    let state = Some((answers, in_flight, failure, session));
    let answers = stream::unfold(state, |state| async move {
        let (mut answers, in_flight, failure, session) = state?;
        in_flight.asked();
        match next(&mut answers, &in_flight).await {
            // Told as a failure, openraft looks at the follower anew, and finds that it needs a snapshot.
            Ok(None) if in_flight.is_overtaken() => {
                let why = "the log is purged beyond what the follower has";
                Some((Err(failure.of(&Status::aborted(why))), None))
            }
            Ok(None) => None,
            Ok(Some(_)) if in_flight.is_ambiguous() => None,
            Ok(Some(answer)) => match wire::appended_from_wire(answer) {
                Ok(answer) => Some((Ok(answer), Some((answers, in_flight, failure, session)))),
                Err(error) => Some((Err(failure.of(&Status::internal(error.to_string()))), None)),
            },
            Err(Some(status)) => Some((Err(failure.of(&status)), None)),
            Err(None) => Some((Err(failure.timeout(APPEND_TIMEOUT)), None)),
        }
    });
    Ok(Box::pin(answers))
}

/// The next answer; an error without status when none comes in time.
async fn next(
    answers: &mut Streaming<peer::AppendResponse>,
    in_flight: &InFlight,
) -> Result<Option<peer::AppendResponse>, Option<Status>> {
    loop {
        match timeout(APPEND_TIMEOUT / 4, answers.message()).await {
            Ok(Ok(answer)) => {
                in_flight.given();
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
