//! `StartExecutions`: many starts on one stream, each answered as soon as it can be.
//!
//! All of a stream is driven by whoever polls its answers: there is no task and no queue of its own, so what
//! becomes ready together shares a message.

use std::{
    cell::Cell, collections::HashMap, future::Future, sync::Arc, task::Poll, time::Duration,
};

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

/// How long starts of a flow are sent away like the last one that was, without a look: an overloaded leader has work
/// for several times as long, so it misses nothing, and to refuse costs a tenth of what it costs to ask.
const REFUSAL_KEPT: Duration = Duration::from_millis(10);
/// Flows of a stream whose refusals are kept; others are asked for.
const REFUSALS_KEPT_MAX: usize = 64;

/// What was refused as overloaded on a stream a moment ago, by flow.
#[derive(Default)]
struct Refusals(HashMap<String, (Instant, StartError)>);

impl Refusals {
    fn note(&mut self, flow: String, error: &StartError, now: Instant) {
        if self.0.len() >= REFUSALS_KEPT_MAX {
            self.0.retain(|_, (at, _)| now - *at < REFUSAL_KEPT);
        }
        if self.0.len() < REFUSALS_KEPT_MAX {
            self.0.insert(flow, (now, error.clone()));
        }
    }

    fn of(&self, start: &NumberedStart, now: Instant) -> Option<NumberedAnswer> {
        if self.0.is_empty() {
            return None;
        }
        let (at, error) = self.0.get(&start.request.as_ref()?.flow)?;
        (now - *at < REFUSAL_KEPT).then(|| NumberedAnswer {
            number: start.number,
            outcome: Some(Outcome::Error(error.clone())),
            leader: String::new(),
        })
    }
}

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
    let mut refusals = Refusals::default();
    let mut ended: Option<Result<(), Status>> = None;
    let mut stopping = Box::pin(open.node.shutdown.clone().cancelled_owned());
    poll_fn(move |context| {
        let mut turn = 0;
        let mut answers = Vec::new();
        let mut answer_bytes = 0;
        let now = Instant::now();
        loop {
            for start in message.by_ref().take(STARTS_PER_TURN - turn) {
                if let Some(refused) = refusals.of(&start, now) {
                    let metrics = &open.node.metrics;
                    metrics.requested(RPC, Code::ResourceExhausted, now);
                    metrics.commands_shed.with(&["again"]).add(1);
                    answer_bytes += refused.encoded_len();
                    answers.push(refused);
                    turn += 1;
                    continue;
                }
                let bytes = start.encoded_len();
                bytes_under_way += bytes;
                under_way.push(answered(Arc::clone(&open), origin, start, bytes));
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
                    message = starts.into_iter();
                }
                Poll::Ready(Some(Err(broken))) => ended = Some(Err(broken)),
                Poll::Ready(None) => ended = Some(Ok(())),
                Poll::Pending => break,
            }
        }
        while answer_bytes < STARTS_ANSWER_BYTES
            && let Poll::Ready(Some((answer, flow, bytes))) = under_way.poll_next_unpin(context)
        {
            bytes_under_way -= bytes;
            if let Some(Outcome::Error(error)) = &answer.outcome
                && error.code == i32::from(Code::ResourceExhausted)
            {
                refusals.note(flow, error, now);
            }
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

/// One start, with the count, the time and the span that it has as a call of its own; with its flow and its bytes.
async fn answered(
    open: Arc<Open>,
    origin: Origin,
    start_of: NumberedStart,
    bytes: usize,
) -> (NumberedAnswer, String, usize) {
    let begun = Instant::now();
    let request = start_of.request.unwrap_or_default();
    let flow = request.flow.clone();
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
    (answer, flow, bytes)
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

#[cfg(test)]
mod tests {
    use tidemill_proto::v1::StartExecutionRequest;

    use super::*;

    fn start(number: u64, flow: &str) -> NumberedStart {
        let request = StartExecutionRequest {
            flow: flow.into(),
            ..StartExecutionRequest::default()
        };
        NumberedStart {
            number,
            request: Some(request),
        }
    }

    #[test]
    fn a_refusal_is_repeated_for_its_flow_for_a_moment() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.of(&start(1, "flood"), now), None);
        let error = StartError {
            code: Code::ResourceExhausted.into(),
            ..StartError::default()
        };
        refusals.note("flood".into(), &error, now);
        let again = refusals.of(&start(2, "flood"), now).expect("refused");
        assert_eq!(
            (again.number, again.outcome),
            (2, Some(Outcome::Error(error.clone())))
        );
        assert_eq!(refusals.of(&start(3, "quiet"), now), None);
        assert_eq!(refusals.of(&start(4, "flood"), now + REFUSAL_KEPT), None);
        // However many flows there are, only so many are kept, and old ones make room.
        for flow in 0..2 * REFUSALS_KEPT_MAX {
            refusals.note(flow.to_string(), &error, now);
        }
        assert_eq!(refusals.0.len(), REFUSALS_KEPT_MAX);
        refusals.note("late".into(), &error, now + REFUSAL_KEPT);
        assert_eq!(refusals.0.len(), 1);
    }
}
