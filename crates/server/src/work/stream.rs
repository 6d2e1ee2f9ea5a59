//! `WorkerService`: the stream of a worker.

use std::{
    collections::HashSet,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tidemill_proto::v1::{
    Hello, PollTasksRequest, PollTasksResponse, WorkRequest, WorkResponse,
    worker_service_server::WorkerService,
};
use tidemill_types::{
    TaskId,
    limits::{
        FLOW_REFERENCE_CHARS_MAX, LEASE_MS_MAX, LEASE_MS_MIN, WORK_ITEMS_PER_MESSAGE_MAX,
        WORKER_CREDITS_MAX, WORKER_FUNCTIONS_MAX, WORKER_HOLDS_MAX, WORKER_INSTANCE_CHARS_MAX,
        WORKER_NAME_CHARS_MAX,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{hub::Hub, linger, poll, session::Session};
use crate::{
    actor::AskError,
    gateway::{CheckResult, Checks, invalid, status},
    node::Node,
};

/// Messages on their way to the worker: what comes up meanwhile shares the next one.
const QUEUE: usize = 2;
/// How long a new stream may stay without a word.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// How long a leader may take to say that it gives out no more, when the node stops.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// `WorkerService`, on the public port.
pub(crate) struct WorkerGateway {
    node: Arc<Node>,
    hub: Arc<Hub>,
}

impl WorkerGateway {
    /// Attaches to the leaders of all partitions.
    pub fn new(node: Arc<Node>) -> Self {
        let hub = Hub::new(&node);
        hub.spawn_links(&node);
        Self { node, hub }
    }
}

type Working = Pin<Box<dyn Stream<Item = Result<WorkResponse, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for WorkerGateway {
    type WorkStream = Working;

    async fn work(
        &self,
        request: Request<Streaming<WorkRequest>>,
    ) -> Result<Response<Working>, Status> {
        if self.node.shutdown.is_cancelled() {
            return Err(status(AskError::Unavailable("the node is draining".into())));
        }
        let mut inbound = request.into_inner();
        let first = timeout(HELLO_WAIT, inbound.message())
            .await
            .map_err(|_| status(invalid("hello", "must come in the first message, at once")))??;
        let mut first = first.unwrap_or_default();
        let hello = first
            .hello
            .take()
            .ok_or_else(|| status(invalid("hello", "must be in the first message")))?;
        check_hello(&hello).map_err(status)?;
        check_request(&first).map_err(status)?;
        let connected = Connected::open(&self.hub, hello).map_err(status)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connected.listen(&node, first, inbound) => ended,
                ended = connected.tell(&node, &sender) => ended,
                () = sender.closed() => Ok(()),
                () = connected.session.superseded.cancelled() => {
                    Err(Status::aborted("hello.session: a newer session of this instance is open"))
                }
                () = linger(&node) => Err(Status::unavailable("the node is shutting down")),
            };
            drop(connected);
            if let Err(status) = ended {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn poll_tasks(
        &self,
        request: Request<PollTasksRequest>,
    ) -> Result<Response<PollTasksResponse>, Status> {
        poll::poll(&self.hub, &self.node, request.into_inner())
            .await
            .map(Response::new)
            .map_err(status)
    }
}

/// A worker's session for as long as this lives.
pub(super) struct Connected {
    hub: Arc<Hub>,
    pub session: Arc<Session>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.close(&self.session);
    }
}

impl Connected {
    pub fn open(hub: &Arc<Hub>, hello: Hello) -> CheckResult<Self> {
        Ok(Self {
            session: hub.open(hello)?,
            hub: Arc::clone(hub),
        })
    }

    async fn listen(
        &self,
        node: &Node,
        first: WorkRequest,
        mut inbound: Streaming<WorkRequest>,
    ) -> Result<(), Status> {
        self.take(node, first).await;
        loop {
            self.session.has_room().await;
            let Some(request) = inbound.message().await? else {
                // It says nothing more, but may wait for its last results.
                return std::future::pending().await;
            };
            check_request(&request).map_err(status)?;
            if request.hello.is_some() {
                return Err(status(invalid(
                    "hello",
                    "must be in the first message only",
                )));
            }
            self.take(node, request).await;
        }
    }

    async fn take(&self, node: &Node, request: WorkRequest) {
        // Places before completions would count those of the completions twice.
        for completion in request.completions {
            self.hub.complete(&self.session, completion).await;
        }
        if let Some(credits) = request.credits
            && !node.shutdown.is_cancelled()
        {
            let changes = self.session.set_credits(credits);
            self.hub.say(&self.session, changes);
        }
        for renewal in request.renewals {
            self.hub.renew(&self.session, renewal);
        }
    }

    async fn tell(
        &self,
        node: &Node,
        sender: &mpsc::Sender<Result<WorkResponse, Status>>,
    ) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the worker has gone");
        let mut leaving = pin!(self.leave(node));
        let mut give_up = pin!(give_up(node));
        // Sent when the node begins to stop; empty when all are answered.
        let mut fences: Option<HashSet<String>> = None;
        let (mut is_leaving, mut is_told) = (false, false);
        loop {
            // Room first: what comes up while the message before is sent shares this one.
            let place = sender.reserve().await.map_err(gone)?;
            if let Some(mut answer) = self.session.take() {
                if let Some(fences) = &mut fences {
                    answer
                        .results
                        .retain(|result| !fences.remove(&result.task_id));
                }
                let delivered = &self.hub.metrics.worker_tasks_delivered;
                delivered.add(answer.tasks.len() as u64);
                place.send(Ok(answer));
                continue;
            }
            let has_all = fences.as_ref().is_some_and(HashSet::is_empty);
            if (has_all || is_leaving) && !is_told {
                is_told = true;
                place.send(Ok(WorkResponse {
                    draining: true,
                    ..WorkResponse::default()
                }));
                continue;
            }
            drop(place);
            tokio::select! {
                () = self.session.news.notified() => {}
                sent = &mut leaving, if fences.is_none() => fences = Some(sent),
                () = &mut give_up, if !is_leaving => is_leaving = true,
            }
        }
    }

    /// When the node begins to stop: wants no more tasks, and asks every leader for an answer behind all
    /// that it has given out. A task that came after the worker was told to go would be left to its lease.
    async fn leave(&self, node: &Node) -> HashSet<String> {
        node.shutdown.cancelled().await;
        self.hub.say(&self.session, self.session.end_credits());
        let mut fences = HashSet::new();
        for partition in 0..self.hub.partitions() {
            fences.insert(self.hub.fence(&self.session, partition).await);
        }
        fences
    }
}

/// The worker is told to go in any case, early enough for its last completions.
async fn give_up(node: &Node) {
    node.shutdown.cancelled().await;
    tokio::time::sleep(LEAVE_WAIT).await;
}

pub(super) fn check_hello(hello: &Hello) -> CheckResult<()> {
    Checks::text("hello.worker", &hello.worker, WORKER_NAME_CHARS_MAX)?;
    if hello.serves.is_empty() || hello.serves.len() > WORKER_FUNCTIONS_MAX {
        let reason = format!(
            "has {} functions, 1 to {WORKER_FUNCTIONS_MAX} are allowed",
            hello.serves.len()
        );
        return Err(invalid("hello.serves", reason));
    }
    for (at, served) in hello.serves.iter().enumerate() {
        let field = format!("hello.serves[{at}].component");
        if served.component.is_empty() {
            return Err(invalid(field, "must be a component's name"));
        }
        Checks::text(&field, &served.component, FLOW_REFERENCE_CHARS_MAX)?;
        let field = format!("hello.serves[{at}].function");
        Checks::text(&field, &served.function, FLOW_REFERENCE_CHARS_MAX)?;
    }
    if hello.lease_ms != 0 && !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&hello.lease_ms) {
        let reason = format!("must be {LEASE_MS_MIN} to {LEASE_MS_MAX}, or 0 for the default");
        return Err(invalid("hello.lease_ms", reason));
    }
    Checks::text("hello.instance", &hello.instance, WORKER_INSTANCE_CHARS_MAX)?;
    if (hello.session == 0) != hello.instance.is_empty() {
        let reason = "must be set together with hello.instance, from 1";
        return Err(invalid("hello.session", reason));
    }
    if hello.holds.len() > WORKER_HOLDS_MAX {
        let reason = format!(
            "has {} tasks, at most {WORKER_HOLDS_MAX} are allowed: leave out hello.instance",
            hello.holds.len()
        );
        return Err(invalid("hello.holds", reason));
    }
    if let Some(at) = hello
        .holds
        .iter()
        .position(|task| task.parse::<TaskId>().is_err())
    {
        return Err(invalid(format!("hello.holds[{at}]"), "is no task's id"));
    }
    Ok(())
}

pub(super) fn check_request(request: &WorkRequest) -> CheckResult<()> {
    if request
        .credits
        .is_some_and(|credits| credits > WORKER_CREDITS_MAX)
    {
        let reason = format!("must be at most {WORKER_CREDITS_MAX}");
        return Err(invalid("credits", reason));
    }
    check_items(request.completions.len(), request.renewals.len())
}

pub(super) fn check_items(completions: usize, renewals: usize) -> CheckResult<()> {
    for (field, items) in [("completions", completions), ("renewals", renewals)] {
        if items > WORK_ITEMS_PER_MESSAGE_MAX {
            let reason = format!("has {items}, at most {WORK_ITEMS_PER_MESSAGE_MAX} are allowed");
            return Err(invalid(field, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidemill_proto::v1::ComponentFunction;

    use super::*;

    fn hello() -> Hello {
        Hello {
            worker: "w".into(),
            serves: vec![ComponentFunction {
                component: "shop".into(),
                function: String::new(),
            }],
            ..Hello::default()
        }
    }

    #[test]
    fn hellos() {
        assert!(check_hello(&hello()).is_ok());
        type MakeWrong = fn(&mut Hello);
        let wrong: [(MakeWrong, &str); 10] = [
            (|h| h.worker = "w".repeat(129), "hello.worker"),
            (|h| h.serves.clear(), "hello.serves"),
            (
                |h| h.serves = vec![ComponentFunction::default(); 1_001],
                "hello.serves",
            ),
            (
                |h| h.serves[0].component.clear(),
                "hello.serves[0].component",
            ),
            (
                |h| h.serves[0].function = "\n".into(),
                "hello.serves[0].function",
            ),
            (|h| h.lease_ms = 999, "hello.lease_ms"),
            (|h| h.instance = "i".repeat(65), "hello.instance"),
            (|h| h.instance = "i".into(), "hello.session"),
            (|h| h.session = 1, "hello.session"),
            (|h| h.holds = vec!["no".into()], "hello.holds[0]"),
        ];
        for (make_wrong, field) in wrong {
            let mut hello = hello();
            make_wrong(&mut hello);
            let error = check_hello(&hello).expect_err(field).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn requests() {
        let request = |credits| WorkRequest {
            credits: Some(credits),
            ..WorkRequest::default()
        };
        assert!(check_request(&request(WORKER_CREDITS_MAX)).is_ok());
        let error = check_request(&request(WORKER_CREDITS_MAX + 1)).expect_err("too many");
        assert!(error.to_string().starts_with("credits: "));
        assert!(check_items(WORK_ITEMS_PER_MESSAGE_MAX + 1, 0).is_err());
        assert!(check_items(0, WORK_ITEMS_PER_MESSAGE_MAX + 1).is_err());
    }
}
