//! Workers: good ones by the SDK, and others that hang, crash, complete twice, complete late, or flood. What a
//! task meets is drawn from the seed and its id, so it does not depend on who gets it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidemill_checker::history::{Answer, Call, Completed, Event, Outcome};
use tidemill_sdk::{
    self as sdk, TaskContext, TaskError, Worker,
    api::{
        Completion, CompletionStatus, ComponentFunction, Hello, Message, OutputMessage,
        PollTasksRequest, Rebound, StepError, Success, Task, completion,
        worker_service_client::WorkerServiceClient,
    },
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::load::Shared;
use crate::random::{Random, hash};

/// The component that they serve.
pub const COMPONENT: &str = "torture";
const LEASE: Duration = Duration::from_secs(2);
const POLL_WAIT_MS: u32 = 300;
const POLL_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const HELD_MAX: usize = 32;
const REBOUND_MS: u64 = 200;
/// Attempts that no step reaches here: what is forged must not be right by chance.
const FORGED_ATTEMPT: u32 = 1_000_000;
const FLOOD_SIZE: usize = 100;

/// What a task meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    Error,
    Fatal,
    Rebound,
    Twice,
    Late,
    Hang,
    Crash,
}

fn fate(shared: &Shared, task: &str) -> Fate {
    if shared.calm.load(Relaxed) {
        return Fate::Good;
    }
    match hash(shared.seed, task) % 200 {
        0..=15 => Fate::Error,
        16 => Fate::Fatal,
        17..=24 => Fate::Rebound,
        25..=36 => Fate::Twice,
        37..=44 => Fate::Late,
        45..=50 => Fate::Hang,
        51..=52 => Fate::Crash,
        _ => Fate::Good,
    }
}

/// Starts all of them.
pub fn begin(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    for number in 0..3 {
        tasks.spawn(poll_on(Arc::clone(shared), number));
    }
    for number in 0..2 {
        tasks.spawn(stream_on(Arc::clone(shared), number));
    }
    tasks.spawn(flood_on(Arc::clone(shared)));
}

