//! A worker that is connected to this node: what it holds, what is on its way to it.
//!
//! A state without I/O behind a lock: links put tasks and results in, the worker's stream takes them
//! out. Neither waits for the other.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};
use tidemill_proto::{
    peer::v1 as peer,
    v1::{CompletionResult, CompletionStatus, Hello, Task, WorkResponse},
};
use tidemill_types::{TaskId, limits::WORKER_RESULTS_MAX};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::{
    batch::Batch,
    credits::{Changes, Credits},
};
use crate::{metrics::Gauge, telemetry::task_span};

struct Held {
    partition: usize,
    is_delivered: bool,
    is_orphan: bool,
    /// From the delivery to the answer to the completion.
    span: Span,
}

struct State {
    credits: Credits,
    held: HashMap<String, Held>,
    /// Tasks that the worker has besides those that count: it brought them from earlier streams, or has
    /// completed them and not been answered. Their leases must not be freed.
    kept: HashMap<String, Span>,
    /// Tasks beyond the worker's places.
    waiting: VecDeque<Task>,
    /// Tasks that are with the worker, or on their way to it.
    delivered: u32,
    tasks: VecDeque<Task>,
    results: VecDeque<CompletionResult>,
    lost: VecDeque<String>,
}

/// One worker.
pub(super) struct Session {
    pub id: u64,
    hello: Hello,
    instance: u64,
    number: u64,
    /// A leader says that the worker has opened a newer session.
    pub superseded: CancellationToken,
    state: Mutex<State>,
    /// There is something for the worker.
    pub news: Notify,
    /// There is room for results again.
    room: Notify,
    /// The node's sum of what its workers hold.
    in_hand: Arc<Gauge>,
}

