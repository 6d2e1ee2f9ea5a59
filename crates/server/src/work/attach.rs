//! The leader's end of a gateway's stream: what gateways say goes into the actor's mailbox, and the
//! actor's effects for them come back.

use std::sync::Arc;

use futures::future::join_all;
use prost::Message as _;
use tidemill_core::{
    Partition,
    command::{CompleteTask, PartitionCommand, PartitionReply, RenewLease, SessionKey},
};
use tidemill_proto::{
    peer::v1::{
        AttachRequest, AttachResponse, SessionCompletion, SessionResult, SessionTask,
        partition_work_service_server::PartitionWorkService,
    },
    v1::{CompletionResult, CompletionStatus, Renewal},
};
use tidemill_types::{PartitionId, TaskId};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    batch::Batch,
    sink::{GatewayEvent, PartitionSink},
    translate,
};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::status,
    node::Node,
    work::linger,
};

/// Messages on their way to the gateway: what comes up meanwhile shares the next one.
const QUEUE: usize = 2;
/// Events looked at in one go.
const EVENTS: usize = 512;
/// Messages with renewals that wait for their answer: beyond that the stream is not read.
const RENEWING_MAX: usize = 16;

/// `PartitionWorkService`, on the peer port.
pub(crate) struct AttachService {
    node: Arc<Node>,
}