/// A worker of the SDK that dies without a word from time to time. What became of its completions it does
/// not tell, so that all of them are unknown.
async fn stream_on(shared: Arc<Shared>, number: u64) {
    let mut random = Random::new(shared.seed, 400 + number);
    for life in 0_u64.. {
        if shared.quit.load(Relaxed) {
            return;
        }
        let name = format!("stream-{number}-{life}");
        let (seen, said) = (Arc::clone(&shared), name.clone());
        let worker = Worker::builder(&shared.endpoints)
            .name(&name)
            .component(COMPONENT, move |task| {
                handle(Arc::clone(&seen), said.clone(), task)
            })
            .concurrency(16)
            .lease(LEASE);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut running = tokio::spawn(worker.run_until(async { drop(stopped.await) }));
        let end = Instant::now() + Duration::from_secs(random.between(5, 20));
        while Instant::now() < end && !shared.quit.load(Relaxed) && !running.is_finished() {
            sleep(Duration::from_millis(100)).await;
        }
        if shared.calm.load(Relaxed) {
            while !shared.quit.load(Relaxed) && !running.is_finished() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        if shared.quit.load(Relaxed) {
            let _ = stop.send(());
            let _ = timeout(Duration::from_secs(5), &mut running).await;
        }
        running.abort();
    }
}

async fn handle(
    shared: Arc<Shared>,
    worker: String,
    task: TaskContext,
) -> Result<sdk::Outcome, TaskError> {
    let id = task.id().to_owned();
    shared.recorder.write(Event::Delivered {
        worker: worker.clone(),
        task: id.clone(),
    });
    let fate = fate(&shared, &id);
    match fate {
        Fate::Hang => sleep(LEASE * 3).await,
        Fate::Late => sleep(LEASE + LEASE / 2).await,
        _ => sleep(Duration::from_millis(hash(shared.seed, &id) % 20)).await,
    }
    let outcome = outcome_of(fate);
    let call = Call::Complete { task: id, outcome };
    shared.recorder.call(&worker, call);
    match outcome {
        Completed::Success => Ok(sdk::Outcome::message(task.message())),
        Completed::Rebound => Ok(sdk::Outcome::rebound(Duration::from_millis(REBOUND_MS))),
        Completed::Error if fate == Fate::Fatal => Err(TaskError::fatal("FATAL", "drawn")),
        Completed::Error => Err(TaskError::retryable("ERROR", "drawn")),
    }
}

fn outcome_of(fate: Fate) -> Completed {
    match fate {
        Fate::Error | Fate::Fatal => Completed::Error,
        Fate::Rebound => Completed::Rebound,
        _ => Completed::Success,
    }
}

/// A completion that is to be sent.
struct Due {
    at: Instant,
    task: String,
    outcome: Completed,
    is_fatal: bool,
}

fn hello(worker: &str) -> Hello {
    Hello {
        worker: worker.to_owned(),
        serves: vec![ComponentFunction {
            component: COMPONENT.to_owned(),
            function: String::new(),
        }],
        lease_ms: LEASE.as_millis() as u32,
        ..Hello::default()
    }
}

fn completion(due: &Due) -> Completion {
    let outcome = match due.outcome {
        Completed::Success => completion::Outcome::Success(Success {
            messages: vec![OutputMessage {
                message: Some(Message {
                    data: "{}".into(),
                    ..Message::default()
                }),
                ..OutputMessage::default()
            }],
            node_state: None,
        }),
        Completed::Error => completion::Outcome::Error(StepError {
            code: "ERROR".to_owned(),
            fatal: due.is_fatal,
            ..StepError::default()
        }),
        Completed::Rebound => completion::Outcome::Rebound(Rebound {
            after_ms: REBOUND_MS,
        }),
    };
    Completion {
        task_id: due.task.clone(),
        outcome: Some(outcome),
    }
}

fn connect(shared: &Shared, random: &mut Random) -> WorkerServiceClient<Channel> {
    let endpoint = random.pick(&shared.endpoints).clone();
    let channel = Endpoint::from_shared(endpoint)
        .expect("the fleet's endpoints are some")
        .connect_timeout(CONNECT_TIMEOUT)
        .connect_lazy();
    WorkerServiceClient::new(channel)
}

/// Sends completions and takes tasks. The completions that have no final answer come back.
async fn poll(
    shared: &Shared,
    client: &mut WorkerServiceClient<Channel>,
    worker: &str,
    max_tasks: u32,
    sent: Vec<Due>,
) -> (Option<Vec<Task>>, Vec<Due>) {
    let mut calls: BTreeMap<String, (u64, Due)> = BTreeMap::new();
    let mut request = PollTasksRequest {
        hello: Some(hello(worker)),
        max_tasks,
        wait_ms: if max_tasks > 0 { POLL_WAIT_MS } else { 0 },
        ..PollTasksRequest::default()
    };
    let mut open = Vec::new();
    for due in sent {
        if calls.contains_key(&due.task) {
            // An answer names only the task: two for one in a call could not be told apart.
            open.push(due);
            continue;
        }
        let call = Call::Complete {
            task: due.task.clone(),
            outcome: due.outcome,
        };
        request.completions.push(completion(&due));
        calls.insert(due.task.clone(), (shared.recorder.call(worker, call), due));
    }
    let answer = timeout(POLL_TIMEOUT, client.poll_tasks(request)).await;
    let (tasks, results) = match answer {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            (Some(answer.tasks), answer.results)
        }
        Ok(Err(_)) | Err(_) => (None, Vec::new()),
    };
    for result in results {
        let Some((id, due)) = calls.remove(&result.task_id) else {
            continue;
        };
        let answer = match result.status() {
            CompletionStatus::Accepted => Answer::Accepted,
            CompletionStatus::Already => Answer::Already,
            CompletionStatus::LeaseLost => Answer::LeaseLost,
            CompletionStatus::Invalid => Answer::Invalid,
            CompletionStatus::Retry | CompletionStatus::Unspecified => {
                shared.recorder.answer(id, Outcome::Unknown);
                open.push(due);
                continue;
            }
        };
        shared.recorder.answer(id, Outcome::Ok { answer });
    }
    for (_, (id, due)) in calls {
        shared.recorder.answer(id, Outcome::Unknown);
        open.push(due);
    }
    (tasks, open)
}

