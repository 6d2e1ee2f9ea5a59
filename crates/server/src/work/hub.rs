//! All workers that are connected to this node, and the links to the partitions' leaders.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tidemill_proto::v1::{Completion, CompletionResult, CompletionStatus, Hello, Renewal};
use tidemill_types::{PartitionId, TaskId, limits::WORKER_SESSIONS_MAX};
use tokio::sync::watch;

use super::{credits::Changes, linger, link::Link, session::Session};
use crate::{actor::AskError, metrics::Metrics, node::Node};

/// This node as a gateway of workers.
pub(crate) struct Hub {
    links: Vec<Arc<Link>>,
    last_session: AtomicU64,
    sessions: watch::Sender<u64>,
    pub(super) metrics: Arc<Metrics>,
}

impl Hub {
    pub fn new(node: &Node) -> Arc<Self> {
        Arc::new(Self {
            links: (1..=node.partition_count())
                .map(|id| Arc::new(Link::new(PartitionId(id), node.config.message_bytes_max)))
                .collect(),
            last_session: AtomicU64::new(0),
            sessions: watch::Sender::new(0),
            metrics: Arc::clone(&node.metrics),
        })
    }

    /// Keeps attached to every partition's leader until the node stops.
    pub fn spawn_links(self: &Arc<Self>, node: &Arc<Node>) {
        for link in &self.links {
            let run = Arc::clone(link).run(Arc::clone(self), Arc::clone(node));
            let (hub, node) = (Arc::clone(self), Arc::clone(node));
            tokio::spawn(async move {
                tokio::select! {
                    () = run => {}
                    () = hub.left(&node) => {}
                }
            });
        }
    }

    /// Waits until the node has begun to stop and all workers have gone, or have had their time.
    async fn left(&self, node: &Node) {
        node.shutdown.cancelled().await;
        let mut sessions = self.sessions.subscribe();
        tokio::select! {
            _ = sessions.wait_for(|sessions| *sessions == 0) => {}
            () = linger(node) => {}
        }
    }

    pub fn partitions(&self) -> usize {
        self.links.len()
    }

    /// A worker connects; its places are said later.
    pub fn open(&self, hello: Hello) -> Result<Arc<Session>, AskError> {
        const RETRY_AFTER_MS: u64 = 1_000;
        let has_room = self.sessions.send_if_modified(|sessions| {
            let has_room = *sessions < WORKER_SESSIONS_MAX;
            *sessions += u64::from(has_room);
            has_room
        });
        if !has_room {
            return Err(AskError::Overloaded {
                retry_after_ms: RETRY_AFTER_MS,
            });
        }
        let id = self.last_session.fetch_add(1, Relaxed) + 1;
        let in_hand = Arc::clone(&self.metrics.worker_tasks_in_hand);
        let session = Arc::new(Session::new(id, hello, self.links.len(), in_hand));
        self.metrics.worker_sessions.add(1.0);
        self.metrics.worker_sessions_opened.add(1);
        for link in &self.links {
            link.open(&session);
        }
        Ok(session)
    }

    /// A worker goes. Its leases live on: it may come back, here or elsewhere.
    pub fn close(&self, session: &Session) {
        for link in &self.links {
            link.close(session.id);
        }
        self.sessions.send_modify(|sessions| *sessions -= 1);
        self.metrics.worker_sessions.add(-1.0);
        self.metrics.worker_sessions_closed.add(1);
    }

    /// Says limits again that have changed.
    pub fn say(&self, session: &Session, changes: Changes) {
        for partition in changes {
            self.links[partition].say(session.id);
        }
    }

    fn link_of(&self, task: &TaskId) -> Option<&Arc<Link>> {
        let partition = task.step.execution.partition();
        self.links.get(usize::from(partition.0).checked_sub(1)?)
    }

    /// A worker's answer: frees its place at once, and goes to the partition's leader.
    pub async fn complete(&self, session: &Session, completion: Completion) {
        let answer = |status: CompletionStatus, message: String| CompletionResult {
            task_id: completion.task_id.clone(),
            status: status.into(),
            message,
        };
        let task = match completion.task_id.parse::<TaskId>() {
            Ok(task) => task,
            Err(error) => {
                session.result(answer(CompletionStatus::Invalid, error.to_string()));
                return;
            }
        };
        let Some(link) = self.link_of(&task) else {
            session.result(answer(CompletionStatus::LeaseLost, String::new()));
            return;
        };
        let changes = session.complete(&task.to_string());
        self.say(session, changes);
        link.complete(session.id, task, completion).await;
    }

    /// A message that is ordered after everything said to this partition's leader so far: its answer
    /// says that whatever the leader gave out before has arrived.
    pub async fn fence(&self, session: &Session, partition: usize) -> String {
        self.links[partition].fence(session.id).await
    }

    /// A worker still works.
    pub fn renew(&self, session: &Session, renewal: Renewal) {
        match renewal.task_id.parse::<TaskId>() {
            Ok(task) if self.link_of(&task).is_some() => {
                if let Some(link) = self.link_of(&task) {
                    link.renew(session.id, renewal);
                }
            }
            // It cannot be held: the worker is to stop.
            Ok(_) | Err(_) => {
                let changes = session.lose(renewal.task_id);
                self.say(session, changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_workers_may_be_connected() {
        let hub = Hub {
            links: Vec::new(),
            last_session: AtomicU64::new(0),
            sessions: watch::Sender::new(0),
            metrics: Arc::new(Metrics::new()),
        };
        let open = || hub.open(Hello::default());
        let sessions: Vec<_> = (0..WORKER_SESSIONS_MAX)
            .map(|_| open().expect("a place"))
            .collect();
        assert!(matches!(open(), Err(AskError::Overloaded { .. })));
        assert_eq!(
            hub.metrics.worker_sessions.get(),
            WORKER_SESSIONS_MAX as f64
        );
        hub.close(&sessions[0]);
        assert!(open().is_ok(), "the place of the one that went");
        assert!(open().is_err());
    }
}
