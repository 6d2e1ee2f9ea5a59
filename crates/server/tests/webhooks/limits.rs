//! Rates, and what the metrics say of requests.

use std::time::Duration;

use tidemill_server::config::Rate;

use super::server::*;

const LOG: &str = "nodes: [{id: a, componentId: log, function: write}]";

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_takes_as_many_requests_as_it_says() {
    let server = Server::start().await;
    let limited = server
        .activate(
            "trigger: {webhook: {rateLimit: {requests: 2, per: 1h, burst: 3}}}",
            LOG,
        )
        .await;
    let other = server.activate("", LOG).await;
    let post = |flow: &str| format!("POST /hook/{flow}");
    for _ in 0..3 {
        // What is refused for another reason is not counted.
        let bad = server.send(&post(&limited), &[JSON], b"{").await;
        assert_eq!(bad.status, 400);
        assert_eq!(
            server.send(&post(&limited), &[JSON], b"{}").await.status,
            200
        );
    }
    let refused = server.send(&post(&limited), &[JSON], b"{}").await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let seconds: u64 = refused
        .header("retry-after")
        .and_then(|seconds| seconds.parse().ok())
        .expect("seconds");
    assert!((1_700..=1_800).contains(&seconds), "{seconds}");
    assert!(refused.json()["error"].is_string(), "{}", refused.text);
    assert_eq!(server.send(&post(&other), &[JSON], b"{}").await.status, 200);
    let head = format!("HEAD /hook/{limited}");
    assert_eq!(server.send(&head, &[], b"").await.status, 200);

    let metrics = server.metrics().await;
    for line in [
        "tidemill_webhook_request_total{method=\"POST\",status=\"200\"} 4",
        "tidemill_webhook_request_total{method=\"POST\",status=\"400\"} 3",
        "tidemill_webhook_request_total{method=\"POST\",status=\"429\"} 1",
        "tidemill_webhook_request_total{method=\"HEAD\",status=\"200\"} 1",
        "tidemill_webhook_shed_total{reason=\"flow_rate\"} 1",
        "tidemill_webhook_duration_seconds_count{kind=\"async\"} 5",
        "tidemill_webhook_duration_seconds_count{kind=\"refused\"} 4",
        "tidemill_webhook_held_requests 0",
    ] {
        assert!(
            metrics.contains(&format!("{line}\n")),
            "no {line} in {metrics}"
        );
    }
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_as_many_requests_as_its_operator_says() {
    let rate = |requests| {
        Some(Rate {
            requests,
            per: Duration::from_secs(3_600),
            burst: requests,
        })
    };
    let server = Server::with(|config| {
        config.webhook_flow_rate = rate(2);
        config.webhook_tenant_rate = rate(3);
    })
    .await;
    let one = server.activate("", LOG).await;
    let two = server.activate("", LOG).await;
    let status = async |flow: &str| {
        server
            .send(&format!("GET /hook/{flow}"), &[], b"")
            .await
            .status
    };
    let mut seen = Vec::new();
    for flow in [&one, &one, &one, &two, &two] {
        seen.push(status(flow).await);
    }
    assert_eq!(seen, [200, 200, 429, 200, 429]);
    let metrics = server.metrics().await;
    for reason in ["flow_rate", "tenant_rate"] {
        let line = format!("tidemill_webhook_shed_total{{reason=\"{reason}\"}} 1\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    server.running.drain().await;
}
