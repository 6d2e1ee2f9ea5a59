//! Starts of executions over one stream for each node, many in a message.
//!
//! Calls that are made at the same time share messages, and nobody waits for a message to fill: what
//! comes up while one is sent goes with the next. Never repeats a start and never hides a lost answer: a stream
//! that breaks gives each start that it carried the same error that its own call would have given.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use prost::Message as _;
use tidemill_proto::{
    LEADER_HEADER,
    v1::{
        NumberedAnswer, NumberedStart, RefusedStarts, StartExecutionRequest,
        StartExecutionResponse, StartExecutionsRequest, StartExecutionsResponse,
        numbered_answer::Outcome,
    },
};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        oneshot,
    },
    time::{Instant, Sleep, sleep},
};
use tokio_stream::Stream;
use tonic::{Code, Response, Status, transport::Channel};

use super::execution::service;
use crate::limits::{
    START_SHARED_BYTES_MAX, START_STREAM_IDLE, STARTS_PER_MESSAGE, STARTS_UNDER_WAY_MAX,
};

type Answer = Result<Response<StartExecutionResponse>, Status>;

/// Who waits for the answers of a stream, by their starts' numbers.
#[derive(Default)]
struct Waiting {
    number: u64,
    /// An entry stays until its answer comes, not until the caller stops waiting: the server still works on it.
    callers: HashMap<u64, oneshot::Sender<Answer>>,
}

/// What is known of a stream by those who use it. None when it has ended: nobody would answer.
type Shared = Mutex<Option<Waiting>>;

/// An open stream.
#[derive(Clone)]
struct Open {
    shared: Arc<Shared>,
    queue: Sender<NumberedStart>,
}

