//! `StartExecutions`: many starts on one stream, each answered as soon as it can be.
//!
//! All of a stream is driven by whoever polls its answers: there is no task and no queue of its own, so what
//! becomes ready together shares a message.

use std::{cell::Cell, future::Future, sync::Arc, task::Poll};

use axum::http::HeaderMap;
use futures::{
    Stream, StreamExt as _,
    stream::{FuturesUnordered, poll_fn},
};
use prost::Message as _;
use tidemill_proto::v1::{
    NumberedAnswer, NumberedStart, StartError, StartExecutionResponse, StartExecutionsRequest,
    StartExecutionsResponse, numbered_answer::Outcome,
};
use tidemill_types::limits::{
    STARTS_ANSWER_BYTES, STARTS_PER_MESSAGE_MAX, STARTS_UNDER_WAY_BYTES, STARTS_UNDER_WAY_MAX,
};
use tokio::time::Instant;
use tonic::{Code, Status, metadata::MetadataMap};
use tracing::Instrument as _;

use super::start::start;
use crate::{
    gateway::{Open, Origin, invalid, status},
    request::ANSWERED_BY,
    telemetry::request_span,
};

/// What each start counts as, whichever way it comes.
const RPC: &str = "ExecutionService/StartExecution";

/// Starts that are taken before others of the node have their turn: each costs some microseconds.
const STARTS_PER_TURN: usize = 64;

/// Answers what comes in, until it ends or the node stops, and all that was taken is answered.
pub(super) fn serve<S>(
    open: Arc<Open>,
    origin: Origin,
    mut inbound: S,
) -> impl Stream<Item = Result<StartExecutionsResponse, Status>> + Send
where
    S: Stream<Item = Result<StartExecutionsRequest, Status>> + Send + Unpin,
{
    let mut under_way = FuturesUnordered::new();
    let mut message = Vec::new().into_iter();
    let mut bytes_under_way = 0;
    let mut ended: Option<Result<(), Status>> = None;
    let mut stopping = Box::pin(open.node.shutdown.clone().cancelled_owned());
    poll_fn(move |context| {
        let mut turn = 0;
        loop {
            for start in message.by_ref().take(STARTS_PER_TURN - turn) {
                let answer = answered(Arc::clone(&open), origin, start);
                under_way.push(answer);
                turn += 1;
            }
            if turn == STARTS_PER_TURN {
                context.waker().wake_by_ref();
                break;
            }
            if ended.is_some()
                || under_way.len() >= STARTS_UNDER_WAY_MAX
                || bytes_under_way >= STARTS_UNDER_WAY_BYTES
            {
                break;
            }
            if stopping.as_mut().poll(context).is_ready() {
                ended = Some(Ok(()));
                break;
            }
            match inbound.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(StartExecutionsRequest { starts }))) => {
                    if let Err(wrong) = check(&starts) {
                        ended = Some(Err(wrong));
                        break;
                    }
                    bytes_under_way += starts.iter().map(NumberedStart::encoded_len).sum::<usize>();
                    message = starts.into_iter();
                }
                Poll::Ready(Some(Err(broken))) => ended = Some(Err(broken)),
                Poll::Ready(None) => ended = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        let mut answers = Vec::new();
        let mut answer_bytes = 0;
        while answer_bytes < STARTS_ANSWER_BYTES
            && let Poll::Ready(Some((answer, bytes))) = under_way.poll_next_unpin(context)
        {
            bytes_under_way -= bytes;
            answer_bytes += answer.encoded_len();
            answers.push(answer);
        }
        if !answers.is_empty() {
            return Poll::Ready(Some(Ok(StartExecutionsResponse { answers })));
        }
        match &mut ended {
            Some(end) if under_way.is_empty() && message.len() == 0 => {
                Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err))
            }
            _ => Poll::Pending,
        }
    })
}

fn check(starts: &[NumberedStart]) -> Result<(), Status> {
    if starts.len() <= STARTS_PER_MESSAGE_MAX {
        return Ok(());
    }
    let reason = format!(
        "has {}, at most {STARTS_PER_MESSAGE_MAX} are allowed in a message",
        starts.len()
    );
    Err(status(invalid("starts", reason)))
}

/// One start, with the count, the time and the span that it has as a call of its own; and how many bytes it had.
async fn answered(
    open: Arc<Open>,
    origin: Origin,
    start_of: NumberedStart,
) -> (NumberedAnswer, usize) {
    let bytes = start_of.encoded_len();
    let begun = Instant::now();
    let request = start_of.request.unwrap_or_default();
    let span = request_span(RPC, &HeaderMap::new());
    let serve = async {
        // The stream's headers are none of a start's: its trace is in its request.
        let result = start(&open, origin, request, &MetadataMap::new()).await;
        (result, ANSWERED_BY.with(Cell::take))
    };
    let scoped = ANSWERED_BY.scope(Cell::new(None), serve);
    let (result, answered_by) = scoped.instrument(span).await;
    let metrics = &open.node.metrics;
    let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
    metrics.requested(RPC, code, begun);
    let answer = NumberedAnswer {
        number: start_of.number,
        outcome: Some(outcome(result)),
        leader: answered_by
            .and_then(|node| open.node.replica.member(node))
            .map(|member| member.grpc)
            .unwrap_or_default(),
    };
    (answer, bytes)
}

fn outcome(result: Result<StartExecutionResponse, Status>) -> Outcome {
    match result {
        Ok(started) => Outcome::Started(started),
        Err(status) => Outcome::Error(StartError {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: bytes::Bytes::copy_from_slice(status.details()),
        }),
    }
}
