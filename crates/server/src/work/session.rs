//! A worker that is connected to this node: what it holds, what is on its way to it.
//!
//! A state without I/O behind a lock: links put tasks and results in, the worker's stream takes them
//! out. Neither waits for the other.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidemill_proto::{
    peer::v1 as peer,
    v1::{CompletionResult, Hello, Task, WorkResponse},
};
use tidemill_types::limits::WORKER_RESULTS_MAX;
use tokio::sync::Notify;

use super::{
    batch::Batch,
    credits::{Changes, Credits},
};

struct Held {
    partition: usize,
    is_delivered: bool,
    is_orphan: bool,
}

struct State {
    credits: Credits,
    held: HashMap<String, Held>,
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
    state: Mutex<State>,
    /// There is something for the worker.
    pub news: Notify,
    /// There is room for results again.
    room: Notify,
}

impl Session {
    pub fn new(id: u64, hello: Hello, partitions: usize) -> Self {
        Self {
            id,
            hello,
            state: Mutex::new(State {
                credits: Credits::new(partitions),
                held: HashMap::new(),
                waiting: VecDeque::new(),
                delivered: 0,
                tasks: VecDeque::new(),
                results: VecDeque::new(),
                lost: VecDeque::new(),
            }),
            news: Notify::new(),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is said to a partition's leader.
    pub fn to_say(&self, partition: usize) -> peer::Session {
        peer::Session {
            id: self.id,
            worker: self.hello.worker.clone(),
            serves: self.hello.serves.clone(),
            lease_ms: self.hello.lease_ms,
            limit: self.lock().credits.limit(partition),
            gone: false,
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
    pub fn task(&self, partition: usize, task: Task) -> Changes {
        let mut state = self.lock();
        let held = Held {
            partition,
            is_delivered: false,
            is_orphan: false,
        };
        if state.held.insert(task.id.clone(), held).is_some() {
            // Cannot be: every lease has an attempt of its own. The place is counted already.
            return Changes::new();
        }
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
        if held.is_delivered {
            state.delivered -= 1;
        } else {
            state.waiting.retain(|waiting| waiting.id != task);
        }
        let changes = state.credits.free(held.partition, held.is_orphan);
        self.deliver(&mut state);
        changes
    }

    /// Whether the task was given to this worker and is not completed.
    pub fn holds(&self, task: &str) -> bool {
        self.lock().held.contains_key(task)
    }

    /// A lease is lost.
    pub fn lose(&self, task: String) -> Changes {
        let changes = self.free(&task);
        self.lock().lost.push_back(task);
        self.news.notify_one();
        changes
    }

    /// A completion is answered.
    pub fn result(&self, result: CompletionResult) {
        self.lock().results.push_back(result);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn session(partitions: usize) -> Session {
        Session::new(1, Hello::default(), partitions)
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
