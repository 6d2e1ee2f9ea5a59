//! `WatchExecution`: the state now, then every change, until the execution has ended.
//!
//! A notice says only that something changed; what, is read from rows and compared with what was
//! sent. Changes that come faster than the client reads are told together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tidemill_core::{Partition, Rows};
use tidemill_proto::{
    convert,
    v1::{WatchExecutionRequest, WatchExecutionResponse},
};
use tidemill_types::{ExecutionId, StepId, limits::PAGE_SIZE_MAX};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Watching, client, read};
use crate::{
    actor::{AskError, GroupHandle},
    gateway::{Checks, Open, Origin, check::CheckResult, forwarded, route::Kind, status},
    work::{PartitionSink, too_many_watchers},
};

/// Messages on their way to a slow client: more would only be older news.
const QUEUE: usize = 2;
/// Steps in one message.
const STEPS_PER_MESSAGE: usize = PAGE_SIZE_MAX as usize;
/// With more steps than this, changes of so long are told together: each look reads all steps.
const MANY_STEPS: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn watch(
    open: &Arc<Open>,
    origin: Origin,
    request: WatchExecutionRequest,
) -> Result<Watching, Status> {
    let node = &open.node;
    let (id, home) = Checks::execution(&request.execution_id, node).map_err(status)?;
    node.on_leader(
        origin,
        Kind::Read,
        home,
        |home| local(Arc::clone(open), home, id),
        |channel| {
            let request = request.clone();
            async move {
                let stream = forwarded(client(channel).watch_execution(request).await)?;
                Ok(Box::pin(stream) as Watching)
            }
        },
    )
    .await
}

async fn local(
    open: Arc<Open>,
    home: GroupHandle<Partition>,
    id: ExecutionId,
) -> CheckResult<Watching> {
    // Known before the stream begins, so that an unknown execution is an answer, not a broken stream.
    read::execution(&home.read().await?, id)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let stop = open.node.shutdown.clone();
        let gone = sender.clone();
        let ended = tokio::select! {
            ended = tell(&open, &home, id, &sender) => ended,
            () = gone.closed() => return,
            () = stop.cancelled() => Err(AskError::Unavailable("the node is shutting down".into())),
        };
        if let Err(error) = ended {
            let _ = sender.send(Err(status(error))).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

type Sender = mpsc::Sender<Result<WatchExecutionResponse, Status>>;

async fn tell(
    open: &Open,
    home: &GroupHandle<Partition>,
    id: ExecutionId,
    sender: &Sender,
) -> CheckResult<()> {
    let sink = open
        .node
        .effects
        .of(id.partition())
        .ok_or_else(|| AskError::Unavailable("the partition is not open".into()))?;
    let mut changes = sink.watch(id).ok_or_else(too_many_watchers)?;
    let mut told = Told::default();
    loop {
        changes.seen();
        let rows = home.read().await?;
        let (messages, ended) = told.news(open, &rows, id, sink)?;
        drop(rows);
        for message in messages {
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        changes.changed().await;
        if told.steps.len() > MANY_STEPS {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What the client knows.
#[derive(Default)]
struct Told {
    revision: Option<u64>,
    steps: BTreeMap<u32, (Bytes, Option<String>)>,
}

impl Told {
    /// What the client does not know yet, and whether the execution has ended.
    fn news(
        &mut self,
        open: &Open,
        rows: &dyn Rows,
        id: ExecutionId,
        sink: &PartitionSink,
    ) -> CheckResult<(Vec<WatchExecutionResponse>, bool)> {
        let execution = read::execution(rows, id)?;
        let names = read::names(&open.nodes, rows, &execution)?;
        let ended = execution.state.is_ended();
        let mut changed = Vec::new();
        for (number, value) in read::stored_steps(rows, id, 0, usize::MAX)? {
            let step = StepId {
                execution: id,
                step: number,
            };
            let now = (value.clone(), sink.progress(step));
            if self.steps.get(&number) == Some(&now) {
                continue;
            }
            let mut step = read::step(number, read::step_row(value)?, &names)?;
            step.progress = now.1.clone().unwrap_or_default();
            self.steps.insert(number, now);
            changed.push(step);
        }
        let is_news = self.revision != Some(execution.revision) || !changed.is_empty();
        self.revision = Some(execution.revision);
        let execution = convert::execution(id, execution);
        let mut messages = Vec::new();
        let mut changed = changed.into_iter().peekable();
        while changed.peek().is_some() {
            messages.push(WatchExecutionResponse {
                execution: Some(execution.clone()),
                steps: changed.by_ref().take(STEPS_PER_MESSAGE).collect(),
            });
        }
        if is_news && messages.is_empty() {
            messages.push(WatchExecutionResponse {
                execution: Some(execution),
                steps: Vec::new(),
            });
        }
        Ok((messages, ended))
    }
}
