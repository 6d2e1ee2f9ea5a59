//! Clients that start, call webhooks and read all the time, through every node, and write down what they see.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use tidemill_checker::{
    Recorder,
    history::{Answer, Call, Outcome},
};
use tidemill_sdk::{
    Client, ClientError, ErrorKind,
    api::{GetExecutionRequest, Message, StartExecutionRequest},
};
use tokio::{task::JoinSet, time::sleep};

use crate::http;
use crate::random::Random;

/// A call that takes longer has an unknown outcome.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a start is repeated before its caller gives up.
const TRIES_MAX: u32 = 8;
/// Executions that readers choose from.
const RECENT_MAX: usize = 300;

/// What all clients and workers of a campaign share.
#[derive(Debug)]
pub struct Shared {
    /// What they saw.
    pub recorder: Arc<Recorder>,
    /// Of the campaign.
    pub seed: u64,
    /// gRPC endpoints of the first nodes.
    pub endpoints: Vec<String>,
    /// HTTP addresses of the first nodes.
    pub http: Vec<String>,
    /// The flow that is started by gRPC, and that of webhooks.
    pub flows: [String; 2],
    /// Nothing new is begun any more.
    pub stop: AtomicBool,
    /// Workers do no harm any more.
    pub calm: AtomicBool,
    /// All workers end.
    pub quit: AtomicBool,
    recent: Mutex<VecDeque<String>>,
}

impl Shared {
    /// At the beginning.
    #[must_use]
    pub fn new(
        recorder: Arc<Recorder>,
        seed: u64,
        endpoints: Vec<String>,
        http: Vec<String>,
        flows: [String; 2],
    ) -> Self {
        Self {
            recorder,
            seed,
            endpoints,
            http,
            flows,
            stop: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            recent: Mutex::default(),
        }
    }

    fn remember(&self, execution: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back(execution.to_owned());
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }

    fn recall(&self, random: &mut Random) -> Option<String> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest change most.
        let last = recent.len().checked_sub(1)? as u64;
        let back = random.between(0, last).min(random.between(0, last));
        recent.get((last - back) as usize).cloned()
    }

    /// A client of each node that asks no other, and never asks twice.
    ///
    /// # Errors
    /// When an endpoint is none.
    pub fn clients(&self) -> Result<Vec<Client>> {
        let one = |endpoint: &String| {
            let client = Client::builder([endpoint])
                .discover(false)
                .retry(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .attempt_timeout(CALL_TIMEOUT)
                .timeout(CALL_TIMEOUT);
            Ok(client.lazy()?)
        };
        self.endpoints.iter().map(one).collect()
    }
}

/// What an error tells of the effect.
#[must_use]
pub fn outcome_of(error: &ClientError) -> Outcome {
    if error.kind.is_refusal() {
        Outcome::Refused {
            code: format!("{} {}", error.kind.name(), error.code),
        }
    } else {
        Outcome::Unknown
    }
}