async fn poll_on(shared: Arc<Shared>, number: u64) {
    let mut random = Random::new(shared.seed, 500 + number);
    let mut client = connect(&shared, &mut random);
    let mut waiting: Vec<Due> = Vec::new();
    let mut life = 0;
    while !shared.quit.load(Relaxed) {
        let worker = format!("poll-{number}-{life}");
        let now = Instant::now();
        let (due, later): (Vec<Due>, Vec<Due>) = waiting.into_iter().partition(|due| due.at <= now);
        waiting = later;
        let room = HELD_MAX.saturating_sub(waiting.len()) as u32;
        let (tasks, open) = poll(&shared, &mut client, &worker, room.min(8), due).await;
        let again = Instant::now() + Duration::from_millis(100);
        waiting.extend(open.into_iter().map(|due| Due { at: again, ..due }));
        let Some(tasks) = tasks else {
            client = connect(&shared, &mut random);
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        for task in tasks {
            let id = task.id;
            shared.recorder.write(Event::Delivered {
                worker: worker.clone(),
                task: id.clone(),
            });
            let fate = fate(&shared, &id);
            let now = Instant::now();
            let mut at = now + Duration::from_millis(hash(shared.seed, &id) % 30);
            if fate == Fate::Late {
                at = now + LEASE + LEASE / 4;
            }
            let due = |at, outcome| Due {
                at,
                task: id.clone(),
                outcome,
                is_fatal: fate == Fate::Fatal,
            };
            match fate {
                Fate::Hang => {}
                Fate::Crash => {
                    // All that it held is forgotten; it comes back as somebody else.
                    waiting.clear();
                    life += 1;
                    client = connect(&shared, &mut random);
                    break;
                }
                Fate::Twice => {
                    waiting.push(due(at, Completed::Success));
                    // The second time it may say something else, at once or later.
                    let other = hash(shared.seed, &id) % 3;
                    let second = if other == 0 {
                        Completed::Error
                    } else {
                        Completed::Success
                    };
                    waiting.push(due(at + Duration::from_millis(other * 400), second));
                }
                fate => waiting.push(due(at, outcome_of(fate))),
            }
        }
    }
}

/// Completes what was never given to it: executions that are not there, attempts that do not come.
async fn flood_on(shared: Arc<Shared>) {
    let mut random = Random::new(shared.seed, 600);
    let mut client = connect(&shared, &mut random);
    while !shared.calm.load(Relaxed) {
        let forged = |random: &mut Random| {
            let (a, b) = (u128::from(random.draw()), u128::from(random.draw()));
            let mut bytes = ((a << 64) | b).to_be_bytes();
            bytes[..8].copy_from_slice(&[1, 0x93, 0, 0, 0, 0, 0, 1]);
            let id = tidemill_types::ExecutionId(bytes);
            format!("{id}/{}/{}", random.between(0, 3), FORGED_ATTEMPT)
        };
        let due = (0..FLOOD_SIZE).map(|_| Due {
            at: Instant::now(),
            task: forged(&mut random),
            outcome: Completed::Success,
            is_fatal: false,
        });
        let due = due.collect();
        let (tasks, _) = poll(&shared, &mut client, "flood", 0, due).await;
        if tasks.is_none() {
            client = connect(&shared, &mut random);
        }
        sleep(Duration::from_millis(500)).await;
    }
}