impl AttachService {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl PartitionWorkService for AttachService {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let node = Arc::clone(&self.node);
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(serve(node, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Serves one gateway until either side goes, this node's epoch ends or the gateway does not keep up.
pub(super) async fn serve(
    node: Arc<Node>,
    inbound: impl Stream<Item = Result<AttachRequest, Status>> + Send + 'static,
    outbound: mpsc::Sender<Result<AttachResponse, Status>>,
) {
    let ended = tokio::select! {
        ended = run(&node, inbound, &outbound) => ended,
        () = outbound.closed() => return,
        () = linger(&node) => Err(Status::unavailable("the node is shutting down")),
    };
    if let Err(status) = ended {
        let _ = outbound.send(Err(status)).await;
    }
}

async fn run(
    node: &Node,
    inbound: impl Stream<Item = Result<AttachRequest, Status>> + Send,
    outbound: &mpsc::Sender<Result<AttachResponse, Status>>,
) -> Result<(), Status> {
    let mut inbound = std::pin::pin!(inbound);
    let Some(first) = inbound.next().await.transpose()? else {
        return Ok(());
    };
    let id = u16::try_from(first.partition).map(PartitionId);
    let found = id.ok().and_then(|id| {
        let sink = Arc::clone(node.effects.of(id)?);
        Some((node.partition(id)?.clone(), sink))
    });
    let Some((group, sink)) = found else {
        return Err(Status::invalid_argument(format!(
            "partition: there is no partition {}",
            first.partition
        )));
    };
    let (gateway, events) = sink.attach().await.map_err(status)?;
    // Says that it has gone however this ends, be it by being dropped.
    let attached = Attached {
        group,
        sink,
        gateway,
        message_bytes_max: node.config.message_bytes_max,
        renewing: Arc::new(Semaphore::new(RENEWING_MAX)),
    };
    let read = async {
        attached.say(first).await?;
        while let Some(request) = inbound.next().await.transpose()? {
            attached.say(request).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = read => ended.map_err(|error: ReadError| error.0),
        ended = write(events, outbound) => ended,
    }
}

struct ReadError(Status);

impl From<Status> for ReadError {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<AskError> for ReadError {
    fn from(error: AskError) -> Self {
        Self(status(error))
    }
}

struct Attached {
    group: GroupHandle<Partition>,
    sink: Arc<PartitionSink>,
    gateway: u64,
    message_bytes_max: usize,
    renewing: Arc<Semaphore>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.sink.detach(self.gateway);
        let (group, gateway) = (self.group.clone(), self.gateway);
        let gone = async move {
            // When it is not the leader any more, nothing is to be forgotten.
            let _ = group.tell(PartitionCommand::GatewayGone { gateway }).await;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(gone);
        }
    }
}

impl Attached {
    async fn say(&self, request: AttachRequest) -> Result<(), AskError> {
        for session in request.sessions {
            let update = translate::session(self.gateway, session);
            self.group.tell(PartitionCommand::Session(update)).await?;
        }
        for completion in request.completions {
            if let Some(command) = self.completion(completion) {
                self.group.tell(PartitionCommand::Complete(command)).await?;
            }
        }
        if !request.renewals.is_empty() {
            self.renew(request.renewals).await;
        }
        Ok(())
    }

    fn completion(&self, completion: SessionCompletion) -> Option<CompleteTask> {
        let SessionCompletion {
            session,
            completion,
        } = completion;
        let completion = completion?;
        // Gateways of another version may check less.
        let task = completion.task_id.parse().ok()?;
        let outcome = translate::outcome(completion.outcome, self.message_bytes_max)
            .unwrap_or_else(|reason| translate::refused(&reason));
        Some(CompleteTask {
            task,
            outcome,
            session: SessionKey {
                gateway: self.gateway,
                session,
            },
        })
    }

    /// Renewals are asked, for their answer says whether the lease is held; the stream goes on meanwhile.
    async fn renew(&self, renewals: Vec<Renewal>) {
        let place = Arc::clone(&self.renewing).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let (group, sink, gateway) = (self.group.clone(), Arc::clone(&self.sink), self.gateway);
        tokio::spawn(async move {
            let _place = place;
            join_all(renewals.into_iter().map(async |renewal| {
                let Ok(task) = renewal.task_id.parse::<TaskId>() else {
                    return;
                };
                if renew(&group, task, &renewal.progress).await {
                    if !renewal.progress.is_empty() {
                        sink.set_progress(task.step, renewal.progress);
                    }
                } else {
                    sink.lost(gateway, task);
                }
            }))
            .await;
        });
    }
}

/// False only when the lease is known to be lost.
async fn renew(group: &GroupHandle<Partition>, task: TaskId, progress: &str) -> bool {
    let command = RenewLease {
        task,
        progress: progress.to_owned(),
    };
    match group.ask(PartitionCommand::Renew(command.clone())).await {
        Ok(PartitionReply::Renewed { held }) => held,
        Ok(_) => true,
        // Under load the answer is given up, but not the lease.
        Err(AskError::Overloaded { .. }) => {
            let _ = group.tell(PartitionCommand::Renew(command)).await;
            true
        }
        Err(
            AskError::NotLeader { .. }
            | AskError::Rejected(_)
            | AskError::Unavailable(_)
            | AskError::Unknown
            | AskError::Corrupt(_),
        ) => true,
    }
}

async fn write(
    mut events: mpsc::Receiver<GatewayEvent>,
    outbound: &mpsc::Sender<Result<AttachResponse, Status>>,
) -> Result<(), Status> {
    let mut taken = Vec::with_capacity(EVENTS);
    loop {
        if events.recv_many(&mut taken, EVENTS).await == 0 {
            // The epoch has ended, or this gateway did not keep up.
            return Err(status(AskError::Unavailable(
                "the leader's epoch ended, or its tasks were not taken; attach again".into(),
            )));
        }
        let mut response = AttachResponse::default();
        let mut batch = Batch::default();
        for event in taken.drain(..) {
            let bytes = add(event, &mut response);
            batch.admits(bytes);
            if batch.is_full() {
                send(outbound, &mut response).await?;
                batch = Batch::default();
            }
        }
        send(outbound, &mut response).await?;
    }
}

fn add(event: GatewayEvent, response: &mut AttachResponse) -> usize {
    match event {
        GatewayEvent::Task(grant) => {
            let task = SessionTask {
                session: grant.session.session,
                task: Some(translate::task(*grant)),
            };
            let bytes = task.encoded_len();
            response.tasks.push(task);
            bytes
        }
        GatewayEvent::Result {
            session,
            task,
            status,
        } => {
            let result: CompletionResult = translate::result(task, status);
            debug_assert_ne!(result.status(), CompletionStatus::Unspecified);
            let result = SessionResult {
                session,
                result: Some(result),
            };
            let bytes = result.encoded_len();
            response.results.push(result);
            bytes
        }
        GatewayEvent::Superseded(session) => {
            response.superseded.push(session);
            std::mem::size_of::<u64>()
        }
        GatewayEvent::LostLease(task) => {
            let task = task.to_string();
            let bytes = task.len();
            response.lost_leases.push(task);
            bytes
        }
    }
}

async fn send(
    outbound: &mpsc::Sender<Result<AttachResponse, Status>>,
    response: &mut AttachResponse,
) -> Result<(), Status> {
    let response = std::mem::take(response);
    if response == AttachResponse::default() {
        return Ok(());
    }
    outbound
        .send(Ok(response))
        .await
        .map_err(|_| Status::cancelled("the gateway has gone"))
}
