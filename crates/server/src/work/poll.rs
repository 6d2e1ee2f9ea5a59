//! `PollTasks`: a session for the length of one call.
//!
//! Its limits go back to 0 before it ends, and a fence behind them tells when all that was given out
//! until then has arrived: no task is left to run out of its lease unseen.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tidemill_proto::v1::{CompletionResult, CompletionStatus, PollTasksRequest, PollTasksResponse};
use tidemill_types::limits::{POLL_TASKS_MAX, POLL_WAIT_MS_MAX};
use tokio::time::{Instant, timeout_at};

use super::{
    hub::Hub,
    stream::{Connected, check_hello, check_items},
};
use crate::{
    gateway::{CheckResult, invalid},
    node::Node,
};

/// How long the answers to completions are waited for.
const RESULTS_WAIT: Duration = Duration::from_secs(8);
/// How long a fence is waited for. Without a leader nothing is given out either.
const FENCE_WAIT: Duration = Duration::from_secs(2);

struct Poll {
    hub: Arc<Hub>,
    connected: Connected,
    answer: PollTasksResponse,
}

pub(super) async fn poll(
    hub: &Arc<Hub>,
    node: &Node,
    request: PollTasksRequest,
) -> CheckResult<PollTasksResponse> {
    let mut hello = request
        .hello
        .ok_or_else(|| invalid("hello", "must say what the worker serves"))?;
    check_hello(&hello)?;
    // Calls of one client may overlap: none of them may end another.
    hello.instance.clear();
    hello.holds.clear();
    check_items(request.completions.len(), request.renewals.len())?;
    for (field, value, max) in [
        ("max_tasks", request.max_tasks, POLL_TASKS_MAX),
        ("wait_ms", request.wait_ms, POLL_WAIT_MS_MAX),
    ] {
        if value > max {
            return Err(invalid(field, format!("must be at most {max}")));
        }
    }
    let mut poll = Poll {
        hub: Arc::clone(hub),
        connected: Connected::open(hub, hello)?,
        answer: PollTasksResponse::default(),
    };
    for renewal in request.renewals {
        hub.renew(&poll.connected.session, renewal);
    }
    let unanswered = request
        .completions
        .iter()
        .map(|completion| completion.task_id.clone())
        .collect();
    for completion in request.completions {
        hub.complete(&poll.connected.session, completion).await;
    }
    let missing = poll.results(unanswered, RESULTS_WAIT).await;
    poll.answer
        .results
        .extend(missing.into_iter().map(|task_id| CompletionResult {
            task_id,
            status: CompletionStatus::Retry.into(),
            message: "no answer in time".into(),
        }));
    if request.max_tasks > 0 {
        let wait = Duration::from_millis(request.wait_ms.into());
        tokio::select! {
            () = poll.tasks(request.max_tasks, wait) => {}
            // The leases of what may be on its way run out; the answers must not be lost.
            () = node.shutdown.cancelled() => {}
        }
    }
    let delivered = &hub.metrics.worker_tasks_delivered;
    delivered.add(poll.answer.tasks.len() as u64);
    Ok(poll.answer)
}

impl Poll {
    /// Takes what has arrived; waits for these results. Gives those that did not come.
    async fn results(&mut self, mut missing: HashSet<String>, wait: Duration) -> HashSet<String> {
        let deadline = Instant::now() + wait;
        loop {
            while let Some(news) = self.connected.session.take() {
                for result in news.results {
                    let is_own = missing.remove(&result.task_id);
                    // Answers to fences are nobody's business.
                    if is_own && !result.task_id.ends_with("/0") {
                        self.answer.results.push(result);
                    }
                }
                self.answer.tasks.extend(news.tasks);
                self.answer.lost_leases.extend(news.lost_leases);
            }
            if missing.is_empty() {
                return missing;
            }
            let news = self.connected.session.news.notified();
            if timeout_at(deadline, news).await.is_err() {
                return missing;
            }
        }
    }

    /// Asks partitions for tasks until there is one. With fewer places than partitions they are asked
    /// in turns: a task beyond `max_tasks` could not be given back.
    async fn tasks(&mut self, max_tasks: u32, wait: Duration) {
        let places = usize::try_from(max_tasks).unwrap_or(usize::MAX);
        let count = self.hub.partitions();
        if count == 0 {
            return;
        }
        let first = rand::random_range(0..count);
        let order: Vec<usize> = (0..count).map(|at| (first + at) % count).collect();
        let turns: Vec<&[usize]> = order.chunks(places.min(count).max(1)).collect();
        let turns_left = u32::try_from(turns.len()).unwrap_or(u32::MAX);
        for partitions in turns {
            let deadline = Instant::now() + wait / turns_left;
            let session = &self.connected.session;
            self.hub
                .say(session, session.fix_credits(partitions, max_tasks));
            // What waits is given out at once: a fence finds it however short the wait is.
            self.fence(partitions).await;
            while self.answer.tasks.is_empty() {
                let news = self.connected.session.news.notified();
                if timeout_at(deadline, news).await.is_err() {
                    break;
                }
                self.results(HashSet::new(), Duration::ZERO).await;
            }
            let session = &self.connected.session;
            self.hub.say(session, session.end_credits());
            self.fence(partitions).await;
            if !self.answer.tasks.is_empty() {
                return;
            }
        }
    }

    async fn fence(&mut self, partitions: &[usize]) {
        let mut fences = HashSet::new();
        for partition in partitions {
            let session = &self.connected.session;
            fences.insert(self.hub.fence(session, *partition).await);
        }
        self.results(fences, FENCE_WAIT).await;
    }
}
