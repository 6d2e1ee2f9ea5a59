//! Servers that answer what a test tells them to.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tidemill_sdk::api::{
    AddMemberRequest, AddMemberResponse, CancelExecutionRequest, CancelExecutionResponse,
    GetExecutionRequest, GetExecutionResponse, GetStatusRequest, GetStatusResponse,
    ListExecutionsRequest, ListExecutionsResponse, ListStepsRequest, ListStepsResponse, Member,
    NumberedAnswer, PollTasksRequest, PollTasksResponse, RedriveExecutionRequest,
    RedriveExecutionResponse, RemoveMemberRequest, RemoveMemberResponse, StartError,
    StartExecutionRequest, StartExecutionResponse, StartExecutionsRequest, StartExecutionsResponse,
    TransferLeadershipRequest, TransferLeadershipResponse, WaitExecutionRequest,
    WaitExecutionResponse, WatchExecutionRequest, WatchExecutionResponse, WorkRequest,
    WorkResponse,
    cluster_service_server::{ClusterService, ClusterServiceServer},
    execution_service_server::{ExecutionService, ExecutionServiceServer},
    numbered_answer::Outcome,
    worker_service_server::{WorkerService, WorkerServiceServer},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// What the next calls are answered with.
pub enum Answer {
    Ok,
    Status(Status),
    /// No answer at all.
    Hang,
}

/// How a node takes streams of starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamsOfStarts {
    #[default]
    Answered,
    /// As a node of an older version.
    Unknown,
    /// Ended in order after the first message, without an answer.
    Ended,
}

/// One worker's stream, in the test's hands.
pub struct WorkStream {
    pub requests: Streaming<WorkRequest>,
    pub responses: mpsc::Sender<Result<WorkResponse, Status>>,
}

/// What one watch is given.
type Watch = Vec<Result<WatchExecutionResponse, Status>>;

#[derive(Clone)]
pub struct Mock {
    /// Answers to StartExecution and GetExecution, in order; then all is well.
    pub answers: Arc<Mutex<VecDeque<Answer>>>,
    /// The request ids that starts came with; `read` for GetExecution.
    pub calls: Arc<Mutex<Vec<String>>>,
    /// How many starts each message of a stream of starts had; 0 for a start by a call of its own.
    pub starts: Arc<Mutex<Vec<usize>>>,
    /// What streams of starts meet.
    pub streams_of_starts: Arc<Mutex<StreamsOfStarts>>,
    /// Streams of watches, in order: each a list of messages, then the end (or a loss).
    pub watches: Arc<Mutex<VecDeque<Watch>>>,
    pub members: Arc<Mutex<Vec<String>>>,
    streams: mpsc::Sender<WorkStream>,
}

/// A running server. Dropping it cuts its connections, as SIGKILL does.
pub struct Node {
    pub address: SocketAddr,
    pub mock: Mock,
    pub streams: mpsc::Receiver<WorkStream>,
    runtime: Option<Runtime>,
}

impl Node {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::channel(8);
        let mock = Mock {
            answers: Arc::default(),
            calls: Arc::default(),
            starts: Arc::default(),
            streams_of_starts: Arc::default(),
            watches: Arc::default(),
            members: Arc::default(),
            streams: sender,
        };
        let service = mock.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(ClusterServiceServer::new(service.clone()))
                .add_service(ExecutionServiceServer::new(service.clone()))
                .add_service(WorkerServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            address,
            mock,
            streams,
            runtime: Some(runtime),
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.mock.answers.lock().unwrap().extend(answers);
    }

