//! Starts by streams, as the SDK sends them: many in a message, so that callers cost little beside the server that
//! they are to overload.

use std::{collections::HashMap, sync::Arc};

use tidemill_sdk::api::{
    NumberedStart, RefusedStarts, StartExecutionRequest, StartExecutionResponse,
    StartExecutionsRequest, execution_service_client::ExecutionServiceClient,
    numbered_answer::Outcome,
};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{OPEN_CALLS_MAX, PER_MESSAGE};

type Answer = Result<StartExecutionResponse, Status>;
type Asked = (StartExecutionRequest, oneshot::Sender<Answer>);
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// One stream, opened with the first start.
#[derive(Debug)]
pub(super) struct Stream {
    asked: mpsc::Sender<Asked>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream {
    pub fn open(client: ExecutionServiceClient<Channel>) -> Self {
        // As many as an open loop lets wait for answers: who asks is never kept from asking.
        let (asked, receiver) = mpsc::channel(OPEN_CALLS_MAX);
        let task = tokio::spawn(run(client, receiver));
        Self { asked, task }
    }

    pub async fn start(&self, request: StartExecutionRequest) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = || Status::unavailable("the stream has ended");
        let asked = self.asked.send((request, reply)).await;
        asked.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn run(mut client: ExecutionServiceClient<Channel>, mut asked: mpsc::Receiver<Asked>) {
    let (messages, stream) = mpsc::channel(4);
    let waiting = Waiting::default();
    let sent = Arc::clone(&waiting);
    let send = async move {
        let mut batch = Vec::with_capacity(PER_MESSAGE);
        let mut number = 0;
        while asked.recv_many(&mut batch, PER_MESSAGE).await > 0 {
            let mut waiting = sent.lock().await;
            let mut starts = Vec::with_capacity(batch.len());
            for (request, reply) in batch.drain(..) {
                number += 1;
                waiting.insert(number, reply);
                starts.push(NumberedStart {
                    number,
                    request: Some(request),
                });
            }
            drop(waiting);
            if messages
                .send(StartExecutionsRequest { starts })
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let receive = async move {
        let Ok(answers) = client.start_executions(ReceiverStream::new(stream)).await else {
            return;
        };
        let mut answers = answers.into_inner();
        while let Ok(Some(message)) = answers.message().await {
            let mut waiting = waiting.lock().await;
            for RefusedStarts { numbers, error } in message.refused {
                let status = Status::from(error.unwrap_or_default());
                for number in numbers {
                    if let Some(reply) = waiting.remove(&number) {
                        let _ = reply.send(Err(status.clone()));
                    }
                }
            }
            for answer in message.answers {
                let Some(reply) = waiting.remove(&answer.number) else {
                    continue;
                };
                // Whoever asked may have given up.
                let _ = reply.send(match answer.outcome {
                    Some(Outcome::Started(started)) => Ok(started),
                    Some(Outcome::Error(error)) => Err(error.into()),
                    None => Err(Status::internal("an answer without an outcome")),
                });
            }
        }
    };
    // When either ends nobody is answered any more.
    tokio::select! {
        () = send => {}
        () = receive => {}
    }
}
