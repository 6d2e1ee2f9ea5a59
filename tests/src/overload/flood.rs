//! An open loop by streams that costs its callers as little as it can, since they share the machine with the
//! server that they are to overload: no task, no timer and no lock for a start.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tidemill_sdk::api::{
    NumberedStart, StartExecutionsRequest, StartExecutionsResponse,
    execution_service_client::ExecutionServiceClient, numbered_answer::Outcome,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{Became, CALL_TIMEOUT, OPEN_CALLS_MAX, Outcomes, PER_MESSAGE, TICK, lock, request};

/// Messages that wait for the connection; what is due beyond them is not sent, and counted.
const MESSAGES_WAITING: usize = 8;

/// What all connections of a flood share.
pub(super) struct Flood {
    pub flow: String,
    pub prefix: String,
    pub wait_ms: u32,
    /// Of all.
    pub per_second: f64,
    pub length: Duration,
    /// Starts whose answers are missing.
    pub open: AtomicUsize,
}

impl Flood {
    /// Sends what is due when it is due, over all connections alike.
    pub async fn run(self, clients: Vec<ExecutionServiceClient<Channel>>) -> Outcomes {
        let connections = clients.len();
        let flood = Arc::new(self);
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            tasks.spawn(one(Arc::clone(&flood), client, number, connections, begun));
        }
        let mut all = Outcomes::default();
        while let Some(one) = tasks.join_next().await {
            all.add(one.expect("a connection's task does not panic"));
        }
        all.elapsed = flood.length;
        all.ended = Some(begun + flood.length);
        all
    }

    fn start(&self, connection: usize, number: u64) -> NumberedStart {
        let request_id = format!("{}-{connection}-{number}", self.prefix);
        NumberedStart {
            number,
            request: Some(request(&self.flow, request_id, self.wait_ms)),
        }
    }
}

/// One connection's part.
async fn one(
    flood: Arc<Flood>,
    mut client: ExecutionServiceClient<Channel>,
    connection: usize,
    connections: usize,
    begun: Instant,
) -> Outcomes {
    let (messages, stream) = mpsc::channel(MESSAGES_WAITING);
    let mut outcomes = Outcomes::default();
    let answers = match client.start_executions(ReceiverStream::new(stream)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => {
            outcomes.count(&Became::of(&status), 0);
            return outcomes;
        }
    };
    // By number, in microseconds after the beginning.
    let sent_at = Mutex::new(Vec::new());
    let rate = flood.per_second / connections as f64;
    let sender = send(&flood, messages, connection, rate, begun, &sent_at);
    let receiver = receive(&flood, answers, begun, &sent_at, &mut outcomes);
    let ((sent, not_sent), answered) = tokio::join!(sender, receiver);
    (outcomes.sent, outcomes.not_sent) = (sent, not_sent);
    let missing = sent.saturating_sub(answered);
    if missing > 0 {
        *outcomes.other.entry("no answer".to_owned()).or_default() += missing;
    }
    outcomes
}

/// Sends until the time is over; how many were sent, and how many due ones were not.
async fn send(
    flood: &Flood,
    messages: mpsc::Sender<StartExecutionsRequest>,
    connection: usize,
    rate: f64,
    begun: Instant,
    sent_at: &Mutex<Vec<u32>>,
) -> (u64, u64) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut due, mut sent, mut not_sent) = (0_u64, 0_u64, 0_u64);
    loop {
        ticks.tick().await;
        let now = begun.elapsed();
        if now >= flood.length {
            return (sent, not_sent);
        }
        let until_now = (now.as_secs_f64() * rate) as u64;
        while due < until_now {
            let part = (until_now - due).min(PER_MESSAGE as u64);
            due += part;
            let is_full = flood.open.load(Relaxed) + part as usize > OPEN_CALLS_MAX;
            let (false, Ok(place)) = (is_full, messages.try_reserve()) else {
                not_sent += part;
                continue;
            };
            flood.open.fetch_add(part as usize, Relaxed);
            let starts = (sent..sent + part).map(|number| flood.start(connection, number));
            let starts = starts.collect();
            let until = (sent + part) as usize;
            lock(sent_at).resize(until, micros(begun.elapsed()));
            place.send(StartExecutionsRequest { starts });
            sent += part;
        }
    }
}

/// Takes answers until the server ends the stream, which it does when all are answered; how many there were.
async fn receive(
    flood: &Flood,
    mut answers: tonic::Streaming<StartExecutionsResponse>,
    begun: Instant,
    sent_at: &Mutex<Vec<u32>>,
    outcomes: &mut Outcomes,
) -> u64 {
    let mut all = 0;
    loop {
        let message = match timeout(CALL_TIMEOUT, answers.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) | Err(_) => return all,
            Ok(Err(status)) => {
                outcomes.count(&Became::of(&status), 0);
                return all;
            }
        };
        let now = begun.elapsed();
        let now_us = micros(now);
        let sent_at = lock(sent_at);
        let took = |number: u64| {
            let at = sent_at.get(number as usize).copied().unwrap_or(now_us);
            now_us.saturating_sub(at)
        };
        let mut taken = message.answers.len();
        for answer in message.answers {
            match answer.outcome {
                Some(Outcome::Started(_)) => {
                    outcomes.count(&Became::Acknowledged, took(answer.number));
                    outcomes.in_time += u64::from(now <= flood.length);
                }
                Some(Outcome::Error(error)) => {
                    outcomes.count(&Became::of(&error.into()), took(answer.number));
                }
                None => outcomes.count(&Became::Other("an empty answer".to_owned()), 0),
            }
        }
        for refused in message.refused {
            taken += refused.numbers.len();
            let became = Became::of(&refused.error.unwrap_or_default().into());
            for number in refused.numbers {
                outcomes.count(&became, took(number));
            }
        }
        all += taken as u64;
        flood.open.fetch_sub(taken, Relaxed);
    }
}

fn micros(of: Duration) -> u32 {
    u32::try_from(of.as_micros()).unwrap_or(u32::MAX)
}