/// The stream to one node: opened when it is first used, and again after it has ended.
#[derive(Default)]
pub(crate) struct Starts {
    open: Mutex<Option<Open>>,
    /// The node does not know the call: it is of an older version.
    unsupported: Arc<AtomicBool>,
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts")
            .field("unsupported", &self.unsupported)
            .finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole after each change, so a panic elsewhere spoils nothing.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Starts {
    /// Starts an execution: on the stream or, where it has no place or the request is large, by a call.
    pub(crate) async fn start(&self, channel: Channel, request: StartExecutionRequest) -> Answer {
        if request.encoded_len() <= START_SHARED_BYTES_MAX && !self.unsupported.load(Relaxed) {
            match self.put(&channel, request) {
                Ok(answer) => return answer.await.unwrap_or_else(|_| Err(ended())),
                Err(back) => return service(channel).start_execution(back).await,
            }
        }
        service(channel).start_execution(request).await
    }

    /// Puts it on the stream, or gives it back when too many are on it.
    #[allow(clippy::result_large_err)] // the request comes back where it was moved from
    fn put(
        &self,
        channel: &Channel,
        request: StartExecutionRequest,
    ) -> Result<oneshot::Receiver<Answer>, StartExecutionRequest> {
        let mut open = lock(&self.open);
        let stream = open.get_or_insert_with(|| self.begin(channel));
        match stream.put(request) {
            Put::Done(answer) => Ok(answer),
            Put::Full(request) => Err(request),
            Put::Ended(request) => {
                let stream = open.insert(self.begin(channel));
                match stream.put(request) {
                    Put::Done(answer) => Ok(answer),
                    Put::Full(request) | Put::Ended(request) => Err(request),
                }
            }
        }
    }

    fn begin(&self, channel: &Channel) -> Open {
        let (queue, queued) = mpsc::channel(STARTS_UNDER_WAY_MAX);
        let shared = Arc::new(Mutex::new(Some(Waiting::default())));
        let (channel, unsupported) = (channel.clone(), Arc::clone(&self.unsupported));
        tokio::spawn(run(channel, queued, Arc::clone(&shared), unsupported));
        Open { shared, queue }
    }
}

enum Put {
    Done(oneshot::Receiver<Answer>),
    Full(StartExecutionRequest),
    Ended(StartExecutionRequest),
}

impl Open {
    fn put(&self, request: StartExecutionRequest) -> Put {
        let mut shared = lock(&self.shared);
        let Some(waiting) = &mut *shared else {
            return Put::Ended(request);
        };
        if waiting.callers.len() >= STARTS_UNDER_WAY_MAX {
            return Put::Full(request);
        }
        let number = waiting.number;
        let start = NumberedStart {
            number,
            request: Some(request),
        };
        match self.queue.try_send(start) {
            Ok(()) => {
                let (tell, told) = oneshot::channel();
                waiting.number += 1;
                waiting.callers.insert(number, tell);
                Put::Done(told)
            }
            // It has room for all who may wait, so it is the stream that has ended.
            Err(failed) => Put::Ended(failed.into_inner().request.unwrap_or_default()),
        }
    }
}

/// The life of one stream.
async fn run(
    channel: Channel,
    queued: Receiver<NumberedStart>,
    shared: Arc<Shared>,
    unsupported: Arc<AtomicBool>,
) {
    let outbound = Outbound::new(queued, Arc::clone(&shared));
    let status = match service(channel).start_executions(outbound).await {
        Ok(response) => {
            let mut inbound = response.into_inner();
            loop {
                match inbound.message().await {
                    Ok(Some(message)) => deliver(&shared, message),
                    Ok(None) => break ended(),
                    Err(status) => break status,
                }
            }
        }
        Err(status) if status.code() == Code::Unimplemented => {
            unsupported.store(true, Relaxed);
            // What was asked for is asked again, and then by calls.
            Status::unavailable("the node takes no streams of starts")
        }
        Err(status) => status,
    };
    let waiting = lock(&shared).take().unwrap_or_default();
    for caller in waiting.callers.into_values() {
        // Whoever has stopped waiting needs no answer.
        let _ = caller.send(Err(status.clone()));
    }
}

fn deliver(shared: &Shared, message: StartExecutionsResponse) {
    let mut shared = lock(shared);
    let Some(waiting) = &mut *shared else {
        return;
    };
    for answer in message.answers {
        if let Some(caller) = waiting.callers.remove(&answer.number) {
            let _ = caller.send(read(answer));
        }
    }
    for RefusedStarts { numbers, error } in message.refused {
        let status = error.map_or_else(ended, Status::from);
        for number in numbers {
            if let Some(caller) = waiting.callers.remove(&number) {
                let _ = caller.send(Err(status.clone()));
            }
        }
    }
}

fn read(answer: NumberedAnswer) -> Answer {
    match answer.outcome {
        Some(Outcome::Started(started)) => {
            let mut response = Response::new(started);
            if let Ok(leader) = answer.leader.parse()
                && !answer.leader.is_empty()
            {
                response.metadata_mut().insert(LEADER_HEADER, leader);
            }
            Ok(response)
        }
        Some(Outcome::Error(error)) => Err(error.into()),
        // Of a later version, or nonsense: what has happened is not known.
        None => Err(ended()),
    }
}

/// The stream has ended before the answer came.
#[derive(Debug)]
struct StreamEnded;

impl fmt::Display for StreamEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has ended the stream of starts")
    }
}

impl Error for StreamEnded {}

/// With a source: it is this side that says so, not the server.
fn ended() -> Status {
    Status::from_error(Box::new(StreamEnded))
}

/// What is sent: all that has come up since the message before.
struct Outbound {
    queued: Receiver<NumberedStart>,
    shared: Arc<Shared>,
    used_at: Instant,
    idle: Pin<Box<Sleep>>,
}

impl Outbound {
    fn new(queued: Receiver<NumberedStart>, shared: Arc<Shared>) -> Self {
        Self {
            queued,
            shared,
            used_at: Instant::now(),
            idle: Box::pin(sleep(START_STREAM_IDLE)),
        }
    }
}

impl Stream for Outbound {
    type Item = StartExecutionsRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let mut starts = Vec::new();
            match this
                .queued
                .poll_recv_many(context, &mut starts, STARTS_PER_MESSAGE)
            {
                // The client is gone: those who wait still get their answers.
                Poll::Ready(0) => return Poll::Ready(None),
                Poll::Ready(_) => {
                    this.used_at = Instant::now();
                    return Poll::Ready(Some(StartExecutionsRequest { starts }));
                }
                Poll::Pending => {}
            }
            if this.idle.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if this.used_at.elapsed() >= START_STREAM_IDLE && close_if_idle(&this.shared) {
                this.queued.close();
            } else {
                let next = Instant::now() + START_STREAM_IDLE;
                this.idle.as_mut().reset(next);
            }
        }
    }
}