    pub fn calls(&self) -> Vec<String> {
        self.mock.calls.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An address at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Mock {
    async fn next_answer(&self, call: String) -> Result<(), Status> {
        self.calls.lock().unwrap().push(call);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer.unwrap_or(Answer::Ok) {
            Answer::Ok => Ok(()),
            Answer::Status(status) => Err(status),
            Answer::Hang => std::future::pending().await,
        }
    }

    async fn start(
        &self,
        request: StartExecutionRequest,
    ) -> Result<StartExecutionResponse, Status> {
        let request_id = request.request_id;
        self.next_answer(request_id.clone()).await?;
        Ok(StartExecutionResponse {
            execution_id: "exe_1".to_owned(),
            request_id,
            created: true,
            ..StartExecutionResponse::default()
        })
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ClusterService for Mock {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Reply<GetStatusResponse> {
        let members = self.members.lock().unwrap();
        let members = members.iter().map(|grpc| Member {
            grpc: grpc.clone(),
            ..Member::default()
        });
        Ok(Response::new(GetStatusResponse {
            members: members.collect(),
            ..GetStatusResponse::default()
        }))
    }

    async fn add_member(&self, _: Request<AddMemberRequest>) -> Reply<AddMemberResponse> {
        self.next_answer("add".to_owned()).await?;
        Ok(Response::new(Default::default()))
    }

    async fn remove_member(&self, _: Request<RemoveMemberRequest>) -> Reply<RemoveMemberResponse> {
        Err(Status::unimplemented("mock"))
    }

    async fn transfer_leadership(
        &self,
        _: Request<TransferLeadershipRequest>,
    ) -> Reply<TransferLeadershipResponse> {
        Err(Status::unimplemented("mock"))
    }
}

#[tonic::async_trait]
impl ExecutionService for Mock {
    async fn start_execution(
        &self,
        request: Request<StartExecutionRequest>,
    ) -> Reply<StartExecutionResponse> {
        self.starts.lock().unwrap().push(0);
        let started = self.start(request.into_inner()).await?;
        Ok(Response::new(started))
    }

    type StartExecutionsStream = ReceiverStream<Result<StartExecutionsResponse, Status>>;

    async fn start_executions(
        &self,
        request: Request<Streaming<StartExecutionsRequest>>,
    ) -> Reply<Self::StartExecutionsStream> {
        let how = *self.streams_of_starts.lock().unwrap();
        if how == StreamsOfStarts::Unknown {
            return Err(Status::unimplemented("no such call"));
        }
        let mut inbound = request.into_inner();
        let (sender, receiver) = mpsc::channel(64);
        let mock = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                mock.starts.lock().unwrap().push(message.starts.len());
                if how == StreamsOfStarts::Ended {
                    return;
                }
                for start in message.starts {
                    let (mock, sender) = (mock.clone(), sender.clone());
                    tokio::spawn(async move {
                        let outcome = match mock.start(start.request.unwrap()).await {
                            Ok(started) => Outcome::Started(started),
                            Err(status) => Outcome::Error(StartError::from(&status)),
                        };
                        let answer = NumberedAnswer {
                            number: start.number,
                            outcome: Some(outcome),
                            leader: String::new(),
                        };
                        let response = StartExecutionsResponse {
                            answers: vec![answer],
                            refused: Vec::new(),
                        };
                        let _ = sender.send(Ok(response)).await;
                    });
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_execution(&self, _: Request<GetExecutionRequest>) -> Reply<GetExecutionResponse> {
        self.next_answer("read".to_owned()).await?;
        Ok(Response::new(Default::default()))
    }

    async fn list_executions(
        &self,
        _: Request<ListExecutionsRequest>,
    ) -> Reply<ListExecutionsResponse> {
        Err(Status::unimplemented("mock"))
    }

    async fn list_steps(&self, _: Request<ListStepsRequest>) -> Reply<ListStepsResponse> {
        Err(Status::unimplemented("mock"))
    }

    type WatchExecutionStream =
        Pin<Box<dyn Stream<Item = Result<WatchExecutionResponse, Status>> + Send>>;

    async fn watch_execution(
        &self,
        _: Request<WatchExecutionRequest>,
    ) -> Reply<Self::WatchExecutionStream> {
        let Some(messages) = self.watches.lock().unwrap().pop_front() else {
            return Err(Status::not_found("no such execution"));
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn wait_execution(
        &self,
        _: Request<WaitExecutionRequest>,
    ) -> Reply<WaitExecutionResponse> {
        Err(Status::unimplemented("mock"))
    }

    async fn cancel_execution(
        &self,
        _: Request<CancelExecutionRequest>,
    ) -> Reply<CancelExecutionResponse> {
        Err(Status::unimplemented("mock"))
    }

    async fn redrive_execution(
        &self,
        _: Request<RedriveExecutionRequest>,
    ) -> Reply<RedriveExecutionResponse> {
        Err(Status::unimplemented("mock"))
    }
}

#[tonic::async_trait]
impl WorkerService for Mock {
    type WorkStream = ReceiverStream<Result<WorkResponse, Status>>;

    async fn work(&self, request: Request<Streaming<WorkRequest>>) -> Reply<Self::WorkStream> {
        let (responses, receiver) = mpsc::channel(64);
        let stream = WorkStream {
            requests: request.into_inner(),
            responses,
        };
        let _ = self.streams.send(stream).await;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn poll_tasks(&self, _: Request<PollTasksRequest>) -> Reply<PollTasksResponse> {
        Err(Status::unimplemented("mock"))
    }
}
