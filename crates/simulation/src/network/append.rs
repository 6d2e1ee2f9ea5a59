//! A leader's entries for one follower in one group. As `crates/replica/src/network/append.rs`.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use openraft::{
    base::BoxStream,
    errors::RPCError,
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use prost::Message as _;
use tidemill_proto::peer::v1 as peer;
use tidemill_types::PartitionId;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    client::{failure, malformed},
    links::{Body, Links, Reply},
    session::{InFlight, while_open, while_readable, with_entries},
    wire,
};
use crate::{limits::APPEND_TIMEOUT, options::Planted, raft::Types, run, shared::Shared};

type Answers = BoxStream<'static, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Opens the stream. It ends when `input` does, or at the first answer that is not `matching`.
pub(super) async fn open<S>(
    links: &Arc<Links>,
    node: u64,
    target: u64,
    group: PartitionId,
    shared: &Arc<Shared>,
    mut input: S,
) -> Answers
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let Some(first) = input.next().await else {
        return Box::pin(stream::empty());
    };
    let in_flight = Arc::new(InFlight::new(shared));
    let (number, answers) = links.open(node, target, group);
    // The connection polls the requests on its own, as HTTP/2 does.
    let session = CancellationToken::new();
    let input = stream::once(std::future::ready(first)).chain(input);
    let input = while_readable(input, Arc::clone(&in_flight));
    // The planted bug: openraft is asked as soon as there is room, as by a transport that knows nothing of it.
    let input = if run::planted(Planted::AskedTooEarly) {
        Box::pin(input).left_stream()
    } else {
        with_entries(Box::pin(input), Arc::clone(&in_flight)).right_stream()
    };
    let requests = while_open(Box::pin(input), &session);
    let pump = {
        let (links, in_flight) = (Arc::clone(links), Arc::clone(&in_flight));
        async move {
            let mut requests = std::pin::pin!(requests);
            while let Some(request) = requests.next().await {
                in_flight.sent().await;
                let bytes = wire::append_to_wire(request).encode_to_vec().into();
                let stream = number;
                links.send(node, Body::Append { stream, bytes });
            }
            links.send(node, Body::End { stream: number });
        }
    };
    tokio::spawn(pump);
    let session = session.drop_guard();
    Box::pin(stream::unfold(
        Some((answers, in_flight, session)),
        |state| async move {
            let (mut answers, in_flight, session) = state?;
            in_flight.asked();
            let Some(next) = next(&mut answers, &in_flight).await else {
                let is_overtaken = in_flight.is_overtaken();
                return is_overtaken.then(|| {
                    run::count("sessions overtaken by a purge");
                    (Err(failure("the log is purged beyond")), None)
                });
            };
            if in_flight.is_ambiguous() {
                return None;
            }
            match next {
                Ok(answer) => match wire::appended_from_wire(answer) {
                    Ok(answer) => Some((Ok(answer), Some((answers, in_flight, session)))),
                    Err(error) => Some((Err(malformed(error)), None)),
                },
                Err(error) => Some((Err(error), None)),
            }
        },
    ))
}

/// The next answer; none at the stream's end.
async fn next(
    answers: &mut mpsc::UnboundedReceiver<Reply>,
    in_flight: &InFlight,
) -> Option<Result<peer::AppendResponse, RPCError<Types>>> {
    loop {
        match timeout(APPEND_TIMEOUT / 4, answers.recv()).await {
            Ok(Some(Ok(bytes))) => {
                in_flight.given();
                return Some(peer::AppendResponse::decode(bytes).map_err(malformed));
            }
            Ok(Some(Err(broken))) => return Some(Err(failure(&format!("{broken:?}")))),
            Ok(None) => return None,
            Err(_) => {
                if in_flight.oldest().is_some_and(|age| age > APPEND_TIMEOUT) {
                    return Some(Err(failure("no answer in time")));
                }
            }
        }
    }
}