/// Ends the stream for those who would use it, unless somebody waits for an answer.
fn close_if_idle(shared: &Shared) -> bool {
    let mut shared = lock(shared);
    let is_idle = shared
        .as_ref()
        .is_none_or(|waiting| waiting.callers.is_empty());
    if is_idle {
        *shared = None;
    }
    is_idle
}

#[cfg(test)]
mod tests {
    use tidemill_proto::v1::StartError;
    use tokio_stream::StreamExt as _;

    use super::*;

    fn stream() -> (Open, Outbound) {
        let (queue, queued) = mpsc::channel(STARTS_UNDER_WAY_MAX);
        let shared = Arc::new(Mutex::new(Some(Waiting::default())));
        let outbound = Outbound::new(queued, Arc::clone(&shared));
        (Open { shared, queue }, outbound)
    }

    fn put(open: &Open) -> oneshot::Receiver<Answer> {
        match open.put(StartExecutionRequest::default()) {
            Put::Done(answer) => answer,
            Put::Full(_) | Put::Ended(_) => panic!("no place"),
        }
    }

    fn answers(answers: Vec<NumberedAnswer>) -> StartExecutionsResponse {
        StartExecutionsResponse {
            answers,
            refused: Vec::new(),
        }
    }

    #[tokio::test]
    async fn one_reason_is_told_to_all_whom_it_concerns() {
        let (open, mut outbound) = stream();
        let waiting: Vec<_> = (0..3).map(|_| put(&open)).collect();
        let sent = outbound.next().await.expect("sent").starts;
        let refused = RefusedStarts {
            numbers: vec![sent[2].number, sent[0].number, 77],
            error: Some(StartError {
                code: Code::ResourceExhausted.into(),
                message: "overloaded".to_owned(),
                details: b"hint".to_vec().into(),
            }),
        };
        let nothing_said = RefusedStarts {
            numbers: vec![sent[1].number],
            error: None,
        };
        let message = StartExecutionsResponse {
            answers: Vec::new(),
            refused: vec![refused, nothing_said],
        };
        deliver(&open.shared, message);
        let mut codes = Vec::new();
        for answer in waiting {
            let status = answer.await.expect("an answer").expect_err("refused");
            codes.push((status.code(), status.details().to_vec()));
        }
        let told = (Code::ResourceExhausted, b"hint".to_vec());
        assert_eq!([&codes[0], &codes[2]], [&told, &told]);
        assert_eq!(codes[1].0, Code::Unknown, "what happened is not known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_takes_so_many_and_no_more() {
        let (open, mut outbound) = stream();
        for _ in 0..=STARTS_PER_MESSAGE {
            drop(put(&open));
        }
        let first = outbound.next().await.expect("a message");
        assert_eq!(first.starts.len(), STARTS_PER_MESSAGE);
        assert_eq!(outbound.next().await.expect("the rest").starts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_nobody_uses_it_and_not_before_all_are_answered() {
        let (open, mut outbound) = stream();
        let answer = put(&open);
        let number = outbound.next().await.expect("a message").starts[0].number;
        let mut next = tokio::spawn(async move { outbound.next().await });
        tokio::time::sleep(START_STREAM_IDLE * 5).await;
        assert!(!next.is_finished(), "somebody waits for an answer");
        let told = NumberedAnswer {
            number,
            outcome: Some(Outcome::Started(StartExecutionResponse::default())),
            leader: "a:1".to_owned(),
        };
        deliver(&open.shared, answers(vec![told]));
        let answer = answer.await.expect("an answer").expect("started");
        assert_eq!(answer.metadata().get(LEADER_HEADER).expect("it"), "a:1");
        assert!((&mut next).await.expect("no panic").is_none());
        let again = open.put(StartExecutionRequest::default());
        assert!(matches!(again, Put::Ended(_)));
    }
}
