//! The tasks whose handlers run, and their leases.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tidemill_proto::v1::{Completion, Renewal, Task};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{Functions, TaskContext, TaskError, outcome::completion, task::Progress};

#[derive(Debug)]
struct Held {
    /// Whether the server of the present stream counts the task as held by it: not when it came on
    /// an earlier stream, nor when its lease is lost.
    counted: bool,
    lease: Duration,
    renewed: Instant,
    renew_now: bool,
    progress: Progress,
    lease_lost: CancellationToken,
    /// The server said that the lease is lost: no completion is sent.
    refused: bool,
    join_id: Id,
}

/// All handlers that run.
#[derive(Debug, Default)]
pub(super) struct Running {
    held: HashMap<String, Held>,
    by_join_id: HashMap<Id, String>,
    handlers: JoinSet<Completion>,
    uncounted: usize,
}

/// What a handler ended with.
#[derive(Debug)]
pub(super) struct Ended {
    /// To be sent, unless the lease is lost.
    pub(super) completion: Option<Completion>,
    pub(super) panicked: bool,
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Tasks whose lease is not known to be lost.
    pub(super) fn holding(&self) -> impl Iterator<Item = &String> {
        let held = self.held.iter().filter(|(_, held)| !held.refused);
        held.map(|(task_id, _)| task_id)
    }

    pub(super) fn holds(&self, task_id: &str) -> bool {
        self.held.contains_key(task_id)
    }

    /// How many of the worker's places are taken by tasks that the server of the present stream does
    /// not count as held by it.
    pub(super) fn uncounted(&self) -> usize {
        self.uncounted
    }

    /// Runs a task's handler.
    pub(super) fn start(&mut self, task: Task, functions: &Functions) {
        let id = task.id.clone();
        let lease = Duration::from_millis(u64::from(task.lease_ms.max(1)));
        let progress = Progress::default();
        let lease_lost = CancellationToken::new();
        // What the handler logs can be found by its task, and joined with its caller's trace.
        let span = tracing::info_span!(
            "task",
            task_id = task.id,
            node = task.node,
            traceparent = task.trace.as_ref().map(|trace| trace.traceparent.as_str()),
        );
        let handler = functions.find(&task.component, &task.function).cloned();
        let context = TaskContext::new(task, progress.clone(), lease_lost.clone());
        let task_id = id.clone();
        let join = self.handlers.spawn(
            async move {
                let result = match (handler, context) {
                    (Some(handler), Ok(context)) => {
                        // The part of a handler before its first await runs here, within the task, so
                        // that its panic is this task's too.
                        handler(context).await
                    }
                    (None, Ok(context)) => Err(TaskError::retryable(
                        "FUNCTION_NOT_SERVED",
                        format!(
                            "this worker does not serve {}/{}",
                            context.component(),
                            context.function()
                        ),
                    )),
                    (_, Err(error)) => Err(error),
                };
                completion(task_id, result)
            }
            .instrument(span),
        );
        self.by_join_id.insert(join.id(), id.clone());
        let held = Held {
            counted: true,
            lease,
            renewed: Instant::now(),
            renew_now: false,
            progress,
            lease_lost,
            refused: false,
            join_id: join.id(),
        };
        self.held.insert(id, held);
    }

    /// The next handler that ends. Waits for ever while none runs.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.handlers.join_next_with_id().await {
            Some(joined) => self.settle(joined),
            None => std::future::pending().await,
        }
    }

    /// A handler that has ended already, if any.
    pub(super) fn try_ended(&mut self) -> Option<Ended> {
        let joined = self.handlers.try_join_next_with_id()?;
        Some(self.settle(joined))
    }

    fn settle(&mut self, joined: Result<(Id, Completion), JoinError>) -> Ended {
        let (id, panic) = match joined {
            Ok((id, completion)) => {
                let refused = self.forget(id).is_none_or(|(_, held)| held.refused);
                return Ended {
                    completion: Some(completion).filter(|_| !refused),
                    panicked: false,
                };
            }
            Err(error) => (error.id(), error.try_into_panic().ok()),
        };
        let text = panic.as_ref().map_or("the handler was aborted", |panic| {
            panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("the handler panicked")
        });
        let error = TaskError::retryable("HANDLER_PANIC", text);
        let panicked = panic.is_some();
        // A panic's payload is the user's: dropping it may panic again.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        let completion = self
            .forget(id)
            .filter(|(_, held)| !held.refused)
            .map(|(task_id, _)| completion(task_id, Err(error)));
        Ended {
            completion,
            panicked,
        }
    }

    fn forget(&mut self, id: Id) -> Option<(String, Held)> {
        let task_id = self.by_join_id.remove(&id)?;
        // The same task may have been pushed and run again after its completion: only its own entry.
        let own = self
            .held
            .get(&task_id)
            .is_some_and(|held| held.join_id == id);
        if !own {
            return None;
        }
        let entry = self.held.remove_entry(&task_id);
        self.uncounted -= usize::from(!entry.as_ref()?.1.counted);
        entry
    }

    /// The renewals that are due: a third of the lease is over, or there is progress to show.
    pub(super) fn renewals(&mut self, now: Instant) -> Vec<Renewal> {
        let mut due = Vec::new();
        for (task_id, held) in &mut self.held {
            if held.refused {
                continue;
            }
            let progress = held.progress.take();
            let old = now.duration_since(held.renewed) >= held.lease / 3;
            if progress.is_some() || old || held.renew_now {
                held.renewed = now;
                held.renew_now = false;
                due.push(Renewal {
                    task_id: task_id.clone(),
                    progress: progress.unwrap_or_default(),
                });
            }
        }
        due
    }

    /// A new stream: its server counts none of what is held, and the old one may have swallowed the
    /// last renewals, so all are due.
    pub(super) fn new_stream(&mut self) {
        for held in self.held.values_mut() {
            held.counted = false;
            held.renew_now = true;
        }
        self.uncounted = self.held.len();
    }

    /// Tells handlers whose lease must be over, because no renewal could be sent for its length.
    /// Their completions are still tried: the server knows better.
    pub(super) fn expire(&self, now: Instant) {
        for held in self.held.values() {
            if now.duration_since(held.renewed) >= held.lease {
                held.lease_lost.cancel();
            }
        }
    }

    /// The server says that a lease is lost. Returns false when the task is not held.
    pub(super) fn lose(&mut self, task_id: &str) -> bool {
        let Some(held) = self.held.get_mut(task_id) else {
            return false;
        };
        if std::mem::take(&mut held.counted) {
            self.uncounted += 1;
        }
        held.refused = true;
        held.lease_lost.cancel();
        true
    }

    /// Ends all handlers at once and says how many there were.
    pub(super) fn abandon(&mut self) -> usize {
        let left = self.held.len();
        for held in self.held.values() {
            held.lease_lost.cancel();
        }
        self.handlers.abort_all();
        self.held.clear();
        self.uncounted = 0;
        left
    }
}
