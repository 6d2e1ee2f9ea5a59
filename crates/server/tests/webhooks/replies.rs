//! `reply: wait`: the flow answers.

use std::collections::BTreeSet;

use tokio::time::{Instant, sleep, timeout};

use super::server::*;

const WAITS: &str = "trigger: {webhook: {reply: wait}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_respond_node_answers_while_the_execution_goes_on() {
    let server = Server::start().await;
    let flow = server
        .activate(
            WAITS,
            "nodes: [{id: r, componentId: respond, function: reply, fields: {status: 201, headers: {X-Kind: order}, expression: '{\"headers\": {\"location\": \"/orders/\" & n}, \"body\": {\"id\": n}}'}}, {id: w, componentId: wait, function: delay, fields: {duration: 1h}}], edges: [{source: r, target: w}]",
        )
        .await;
    let headers = [JSON, ("X-Request-Id", "mine")];
    let post = format!("POST /hook/{flow}");
    let first = server.send(&post, &headers, b"{\"n\": 7}").await;
    assert_eq!((first.status, &*first.text), (201, "{\"id\":7}"));
    assert_eq!(first.header("location"), Some("/orders/7"));
    assert_eq!(first.header("x-kind"), Some("order"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let execution = first.header("x-tidemill-execution-id").expect("an id");
    assert!(execution.starts_with("exe_"), "{execution}");
    // Whatever a repeat carries: it is the same request.
    let again = server.send(&post, &headers, b"{\"n\": 8}").await;
    // Headers have no order among themselves.
    let without_date = |answer: &Answer| {
        let lines = answer.head.lines().filter(|line| !line.starts_with("date"));
        (
            lines.map(str::to_owned).collect::<BTreeSet<_>>(),
            answer.text.clone(),
        )
    };
    assert_eq!(without_date(&again), without_date(&first));
    let get = server
        .send(&format!("GET /hook/{flow}?n=9"), &[], b"")
        .await;
    assert_eq!((get.status, &*get.text), (201, "{\"id\":\"9\"}"));
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_answers_where_no_respond_has() {
    let server = Server::start().await;
    let echo = server
        .activate(WAITS, "nodes: [{id: a, componentId: log, function: write}]")
        .await;
    let answer = server
        .send(&format!("POST /hook/{echo}"), &[JSON], b"{\"n\":1}")
        .await;
    assert_eq!((answer.status, &*answer.text), (200, "{\"n\":1}"));
    let fails = server
        .activate(
            WAITS,
            "nodes: [{id: a, componentId: transform, function: jsonata, fields: {expression: '$error(\"secret detail\")'}}]",
        )
        .await;
    let answer = server
        .send(&format!("POST /hook/{fails}"), &[JSON], b"{}")
        .await;
    assert_eq!(answer.status, 500);
    assert!(answer.json()["error"].is_string(), "{}", answer.text);
    assert!(answer.json()["executionId"].is_string(), "{}", answer.text);
    assert!(!answer.text.contains("secret detail"), "{}", answer.text);
    let ends = server
        .activate(
            &format!("{WAITS}\ntimeout: 200ms"),
            "nodes: [{id: a, componentId: wait, function: delay, fields: {duration: 1h}}]",
        )
        .await;
    let answer = server
        .send(&format!("POST /hook/{ends}"), &[JSON], b"{}")
        .await;
    assert_eq!(answer.status, 504, "{}", answer.text);
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_in_time_is_504_and_can_be_asked_for_again() {
    let server = Server::start().await;
    let flow = server
        .activate(
            "trigger: {webhook: {reply: wait, timeout: 100ms}}",
            "nodes: [{id: w, componentId: wait, function: delay, fields: {duration: 700ms}}, {id: r, componentId: respond, function: reply, fields: {status: 202}}], edges: [{source: w, target: r}]",
        )
        .await;
    let headers = [JSON, ("X-Request-Id", "slow")];
    let post = format!("POST /hook/{flow}");
    let begun = Instant::now();
    let late = server.send(&post, &headers, b"{\"n\":1}").await;
    assert_eq!(late.status, 504, "{}", late.text);
    assert_eq!(late.json()["requestId"], "slow");
    let execution = late.json()["executionId"].clone();
    assert!(execution.is_string(), "{}", late.text);
    assert!(begun.elapsed() < WAIT / 2, "the time-out is the flow's");
    let again = timeout(WAIT, async {
        loop {
            let again = server.send(&post, &headers, b"{\"n\":1}").await;
            if again.status != 504 {
                return again;
            }
            assert_eq!(again.json()["executionId"], execution);
        }
    })
    .await
    .expect("answered");
    assert_eq!((again.status, &*again.text), (202, "{\"n\":1}"));
    assert_eq!(again.header("x-tidemill-execution-id"), execution.as_str());
    server.running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_lets_its_callers_go() {
    let server = Server::start().await;
    let flow = server
        .activate(
            "trigger: {webhook: {reply: wait, timeout: 5m}}",
            "nodes: [{id: w, componentId: wait, function: delay, fields: {duration: 1h}}]",
        )
        .await;
    let address = server.running.http;
    let post = format!("POST /hook/{flow}");
    let held = tokio::spawn(async move { send(address, &post, &[JSON], b"{}").await });
    let is_held = async {
        while !server
            .metrics()
            .await
            .contains("tidemill_webhook_held_requests 1\n")
        {
            sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(WAIT, is_held).await.expect("is held");
    timeout(WAIT, server.running.drain())
        .await
        .expect("is not held up");
    let answer = held.await.expect("no panic");
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some(), "{}", answer.head);
    assert!(answer.json()["requestId"].is_string(), "{}", answer.text);
    assert!(answer.json()["executionId"].is_string(), "{}", answer.text);
}
