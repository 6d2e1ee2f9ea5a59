//! Webhook requests, from the request to 200: the execution is stored by then. Spread over all nodes;
//! nobody serves the flow's one step.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tidemill_types::ExecutionId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{load, steps::no_rate_holds};
use crate::{
    account::Expected,
    figures::{self, Figures},
    harness::{FlowSpec, Progress, Stage},
    operation::{Failure, Operation, execution_id},
    options::Options,
};

const BODY: &str = r#"{"event":"order.created","order":{"id":7,"customer":"c-1","total":12.5}}"#;
/// How long one request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a request is sent to one node after the other before its outcome is said to be not known.
const ATTEMPTS_MAX: usize = 6;

/// Runs it.
///
/// # Errors
/// When anything fails, or an execution is not accounted for.
pub async fn run(name: &str, options: &Options, progress: Progress) -> Result<Vec<Figures>> {
    let stage = Stage::set(options, &FlowSpec::chain(1, false), progress).await?;
    let callers = Callers {
        nodes: stage.servers.nodes().into_iter().map(|n| n.http).collect(),
        path: format!("/hook/{}", stage.flow),
        idle: Arc::default(),
    };
    let measured = load(&stage, options, callers).await?;
    stage.settle(Expected::Running).await?;
    stage.leave().await?;
    Ok(vec![match measured {
        Some(measured) => figures::of_load(name, &stage, options, &measured, 1),
        None => no_rate_holds(name, &stage, options),
    }])
}

/// Connections that are kept open: one for each request under way.
#[derive(Clone, Debug)]
struct Callers {
    nodes: Vec<String>,
    path: String,
    idle: Arc<Mutex<Vec<(usize, TcpStream)>>>,
}

impl Operation for Callers {
    /// A repeat has the same request id, so it is safe: the same execution is the answer.
    async fn call(&self, slot: usize, request_id: &str) -> Result<ExecutionId, Failure> {
        let mut last = Failure::Unknown("not sent".to_owned());
        for attempt in 0..ATTEMPTS_MAX {
            let node = (slot + attempt) % self.nodes.len();
            match timeout(ANSWER_TIMEOUT, self.attempt(node, request_id)).await {
                Ok(Ok(Answered::Started(execution))) => return Ok(execution),
                // Load that is shed is an answer, and not asked for again.
                Ok(Ok(Answered::Refused(status))) => {
                    return Err(Failure::Refused(format!("HTTP {status}")));
                }
                Ok(Err(error)) => last = Failure::Unknown(format!("{error:#}")),
                Err(_) => last = Failure::Unknown("not answered in time".to_owned()),
            }
        }
        Err(last)
    }
}

enum Answered {
    Started(ExecutionId),
    Refused(u16),
}

impl Callers {
    fn take_idle(&self, node: usize) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(of, _)| *of == node)?;
        Some(idle.swap_remove(at).1)
    }

    async fn attempt(&self, node: usize, request_id: &str) -> Result<Answered> {
        let address = &self.nodes[node];
        let mut stream = match self.take_idle(node) {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nX-Request-Id: {request_id}\r\nContent-Length: {}\r\n\r\n{BODY}",
            self.path,
            BODY.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let (status, body) = read_answer(&mut stream).await?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((node, stream));
        drop(idle);
        match status {
            200 => {
                let answer: serde_json::Value = serde_json::from_slice(&body)?;
                let id = answer["data"]["executionId"].as_str().unwrap_or_default();
                match execution_id(id) {
                    Ok(execution) => Ok(Answered::Started(execution)),
                    Err(failure) => bail!("{failure}"),
                }
            }
            // Not proposed, or not known: the same request may be sent again.
            500.. => bail!("HTTP {status}: {}", String::from_utf8_lossy(&body)),
            _ => Ok(Answered::Refused(status)),
        }
    }
}

/// Reads one answer: its status, and as much body as its head says.
async fn read_answer(stream: &mut TcpStream) -> Result<(u16, Vec<u8>)> {
    let mut answer = Vec::with_capacity(512);
    loop {
        let read = stream.read_buf(&mut answer).await?;
        if read == 0 {
            bail!("the connection was closed");
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .context("an answer without its length")?;
        if answer.len() >= end + 4 + length {
            let body = answer.split_off(end + 4);
            return Ok((status.context("an answer without its status")?, body));
        }
    }
}
