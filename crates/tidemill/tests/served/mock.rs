//! A node that knows one flow, one execution and a journal of two partitions.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidemill_sdk::api::{
    cluster_service_server::{ClusterService, ClusterServiceServer},
    execution_service_server::{ExecutionService, ExecutionServiceServer},
    flow_service_server::{FlowService, FlowServiceServer},
    journal_service_server::{JournalService, JournalServiceServer},
    *,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

type Reply<T> = Result<Response<T>, Status>;
type Journal = BTreeMap<u32, Vec<JournalEntry>>;

#[derive(Default)]
struct State {
    documents: Vec<Value>,
    started: Vec<String>,
    members: Vec<Member>,
    journal: Journal,
}

#[derive(Clone)]
pub struct Mock {
    id: u64,
    state: Arc<Mutex<State>>,
}

pub struct Node {
    id: u64,
    address: SocketAddr,
    pub mock: Mock,
    server: JoinHandle<()>,
}

impl Node {
    pub async fn start(id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mock = Mock {
            id,
            state: Arc::default(),
        };
        mock.state().journal = [(0, 3), (1, 4)]
            .map(|(partition, count)| (partition, chain(partition, count, "worker:w")))
            .into();
        let service = mock.clone();
        let server = tokio::spawn(async move {
            Server::builder()
                .add_service(ClusterServiceServer::new(service.clone()))
                .add_service(ExecutionServiceServer::new(service.clone()))
                .add_service(FlowServiceServer::new(service.clone()))
                .add_service(JournalServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("serves");
        });
        Self {
            id,
            address,
            mock,
            server,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A sound chain, whose records say that `actor` caused them.
fn chain(partition: u32, count: u64, actor: &str) -> Vec<JournalEntry> {
    let mut hash = vec![0_u8; 32];
    (1..=count)
        .map(|seq| {
            let record = JournalRecord {
                seq,
                at_us: 1_795_229_999_000_000 + seq as i64,
                partition,
                kind: "step.succeeded".to_owned(),
                actor: actor.to_owned(),
                ..JournalRecord::default()
            }
            .encode_to_vec();
            hash = Sha256::new()
                .chain_update(&hash)
                .chain_update(&record)
                .finalize()
                .to_vec();
            JournalEntry {
                record: record.into(),
                hash: hash.clone().into(),
            }
        })
        .collect()
}

fn run(id: &str, state: ExecutionState) -> Execution {
    Execution {
        id: id.to_owned(),
        flow_id: "flw_1".to_owned(),
        flow_version: 1,
        state: state as i32,
        steps: 2,
        ..Execution::default()
    }
}

fn step(number: u32, node: &str, state: StepState, attempt: u32) -> Step {
    Step {
        number,
        node: node.to_owned(),
        state: state as i32,
        attempt,
        ..Step::default()
    }
}

impl Mock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    pub fn documents(&self) -> Vec<Value> {
        self.state().documents.clone()
    }

    pub fn started(&self) -> Vec<String> {
        self.state().started.clone()
    }

    pub fn cluster_of(&self, nodes: &[&Node]) {
        self.state().members = nodes
            .iter()
            .map(|node| Member {
                id: node.id,
                grpc: node.address.to_string(),
                voter: true,
                reachable: true,
                ..Member::default()
            })
            .collect();
    }

    pub fn cut_journal(&self, partition: u32, records: usize) {
        self.state()
            .journal
            .get_mut(&partition)
            .expect("a chain")
            .truncate(records);
    }

    /// Another chain, as sound as the first.
    pub fn rewrite_journal(&self, partition: u32) {
        self.state()
            .journal
            .insert(partition, chain(partition, 4, "worker:other"));
    }

    /// Changes one byte of the second record.
    pub fn tamper_with_journal(&self, partition: u32) {
        let mut chain = chain(partition, 4, "worker:w");
        let mut record = chain[1].record.to_vec();
        *record.last_mut().expect("bytes") ^= 1;
        chain[1].record = record.into();
        self.state().journal.insert(partition, chain);
    }
}

fn unused<T>() -> Reply<T> {
    Err(Status::unimplemented("not in this mock"))
}

#[tonic::async_trait]
impl ClusterService for Mock {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Reply<GetStatusResponse> {
        Ok(Response::new(GetStatusResponse {
            cluster: "test".to_owned(),
            node_id: self.id,
            members: self.state().members.clone(),
            ..GetStatusResponse::default()
        }))
    }

    async fn add_member(&self, _: Request<AddMemberRequest>) -> Reply<AddMemberResponse> {
        unused()
    }

    async fn remove_member(&self, _: Request<RemoveMemberRequest>) -> Reply<RemoveMemberResponse> {
        unused()
    }

    async fn transfer_leadership(
        &self,
        _: Request<TransferLeadershipRequest>,
    ) -> Reply<TransferLeadershipResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl FlowService for Mock {
    async fn apply_flow(&self, request: Request<ApplyFlowRequest>) -> Reply<ApplyFlowResponse> {
        let document: Value =
            serde_json::from_str(&request.into_inner().document).expect("one JSON document");
        let name = document["name"].as_str().expect("a name").to_owned();
        self.state().documents.push(document);
        Ok(Response::new(ApplyFlowResponse {
            flow: Some(Flow {
                id: format!("flw_{name}"),
                name,
                status: FlowStatus::Inactive as i32,
                ..Flow::default()
            }),
            created: true,
            changed: true,
            problems: vec![],
        }))
    }

    async fn publish_flow(&self, _: Request<PublishFlowRequest>) -> Reply<PublishFlowResponse> {
        Ok(Response::new(PublishFlowResponse {
            version: Some(FlowVersion {
                version: 1,
                ..FlowVersion::default()
            }),
            created: true,
        }))
    }

    async fn start_flow(&self, _: Request<StartFlowRequest>) -> Reply<StartFlowResponse> {
        Ok(Response::new(StartFlowResponse {
            flow: Some(Flow {
                status: FlowStatus::Active as i32,
                ..Flow::default()
            }),
            changed: true,
        }))
    }

    async fn validate_flow(&self, _: Request<ValidateFlowRequest>) -> Reply<ValidateFlowResponse> {
        unused()
    }

    async fn get_flow(&self, _: Request<GetFlowRequest>) -> Reply<GetFlowResponse> {
        unused()
    }

    async fn list_flows(&self, _: Request<ListFlowsRequest>) -> Reply<ListFlowsResponse> {
        unused()
    }

    async fn list_flow_versions(
        &self,
        _: Request<ListFlowVersionsRequest>,
    ) -> Reply<ListFlowVersionsResponse> {
        unused()
    }

    async fn get_flow_version(
        &self,
        _: Request<GetFlowVersionRequest>,
    ) -> Reply<GetFlowVersionResponse> {
        unused()
    }

    async fn stop_flow(&self, _: Request<StopFlowRequest>) -> Reply<StopFlowResponse> {
        unused()
    }

    async fn delete_flow(&self, _: Request<DeleteFlowRequest>) -> Reply<DeleteFlowResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl ExecutionService for Mock {
    async fn start_execution(
        &self,
        request: Request<StartExecutionRequest>,
    ) -> Reply<StartExecutionResponse> {
        let request = request.into_inner();
        let data = request.message.unwrap_or_default().data;
        let data = String::from_utf8_lossy(&data).into_owned();
        self.state()
            .started
            .push(format!("{} {data}", request.flow));
        Ok(Response::new(StartExecutionResponse {
            execution_id: "exe_1".to_owned(),
            request_id: request.request_id,
            created: true,
            ..StartExecutionResponse::default()
        }))
    }

    type StartExecutionsStream = tokio_stream::Empty<Result<StartExecutionsResponse, Status>>;

    /// As a node of an older version: the command line starts by calls then.
    async fn start_executions(
        &self,
        _: Request<Streaming<StartExecutionsRequest>>,
    ) -> Reply<Self::StartExecutionsStream> {
        unused()
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Reply<GetExecutionResponse> {
        let id = request.into_inner().execution_id;
        if id != "exe_1" {
            let details = ErrorDetails::with_error_info("TM0107", "tidemill", HashMap::new());
            let message = format!("there is no execution {id}");
            return Err(Status::with_error_details(Code::NotFound, message, details));
        }
        Ok(Response::new(GetExecutionResponse {
            execution: Some(run("exe_1", ExecutionState::Running)),
        }))
    }

    async fn wait_execution(
        &self,
        _: Request<WaitExecutionRequest>,
    ) -> Reply<WaitExecutionResponse> {
        Ok(Response::new(WaitExecutionResponse {
            execution: Some(run("exe_1", ExecutionState::Failed)),
            ended: true,
            output: vec![Message {
                data: "{\"done\": true}".into(),
                ..Message::default()
            }],
            reply: None,
        }))
    }

    type WatchExecutionStream =
        Pin<Box<dyn Stream<Item = Result<WatchExecutionResponse, Status>> + Send>>;

    async fn watch_execution(
        &self,
        _: Request<WatchExecutionRequest>,
    ) -> Reply<Self::WatchExecutionStream> {
        let mut dead = step(1, "push", StepState::Dead, 3);
        dead.error = Some(StepError {
            code: "HTTP_500".to_owned(),
            message: "no".to_owned(),
            ..StepError::default()
        });
        let changes = [
            (
                ExecutionState::Running,
                vec![step(0, "fetch", StepState::Running, 1)],
            ),
            (
                ExecutionState::Failed,
                vec![step(0, "fetch", StepState::Succeeded, 1), dead],
            ),
        ];
        let changes = changes.map(|(state, steps)| {
            Ok(WatchExecutionResponse {
                execution: Some(run("exe_1", state)),
                steps,
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(changes))))
    }

    async fn list_executions(
        &self,
        _: Request<ListExecutionsRequest>,
    ) -> Reply<ListExecutionsResponse> {
        unused()
    }

    async fn list_steps(&self, _: Request<ListStepsRequest>) -> Reply<ListStepsResponse> {
        unused()
    }

    async fn cancel_execution(
        &self,
        _: Request<CancelExecutionRequest>,
    ) -> Reply<CancelExecutionResponse> {
        unused()
    }

    async fn redrive_execution(
        &self,
        _: Request<RedriveExecutionRequest>,
    ) -> Reply<RedriveExecutionResponse> {
        unused()
    }
}

#[tonic::async_trait]
impl JournalService for Mock {
    type ReadJournalStream =
        Pin<Box<dyn Stream<Item = Result<ReadJournalResponse, Status>> + Send>>;

    async fn read_journal(
        &self,
        request: Request<ReadJournalRequest>,
    ) -> Reply<Self::ReadJournalStream> {
        let request = request.into_inner();
        let from = usize::try_from(request.from_seq.max(1) - 1).expect("small");
        let most = if request.limit == 0 {
            u64::MAX
        } else {
            request.limit
        };
        let entries: Vec<JournalEntry> = self.state().journal[&request.partition]
            .iter()
            .skip(from)
            .take(usize::try_from(most).unwrap_or(usize::MAX))
            .cloned()
            .collect();
        // Two at a time, so that there are several messages.
        let answers: Vec<_> = entries
            .chunks(2)
            .map(|entries| {
                Ok(ReadJournalResponse {
                    entries: entries.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn get_heads(&self, _: Request<GetHeadsRequest>) -> Reply<GetHeadsResponse> {
        let state = self.state();
        let heads = state.journal.iter().map(|(partition, chain)| Head {
            partition: *partition,
            seq: chain.len() as u64,
            hash: chain
                .last()
                .map(|entry| entry.hash.clone())
                .unwrap_or_default(),
        });
        Ok(Response::new(GetHeadsResponse {
            node_id: self.id,
            heads: heads.collect(),
        }))
    }
}
