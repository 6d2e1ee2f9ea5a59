//! The least of HTTP: one GET on a connection of its own.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("no HTTP answer from {address}: {answer:.100}"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("no HTTP status from {address}: {head:.100}"))?;
    Ok((status, body.to_owned()))
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
