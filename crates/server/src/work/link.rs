//! The one stream of this gateway to a partition's leader, for all its workers.
//!
//! What is to be said is kept here behind a lock and taken in batches by the stream's writer, so that
//! a slow leader slows down only those who send completions. When the leader changes, completions
//! without an answer are answered `RETRY` (their outcome is not known), and all sessions are said again.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use tidemill_proto::{
    peer::v1::{
        AttachRequest, AttachResponse, Session as SaidSession, SessionCompletion,
        partition_work_service_client::PartitionWorkServiceClient,
    },
    v1::{Completion, CompletionResult, CompletionStatus, Renewal, StepError, completion},
};
use tidemill_types::{
    ExecutionId, PartitionId, StepId, TaskId,
    limits::{COMPLETION_QUEUE_BYTES_MAX, PROGRESS_BYTES_MAX, WORK_MESSAGE_BYTES_MAX},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::Status;

use super::{
    attach,
    batch::{Batch, Size as _},
    hub::Hub,
    session::Session,
    translate,
};
use crate::{actor::AskError, gateway::status, node::Node};

/// Messages on their way: what comes up meanwhile shares the next one.
const QUEUE: usize = 2;
/// A permit of the queue's room stands for so many bytes.
const ROOM_UNIT_BYTES: usize = 1024;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

struct Queued {
    completion: SessionCompletion,
    refused: Option<String>,
    _room: OwnedSemaphorePermit,
}

/// A completion that the present leader has.
struct Unanswered {
    session: u64,
    /// Why what was in it is not allowed: the leader was told that the step failed with it.
    refused: Option<String>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<u64, Arc<Session>>,
    /// Sessions to say (again).
    to_say: BTreeSet<u64>,
    /// Sessions that the present leader has been told of, on this stream.
    said: HashSet<u64>,
    gone: Vec<u64>,
    completions: VecDeque<Queued>,
    renewals: VecDeque<Renewal>,
    unanswered: HashMap<String, Unanswered>,
    /// Who asked to renew which lease.
    renewed_by: HashMap<String, u64>,
    last_fence: u64,
}

/// See the module.
pub(super) struct Link {
    partition: PartitionId,
    message_bytes_max: usize,
    state: Mutex<State>,
    news: Notify,
    room: Arc<Semaphore>,
}

type Responses = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

impl Link {
    pub fn new(partition: PartitionId, message_bytes_max: usize) -> Self {
        Self {
            partition,
            message_bytes_max,
            state: Mutex::default(),
            news: Notify::new(),
            room: Arc::new(Semaphore::new(COMPLETION_QUEUE_BYTES_MAX / ROOM_UNIT_BYTES)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Place among the gateway's links.
    fn index(&self) -> usize {
        usize::from(self.partition.0) - 1
    }

    pub fn open(&self, session: &Arc<Session>) {
        let mut state = self.lock();
        state.sessions.insert(session.id, Arc::clone(session));
        state.to_say.insert(session.id);
        drop(state);
        self.news.notify_one();
    }

    pub fn close(&self, session: u64) {
        let mut state = self.lock();
        state.sessions.remove(&session);
        state.to_say.remove(&session);
        state.said.remove(&session);
        state.gone.push(session);
        state.renewed_by.retain(|_, by| *by != session);
        drop(state);
        self.news.notify_one();
    }

    /// The session's limit has changed.
    pub fn say(&self, session: u64) {
        let mut state = self.lock();
        if state.sessions.contains_key(&session) {
            state.to_say.insert(session);
        }
        drop(state);
        self.news.notify_one();
    }

    /// Queues a completion; waits only for room.
    pub async fn complete(&self, session: u64, task: TaskId, mut completion: Completion) {
        let mut refused = None;
        // Looked at here and not by the leader: its processor is the scarcer one.
        if let Err(reason) = translate::outcome(completion.outcome.clone(), self.message_bytes_max)
        {
            completion.outcome = Some(completion::Outcome::Error(StepError {
                code: translate::INVALID_COMPLETION.into(),
                message: reason.clone(),
                fatal: true,
                ..StepError::default()
            }));
            refused = Some(reason);
        }
        completion.task_id = task.to_string();
        let units = completion.encoded_len().div_ceil(ROOM_UNIT_BYTES);
        let units = units.clamp(1, COMPLETION_QUEUE_BYTES_MAX / ROOM_UNIT_BYTES);
        let units = u32::try_from(units).expect("64 MiB in units of 1 KiB fit");
        let room = Arc::clone(&self.room).acquire_many_owned(units).await;
        let room = room.expect("the semaphore is never closed");
        self.lock().completions.push_back(Queued {
            completion: SessionCompletion {
                session,
                completion: Some(completion),
            },
            refused,
            _room: room,
        });
        self.news.notify_one();
    }

    /// Queues a completion of a task that does not exist; gives the task's id.
    pub async fn fence(&self, session: u64) -> String {
        let number = {
            let mut state = self.lock();
            state.last_fence += 1;
            state.last_fence
        };
        // An execution of 1970, attempt 0: never one of a real task.
        let task = TaskId {
            step: StepId {
                execution: ExecutionId::new(0, self.partition, number),
                step: 0,
            },
            attempt: 0,
        };
        let completion = Completion {
            task_id: task.to_string(),
            outcome: Some(completion::Outcome::Error(StepError::default())),
        };
        self.complete(session, task, completion).await;
        task.to_string()
    }

    /// Queues a renewal. Only the newest of each lease counts.
    pub fn renew(&self, session: u64, mut renewal: Renewal) {
        cut(&mut renewal.progress);
        let mut state = self.lock();
        let is_queued = state
            .renewals
            .iter_mut()
            .find(|queued| queued.task_id == renewal.task_id);
        if let Some(queued) = is_queued {
            if !renewal.progress.is_empty() {
                queued.progress = renewal.progress;
            }
            return;
        }
        state.renewed_by.insert(renewal.task_id.clone(), session);
        state.renewals.push_back(renewal);
        drop(state);
        self.news.notify_one();
    }

    /// Stays attached to the partition's leader, whoever that is. Ends only by being dropped.
    pub async fn run(self: Arc<Self>, hub: Arc<Hub>, node: Arc<Node>) {
        let group = node.partition(self.partition);
        let mut leadership = group
            .expect("a link is made for each partition")
            .leadership();
        let mut pause = PAUSE_MIN;
        loop {
            let now = *leadership.borrow_and_update();
            if now.leader.is_none() && !now.is_self {
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let opened = self.attach(&node, now).await;
            let ended = match opened {
                Err(status) => status,
                Ok((requests, responses)) => tokio::select! {
                    ended = self.write(requests) => ended,
                    ended = self.read(&hub, responses, &mut pause) => ended,
                    _ = leadership.wait_for(|news| {
                        news.leader != now.leader || news.is_self != now.is_self
                    }) => {
                        Status::unavailable("the leader has changed")
                    }
                },
            };
            self.detached(&hub);
            tracing::debug!(partition = %self.partition, leader = ?now.leader, reason = ended.message(), "detached from leader");
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                _ = leadership.changed() => {}
            }
        }
    }

    async fn attach(
        &self,
        node: &Arc<Node>,
        now: tidemill_replica::Leadership,
    ) -> Result<(mpsc::Sender<AttachRequest>, Responses), Status> {
        let (requests, to_send) = mpsc::channel(QUEUE);
        let first = AttachRequest {
            partition: self.partition.0.into(),
            ..AttachRequest::default()
        };
        {
            // All is said again. What a session holds is looked at when it is said: the stream before
            // this one has ended, so nothing can arrive any more that a former leader gave out.
            let mut state = self.lock();
            state.gone.clear();
            state.said.clear();
            state.to_say = state.sessions.keys().copied().collect();
        }
        requests
            .try_send(first)
            .expect("a new channel has room for one message");
        let responses: Responses = if now.is_self {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let inbound = ReceiverStream::new(to_send).map(Ok);
            tokio::spawn(attach::serve(Arc::clone(node), inbound, sender));
            Box::pin(ReceiverStream::new(receiver))
        } else {
            let channel = now
                .leader
                .and_then(|leader| node.replica.peer_channel(leader));
            let channel =
                channel.ok_or_else(|| status(AskError::NotLeader { leader: now.leader }))?;
            let mut client = PartitionWorkServiceClient::new(channel)
                .max_decoding_message_size(WORK_MESSAGE_BYTES_MAX);
            let stream = client.attach(ReceiverStream::new(to_send)).await?;
            Box::pin(stream.into_inner())
        };
        Ok((requests, responses))
    }

    async fn write(&self, requests: mpsc::Sender<AttachRequest>) -> Status {
        loop {
            // Room first: what comes up while the one before is sent shares this message.
            let Ok(place) = requests.reserve().await else {
                // The other half says why.
                return std::future::pending().await;
            };
            match self.next_request() {
                Some(request) => place.send(request),
                None => {
                    drop(place);
                    self.news.notified().await;
                }
            }
        }
    }

    fn next_request(&self) -> Option<AttachRequest> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut request = AttachRequest::default();
        let mut batch = Batch::default();
        for id in std::mem::take(&mut state.gone) {
            request.sessions.push(SaidSession {
                id,
                gone: true,
                ..SaidSession::default()
            });
        }
        while let Some(id) = state.to_say.first().copied() {
            let Some(session) = state.sessions.get(&id) else {
                state.to_say.remove(&id);
                continue;
            };
            let said = session.to_say(self.index(), !state.said.contains(&id));
            if !batch.admits(said.encoded_len()) {
                break;
            }
            state.to_say.remove(&id);
            state.said.insert(id);
            request.sessions.push(said);
        }
        // A completion must not overtake what was said of its session before it.
        if state.to_say.is_empty() {
            while let Some(next) = state.completions.front() {
                if !batch.admits(next.completion.encoded_len()) {
                    break;
                }
                let Some(next) = state.completions.pop_front() else {
                    break;
                };
                if let Some(completion) = &next.completion.completion {
                    let unanswered = Unanswered {
                        session: next.completion.session,
                        refused: next.refused,
                    };
                    state.renewed_by.remove(&completion.task_id);
                    state
                        .unanswered
                        .insert(completion.task_id.clone(), unanswered);
                }
                request.completions.push(next.completion);
            }
        }
        while let Some(next) = state.renewals.front() {
            if !batch.admits(next.size()) {
                break;
            }
            request.renewals.extend(state.renewals.pop_front());
        }
        let is_empty = request.sessions.is_empty()
            && request.completions.is_empty()
            && request.renewals.is_empty();
        (!is_empty).then_some(request)
    }

    async fn read(&self, hub: &Hub, mut responses: Responses, pause: &mut Duration) -> Status {
        loop {
            match responses.next().await {
                None => return Status::unavailable("the leader ended the stream"),
                Some(Err(status)) => return status,
                Some(Ok(response)) => {
                    *pause = PAUSE_MIN;
                    self.take(hub, response);
                }
            }
        }
    }

    fn session(&self, id: u64) -> Option<Arc<Session>> {
        self.lock().sessions.get(&id).cloned()
    }

    fn take(&self, hub: &Hub, response: AttachResponse) {
        for task in response.tasks {
            // Of a session that has gone: the lease runs out.
            if let (Some(session), Some(task)) = (self.session(task.session), task.task) {
                let changes = session.task(self.index(), task);
                hub.say(&session, changes);
            }
        }
        for result in response.results {
            let (session, Some(mut result)) = (result.session, result.result) else {
                continue;
            };
            let unanswered = self.lock().unanswered.remove(&result.task_id);
            if let Some(reason) = unanswered.and_then(|unanswered| unanswered.refused)
                && result.status() == CompletionStatus::Accepted
            {
                result.set_status(CompletionStatus::Invalid);
                result.message = reason;
            }
            if let Some(session) = self.session(session) {
                session.result(result);
            }
        }
        for id in response.superseded {
            if let Some(session) = self.session(id) {
                session.superseded.cancel();
            }
        }
        for task in response.lost_leases {
            let mut state = self.lock();
            let by = state.renewed_by.remove(&task);
            let holder = by
                .and_then(|id| state.sessions.get(&id))
                .or_else(|| state.sessions.values().find(|session| session.holds(&task)))
                .cloned();
            drop(state);
            if let Some(session) = holder {
                let changes = session.lose(task);
                hub.say(&session, changes);
            }
        }
    }

    /// The leader is gone, or the way to it.
    fn detached(&self, hub: &Hub) {
        let (unanswered, sessions) = {
            let mut state = self.lock();
            let unanswered = std::mem::take(&mut state.unanswered);
            (unanswered, state.sessions.clone())
        };
        for (task_id, unanswered) in unanswered {
            if let Some(session) = sessions.get(&unanswered.session) {
                session.result(CompletionResult {
                    task_id,
                    status: CompletionStatus::Retry.into(),
                    message: "the partition's leader changed before it answered".into(),
                });
            }
        }
        for session in sessions.values() {
            let changes = session.detached(self.index());
            hub.say(session, changes);
        }
    }
}

/// Cuts a progress text at a character's boundary.
fn cut(text: &mut String) {
    if text.len() > PROGRESS_BYTES_MAX {
        let end = (0..=PROGRESS_BYTES_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn completions_wait_in_a_gateway_up_to_so_many_bytes() {
        const MIB: usize = 1024 * 1024;
        let link = Link::new(PartitionId(1), MIB);
        let task = |number| TaskId {
            step: StepId {
                execution: ExecutionId::new(0, PartitionId(1), number),
                step: 0,
            },
            attempt: 1,
        };
        let complete = |number| {
            let error = StepError {
                // And what is around it: a MiB each, in whole units.
                message: "m".repeat(MIB - ROOM_UNIT_BYTES),
                ..StepError::default()
            };
            let completion = Completion {
                outcome: Some(completion::Outcome::Error(error)),
                ..Completion::default()
            };
            link.complete(1, task(number), completion)
        };
        let most = (COMPLETION_QUEUE_BYTES_MAX / MIB) as u64;
        for number in 0..most {
            assert!(poll!(pin!(complete(number))).is_ready(), "{number}");
        }
        let mut late = pin!(complete(most));
        assert!(poll!(&mut late).is_pending());
        // What is on its way to the leader does not wait here any more.
        let request = link.next_request().expect("something to say");
        assert_eq!(request.completions.len(), 1);
        assert!(poll!(&mut late).is_ready());
        assert!(poll!(pin!(complete(most + 1))).is_pending());
    }

    #[test]
    fn a_progress_text_is_cut_at_a_character() {
        let mut fits = "x".repeat(PROGRESS_BYTES_MAX);
        cut(&mut fits);
        assert_eq!(fits.len(), PROGRESS_BYTES_MAX);
        let mut long = "€".repeat(PROGRESS_BYTES_MAX);
        cut(&mut long);
        assert_eq!(long.len(), PROGRESS_BYTES_MAX / 3 * 3);
        assert!(long.chars().all(|c| c == '€'));
    }
}
