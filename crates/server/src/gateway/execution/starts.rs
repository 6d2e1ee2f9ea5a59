//! `StartExecutions`: many starts on one stream, each answered as soon as it can be.
//!
//! All of a stream is driven by whoever polls its answers: there is no task and no queue of its own, so what
//! becomes ready together shares a message.

use std::{cell::Cell, future::Future, sync::Arc, task::Poll, time::Duration};

use axum::http::HeaderMap;
use futures::{
    Stream, StreamExt as _,
    stream::{FuturesUnordered, poll_fn},
};
use prost::Message as _;
use tidemill_proto::v1::{
    NumberedAnswer, NumberedStart, RefusedStarts, StartError, StartExecutionResponse,
    StartExecutionsRequest, StartExecutionsResponse, numbered_answer::Outcome,
};
use tidemill_types::limits::{
    STARTS_ANSWER_BYTES, STARTS_PER_MESSAGE_MAX, STARTS_UNDER_WAY_BYTES, STARTS_UNDER_WAY_MAX,
};
use tokio::time::Instant;
use tonic::{Code, Status, metadata::MetadataMap};
use tracing::Instrument as _;

use super::{refusals::Refusal, start::start};
use crate::{
    gateway::{Open, Origin, invalid, status},
    request::ANSWERED_BY,
    telemetry::request_span,
};

/// What each start counts as, whichever way it comes.
const RPC: &str = "ExecutionService/StartExecution";

/// Starts that are taken before others of the node have their turn: each costs some microseconds.
const STARTS_PER_TURN: usize = 16;
/// To send a start away like another costs a small part of what it costs to take one.
const REFUSED_PER_TAKEN: usize = 32;
/// So many are asked for before their answers are looked at: once one is refused, those after it need not ask.
const STARTS_AT_ONCE: usize = 16;

/// A stream of which starts were sent away is not read for so long: more of them are then sent away together,
/// and a caller that goes on regardless is slowed down by the stream itself.
const PAUSE: Duration = Duration::from_millis(5);

/// Starts that were sent away alike and are not told yet.
#[derive(Default)]
struct Untold {
    alike: Vec<(Arc<Refusal>, Vec<u64>)>,
    count: usize,
}

impl Untold {
    fn push(&mut self, refusal: &Arc<Refusal>, number: u64) {
        self.count += 1;
        let known = self
            .alike
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, refusal));
        match known {
            Some((_, numbers)) => numbers.push(number),
            None => self.alike.push((Arc::clone(refusal), vec![number])),
        }
    }

    fn tell(self) -> Vec<RefusedStarts> {
        let told = self
            .alike
            .into_iter()
            .map(|(refusal, numbers)| RefusedStarts {
                numbers,
                error: Some(refusal.error.clone()),
            });
        told.collect()
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
    let mut pause = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut ended: Option<Result<(), Status>> = None;
    let mut stopping = Box::pin(open.node.shutdown.clone().cancelled_owned());
    poll_fn(move |context| {
        let mut taken = 0;
        let mut untold = Untold::default();
        let mut answers = Vec::new();
        let mut answer_bytes = 0;
        let now = Instant::now();
        loop {
            while answer_bytes < STARTS_ANSWER_BYTES
                && let Poll::Ready(Some(one)) = under_way.poll_next_unpin(context)
            {
                let (answer, flow, bytes): (NumberedAnswer, String, usize) = one;
                bytes_under_way -= bytes;
                if let Some(Outcome::Error(error)) = &answer.outcome
                    && error.code == i32::from(Code::ResourceExhausted)
                {
                    open.refusals.note(flow, error.clone(), now);
                }
                answer_bytes += answer.encoded_len();
                answers.push(answer);
            }
            if message.len() == 0 {
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
                if pause.as_mut().poll(context).is_pending() {
                    break;
                }
                match inbound.poll_next_unpin(context) {
                    Poll::Ready(Some(Ok(StartExecutionsRequest { starts }))) => {
                        if let Err(wrong) = check(&starts) {
                            ended = Some(Err(wrong));
                            break;
                        }
                        message = starts.into_iter();
                        taken += 1; // an empty message is work, too
                    }
                    Poll::Ready(Some(Err(broken))) => ended = Some(Err(broken)),
                    Poll::Ready(None) => ended = Some(Ok(())),
                    Poll::Pending => break,
                }
            }
            if taken + untold.count / REFUSED_PER_TAKEN >= STARTS_PER_TURN {
                context.waker().wake_by_ref();
                break;
            }
            for start in message.by_ref().take(STARTS_AT_ONCE) {
                let flow = start.request.as_ref().map_or("", |request| &request.flow);
                if let Some(refusal) = open.refusals.of(flow, now) {
                    untold.push(&refusal, start.number);
                    continue;
                }
                let bytes = start.encoded_len();
                bytes_under_way += bytes;
                taken += 1;
                under_way.push(answered(Arc::clone(&open), origin, start, bytes));
            }
        }
        if untold.count > 0 {
            let (metrics, times) = (&open.node.metrics, untold.count as u64);
            metrics.requested_alike(RPC, Code::ResourceExhausted, now, times);
            metrics.commands_shed.with(&["again"]).add(times);
            pause.as_mut().reset(now + PAUSE);
        }
        let refused = untold.tell();
        if !answers.is_empty() || !refused.is_empty() {
            let response = StartExecutionsResponse { answers, refused };
            return Poll::Ready(Some(Ok(response)));
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
        Err(status) => Outcome::Error(StartError::from(&status)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::refusals::Refusals, *};

    #[test]
    fn starts_that_are_sent_away_alike_are_told_together() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let error = |message: &str| StartError {
            message: message.to_owned(),
            ..StartError::default()
        };
        let mut untold = Untold::default();
        refusals.note("a".into(), error("full"), now);
        refusals.note("b".into(), error("late"), now);
        for (number, flow) in [(1, "a"), (2, "b"), (3, "a")] {
            untold.push(&refusals.of(flow, now).expect("it holds"), number);
        }
        assert_eq!(untold.count, 3);
        let told = |numbers: &[u64], message| RefusedStarts {
            numbers: numbers.to_vec(),
            error: Some(error(message)),
        };
        assert_eq!(untold.tell(), [told(&[1, 3], "full"), told(&[2], "late")]);
    }
}
