//! The least of HTTP: one request on a connection of its own.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is stored, or held, before it is answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// First line and headers, in lower case.
    pub head: String,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's value, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Sends a request (`line` is method and path) and reads the answer to its end.
///
/// # Errors
/// When nobody answers in time, or what comes is no HTTP.
pub async fn send(
    address: &str,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    timeout(REQUEST_TIMEOUT, send_now(address, line, headers, body))
        .await
        .with_context(|| format!("{line} at {address} was not answered"))?
}

async fn send_now(
    address: &str,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    // A server that refuses a body may close before all of it is sent.
    let _ = stream.write_all(&bytes).await;
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer).await;
    parse_answer(&answer).with_context(|| format!("no HTTP answer from {address}: {ended:?}"))
}

fn parse_answer(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head,
        body: answer[end + 4..].to_vec(),
    })
}

/// Status and body of `GET path` at `address` (`127.0.0.1:PORT`).
///
/// # Errors
/// When nobody answers in time, or what comes is no HTTP.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    timeout(ANSWER_TIMEOUT, get_now(address, path))
        .await
        .with_context(|| format!("http://{address}{path} did not answer"))?
}

async fn get_now(address: &str, path: &str) -> Result<(u16, String)> {
    let answer = send_now(address, &format!("GET {path}"), &[], b"").await?;
    Ok((
        answer.status,
        String::from_utf8_lossy(&answer.body).into_owned(),
    ))
}

/// A page of Prometheus metrics: the sum of each metric over its labels, and each series by itself
/// (`name{labels}`).
///
/// # Errors
/// As [`get`], and when the page is not there.
pub async fn metrics(address: &str) -> Result<HashMap<String, f64>> {
    let (status, body) = get(address, "/metrics").await?;
    anyhow::ensure!(status == 200, "http://{address}/metrics answered {status}");
    Ok(parse_metrics(&body))
}

fn parse_metrics(text: &str) -> HashMap<String, f64> {
    let mut values = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        match series.split_once('{') {
            Some((name, _)) => {
                *values.entry(name.to_owned()).or_insert(0.0) += value;
                values.insert(series.to_owned(), value);
            }
            None => {
                values.insert(series.to_owned(), value);
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{p=\"1\"} 2\na_total{p=\"2\"} 3.5\nb 7\n";
        let values = parse_metrics(text);
        assert_eq!(values["a_total"], 5.5);
        assert_eq!(values["a_total{p=\"1\"}"], 2.0);
        assert_eq!(values["b"], 7.0);
    }
}