/// Starts all clients.
///
/// # Errors
/// When an endpoint is none.
pub fn begin(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<()> {
    for number in 0..4 {
        tasks.spawn(start_on(Arc::clone(shared), shared.clients()?, number));
    }
    for number in 0..3 {
        tasks.spawn(call_on(Arc::clone(shared), number));
    }
    for number in 0..3 {
        tasks.spawn(read_on(Arc::clone(shared), shared.clients()?, number));
    }
    Ok(())
}

async fn start_once(shared: &Shared, client: &Client, name: &str, request_id: &str) -> bool {
    let call = Call::Start {
        flow: shared.flows[0].clone(),
        request_id: request_id.to_owned(),
    };
    let request = StartExecutionRequest {
        flow: shared.flows[0].clone(),
        message: Some(Message {
            data: format!("{{\"request\":\"{request_id}\"}}").into(),
            ..Message::default()
        }),
        request_id: request_id.to_owned(),
        ..StartExecutionRequest::default()
    };
    let id = shared.recorder.call(name, call);
    let outcome = match client.start_execution(request).await {
        Ok(started) => {
            shared.remember(&started.execution_id);
            Outcome::Ok {
                answer: Answer::Started {
                    execution: started.execution_id,
                    created: Some(started.created),
                },
            }
        }
        Err(error) => outcome_of(&error),
    };
    let is_done = matches!(outcome, Outcome::Ok { .. });
    shared.recorder.answer(id, outcome);
    is_done
}

async fn start_on(shared: Arc<Shared>, clients: Vec<Client>, number: u64) {
    let mut random = Random::new(shared.seed, 100 + number);
    let name = format!("starter-{number}");
    for start in 0_u64.. {
        if shared.stop.load(Relaxed) {
            break;
        }
        let request_id = format!("{name}/{start}");
        if random.percent(5) {
            // The same request at two nodes at once.
            let (a, b) = (random.pick(&clients), random.pick(&clients));
            tokio::join!(
                start_once(&shared, a, &name, &request_id),
                start_once(&shared, b, &name, &request_id)
            );
        }
        for _ in 0..TRIES_MAX {
            let client = random.pick(&clients);
            let is_done = start_once(&shared, client, &name, &request_id).await;
            // Some repeat although they know: another caller could have missed the answer.
            if is_done && !random.percent(5) {
                break;
            }
            sleep(Duration::from_millis(random.between(20, 200))).await;
        }
        sleep(Duration::from_millis(random.between(20, 100))).await;
    }
}

async fn call_on(shared: Arc<Shared>, number: u64) {
    let mut random = Random::new(shared.seed, 200 + number);
    let name = format!("caller-{number}");
    for start in 0_u64.. {
        if shared.stop.load(Relaxed) {
            break;
        }
        let request_id = format!("{name}/{start}");
        for attempt in 0..TRIES_MAX {
            let node = random.pick(&shared.http).clone();
            let call = Call::Start {
                flow: shared.flows[1].clone(),
                // By webhook a request id counts within its flow; the journal has it so.
                request_id: format!("hook/{}/{request_id}", shared.flows[1]),
            };
            let id = shared.recorder.call(&name, call);
            let outcome = call_once(&node, &shared.flows[1], &request_id, attempt).await;
            let is_done = match &outcome {
                Outcome::Ok {
                    answer: Answer::Started { execution, .. },
                } => {
                    shared.remember(execution);
                    true
                }
                _ => false,
            };
            shared.recorder.answer(id, outcome);
            if is_done && !random.percent(5) {
                break;
            }
            sleep(Duration::from_millis(random.between(20, 200))).await;
        }
        sleep(Duration::from_millis(random.between(30, 150))).await;
    }
}

async fn call_once(node: &str, flow: &str, request_id: &str, attempt: u32) -> Outcome {
    let attempt = attempt.to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Request-Id", request_id),
        ("X-Attempt", &*attempt),
    ];
    let line = format!("POST /hook/{flow}");
    let sent = http::send(node, &line, &headers, b"{\"n\": 1}");
    let answer = match tokio::time::timeout(CALL_TIMEOUT, sent).await {
        Ok(Ok(answer)) => answer,
        // Nobody knows how far it came.
        Ok(Err(_)) | Err(_) => return Outcome::Unknown,
    };
    match (answer.status, answer.json()["data"]["executionId"].as_str()) {
        (200, Some(execution)) => Outcome::Ok {
            answer: Answer::Started {
                execution: execution.to_owned(),
                created: None,
            },
        },
        // 503 is "no leader" as well as "not known"; both may be repeated.
        (503 | 500 | 504 | 200, _) => Outcome::Unknown,
        (status, _) => Outcome::Refused {
            code: format!("HTTP {status}"),
        },
    }
}

async fn read_on(shared: Arc<Shared>, clients: Vec<Client>, number: u64) {
    let mut random = Random::new(shared.seed, 300 + number);
    let name = format!("reader-{number}");
    while !shared.stop.load(Relaxed) {
        let Some(execution) = shared.recall(&mut random) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        // The same one a few times, each through another node.
        for _ in 0..random.between(1, 4) {
            let call = Call::Read {
                execution: execution.clone(),
            };
            let request = GetExecutionRequest {
                execution_id: execution.clone(),
            };
            let client = random.pick(&clients);
            let id = shared.recorder.call(&name, call);
            let outcome = match client.get_execution(request).await {
                Ok(response) => match response.execution {
                    Some(read) => Outcome::Ok {
                        answer: Answer::Read {
                            state: state_name(read.state().as_str_name(), "EXECUTION_STATE_"),
                            revision: read.revision,
                        },
                    },
                    None => Outcome::Unknown,
                },
                Err(error) if error.kind == ErrorKind::NotFound => Outcome::Ok {
                    answer: Answer::NotFound,
                },
                Err(error) => outcome_of(&error),
            };
            shared.recorder.answer(id, outcome);
        }
        sleep(Duration::from_millis(random.between(10, 60))).await;
    }
}

/// The name of a state in histories, from that in the API.
#[must_use]
pub fn state_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}