impl Session {
    pub fn new(id: u64, mut hello: Hello, partitions: usize, in_hand: Arc<Gauge>) -> Self {
        let brought = std::mem::take(&mut hello.holds).into_iter();
        let kept = brought.map(|task| (task, Span::none())).collect();
        let (instance, number) = if hello.instance.is_empty() {
            // Of this session alone: still a new leader can free what the old one's death has cost it.
            (rand::random::<u64>().max(1), 1)
        } else {
            (instance_number(&hello.instance), hello.session)
        };
        Self {
            id,
            hello,
            instance,
            number,
            superseded: CancellationToken::new(),
            state: Mutex::new(State {
                credits: Credits::new(partitions),
                held: HashMap::new(),
                kept,
                waiting: VecDeque::new(),
                delivered: 0,
                tasks: VecDeque::new(),
                results: VecDeque::new(),
                lost: VecDeque::new(),
            }),
            news: Notify::new(),
            room: Notify::new(),
            in_hand,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is said to a partition's leader; with what it holds there when the leader hears of it for
    /// the first time.
    pub fn to_say(&self, partition: usize, is_new: bool) -> peer::Session {
        let state = self.lock();
        let holds = if is_new {
            let all = state.held.keys().chain(state.kept.keys());
            all.filter(|task| place_of(task) == Some(partition))
                .cloned()
                .collect()
        } else {
            Vec::new()
        };
        peer::Session {
            id: self.id,
            worker: self.hello.worker.clone(),
            serves: self.hello.serves.clone(),
            lease_ms: self.hello.lease_ms,
            limit: state.credits.limit(partition),
            gone: false,
            instance: self.instance,
            number: self.number,
            holds,
        }
    }

    pub fn set_credits(&self, total: u32) -> Changes {
        let mut state = self.lock();
        let changes = state.credits.set_total(total);
        self.deliver(&mut state);
        changes
    }

    /// See [`Credits::fix`].
    pub fn fix_credits(&self, partitions: &[usize], places: u32) -> Changes {
        let mut state = self.lock();
        let changes = state.credits.fix(partitions, places);
        self.deliver(&mut state);
        changes
    }

    /// No more tasks are wanted; those that are on their way are taken.
    pub fn end_credits(&self) -> Changes {
        self.lock().credits.end()
    }

    /// A partition's leader has given a task out.
    pub fn task(&self, partition: usize, mut task: Task) -> Changes {
        let span = task_span(&mut task);
        let mut state = self.lock();
        let held = Held {
            partition,
            is_delivered: false,
            is_orphan: false,
            span,
        };
        if state.held.insert(task.id.clone(), held).is_some() {
            // Cannot be: every lease has an attempt of its own. The place is counted already.
            return Changes::new();
        }
        self.in_hand.add(1.0);
        state.waiting.push_back(task);
        let changes = state.credits.take(partition);
        self.deliver(&mut state);
        changes
    }

    fn deliver(&self, state: &mut State) {
        while state.delivered < state.credits.total() {
            let Some(task) = state.waiting.pop_front() else {
                return;
            };
            if let Some(held) = state.held.get_mut(&task.id) {
                held.is_delivered = true;
                state.delivered += 1;
                state.tasks.push_back(task);
                self.news.notify_one();
            }
        }
    }

    /// The task's place is free: it is completed, or its lease is lost.
    pub fn free(&self, task: &str) -> Changes {
        let mut state = self.lock();
        let Some(held) = state.held.remove(task) else {
            // Of an earlier stream of the worker: it has no place here.
            return Changes::new();
        };
        self.in_hand.add(-1.0);
        if held.is_delivered {
            state.delivered -= 1;
        } else {
            state.waiting.retain(|waiting| waiting.id != task);
        }
        let changes = state.credits.free(held.partition, held.is_orphan);
        self.deliver(&mut state);
        changes
    }

    /// The worker has completed a task: its place is free, but its lease is needed until the answer.
    pub fn complete(&self, task: &str) -> Changes {
        // First, so that it is held in one way or the other all the time.
        let mut state = self.lock();
        let held = state.held.get_mut(task);
        let span = held.map(|held| std::mem::replace(&mut held.span, Span::none()));
        // One that is sent again keeps its span.
        let kept = state.kept.entry(task.to_owned());
        let kept = kept.or_insert_with(Span::none);
        if let Some(span) = span {
            *kept = span;
        }
        drop(state);
        self.free(task)
    }

    /// Whether the task was given to this worker and is not completed.
    pub fn holds(&self, task: &str) -> bool {
        self.lock().held.contains_key(task)
    }

    /// A lease is lost.
    pub fn lose(&self, task: String) -> Changes {
        let changes = self.free(&task);
        let mut state = self.lock();
        state.kept.remove(&task);
        state.lost.push_back(task);
        drop(state);
        self.news.notify_one();
        changes
    }

    /// A completion is answered.
    pub fn result(&self, result: CompletionResult) {
        let mut state = self.lock();
        if result.status() != CompletionStatus::Retry
            && let Some(span) = state.kept.remove(&result.task_id)
        {
            span.record("status", result.status().as_str_name());
        }
        state.results.push_back(result);
        drop(state);
        self.news.notify_one();
    }

    /// A partition's leader has gone.
    pub fn detached(&self, partition: usize) -> Changes {
        let mut state = self.lock();
        for held in state.held.values_mut() {
            if held.partition == partition {
                held.is_orphan = true;
            }
        }
        state.credits.orphan(partition)
    }

    /// Waits until a worker that does not read its results may send more.
    pub async fn has_room(&self) {
        while self.lock().results.len() >= WORKER_RESULTS_MAX {
            self.room.notified().await;
        }
    }

    /// What is there for the worker, as much as fits one message.
    pub fn take(&self) -> Option<WorkResponse> {
        let mut state = self.lock();
        let mut answer = WorkResponse::default();
        let mut batch = Batch::default();
        answer.results = batch.take(&mut state.results);
        answer.lost_leases = batch.take(&mut state.lost);
        answer.tasks = batch.take(&mut state.tasks);
        drop(state);
        self.room.notify_one();
        let is_empty =
            answer.results.is_empty() && answer.lost_leases.is_empty() && answer.tasks.is_empty();
        (!is_empty).then_some(answer)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let held = self.lock().held.len();
        self.in_hand.add(-(held as f64));
    }
}

/// The number that stands for an instance's name between nodes. Two that fell on the same number would
/// free each other's leases: steps would run again, and no harm be done.
fn instance_number(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let first = digest.first_chunk::<8>().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first).max(1)
}

/// The place of a task's partition among the gateway's links.
fn place_of(task: &str) -> Option<usize> {
    let task: TaskId = task.parse().ok()?;
    usize::from(task.step.execution.partition().0).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(partitions: usize) -> Session {
        Session::new(1, Hello::default(), partitions, Arc::default())
    }

    fn task(id: &str) -> Task {
        Task {
            id: id.into(),
            ..Task::default()
        }
    }

    fn taken(session: &Session) -> Vec<String> {
        let answer = session.take().unwrap_or_default();
        answer.tasks.into_iter().map(|task| task.id).collect()
    }

    fn id(partition: u16, number: u64) -> String {
        let execution =
            tidemill_types::ExecutionId::new(0, tidemill_types::PartitionId(partition), number);
        let step = tidemill_types::StepId { execution, step: 0 };
        TaskId { step, attempt: 1 }.to_string()
    }

    fn held(session: &Session, partition: usize) -> Vec<String> {
        let mut holds = session.to_say(partition, true).holds;
        holds.sort();
        holds
    }

    fn answer(session: &Session, task: &str, status: CompletionStatus) {
        session.result(CompletionResult {
            task_id: task.into(),
            status: status.into(),
            ..CompletionResult::default()
        });
    }

    #[test]
    fn a_task_is_held_until_its_completion_is_answered_for_good() {
        let (brought, given, waits) = (id(1, 1), id(1, 2), id(1, 3));
        let hello = Hello {
            holds: vec![brought.clone(), id(2, 9)],
            ..Hello::default()
        };
        let session = Session::new(1, hello, 2, Arc::default());
        session.set_credits(2);
        session.task(0, task(&given));
        session.task(0, task(&waits));
        assert_eq!(held(&session, 0), [&*brought, &given, &waits]);
        assert_eq!(held(&session, 1), [id(2, 9)]);
        assert!(session.to_say(0, false).holds.is_empty(), "said once");
        session.complete(&brought);
        session.complete(&given);
        assert_eq!(held(&session, 0), [&*brought, &given, &waits]);
        answer(&session, &brought, CompletionStatus::Accepted);
        answer(&session, &given, CompletionStatus::Retry);
        assert_eq!(held(&session, 0), [&*given, &waits]);
        session.lose(waits);
        answer(&session, &given, CompletionStatus::LeaseLost);
        assert!(held(&session, 0).is_empty());
    }

    #[test]
    fn an_instance_is_the_same_over_its_sessions_and_no_other() {
        let said = |name: &str, number| {
            let hello = Hello {
                instance: name.into(),
                session: number,
                ..Hello::default()
            };
            let said = Session::new(1, hello, 1, Arc::default()).to_say(0, true);
            (said.instance, said.number)
        };
        assert_eq!(said("a", 3), (said("a", 4).0, 3));
        assert_ne!(said("a", 1).0, said("b", 1).0);
        assert_ne!(said("", 0).0, said("", 0).0, "of those who say nothing too");
        assert_eq!(said("", 0).1, 1);
    }

    #[test]
    fn tasks_beyond_the_places_are_held_back() {
        let session = session(2);
        session.set_credits(1);
        session.task(0, task("a"));
        session.task(1, task("b"));
        assert_eq!(taken(&session), ["a"]);
        session.free("a");
        assert_eq!(taken(&session), ["b"]);
    }

    #[test]
    fn a_task_that_is_lost_while_it_waits_never_reaches_the_worker() {
        let session = session(2);
        session.set_credits(1);
        session.task(0, task("a"));
        session.task(1, task("b"));
        session.lose("b".into());
        let answer = session.take().expect("something");
        assert_eq!(answer.lost_leases, ["b"]);
        session.free("a");
        assert!(session.take().is_none());
    }

    #[test]
    fn fewer_credits_take_nothing_back() {
        let session = session(1);
        session.set_credits(2);
        session.task(0, task("a"));
        session.task(0, task("b"));
        assert_eq!(taken(&session), ["a", "b"]);
        session.set_credits(0);
        session.free("a");
        session.task(0, task("c"));
        assert!(session.take().is_none(), "no place");
        session.set_credits(2);
        assert_eq!(taken(&session), ["c"]);
    }

    #[test]
    fn a_task_of_an_earlier_stream_has_no_place() {
        let session = session(1);
        session.set_credits(1);
        assert!(session.free("old").is_empty());
        session.task(0, task("a"));
        assert_eq!(taken(&session), ["a"]);
    }

    #[tokio::test]
    async fn a_worker_that_reads_no_results_may_not_send() {
        let session = session(1);
        for _ in 0..WORKER_RESULTS_MAX {
            session.result(CompletionResult::default());
        }
        let mut room = std::pin::pin!(session.has_room());
        assert!(futures::poll!(&mut room).is_pending());
        assert!(session.take().is_some());
        room.await;
    }
}
