//! Webhooks at real clusters: a request id is one execution whichever node is asked, and what was
//! answered 200 is there whatever happens to the leader.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use tidemill_sdk::{
    Client,
    api::{ExecutionState, ListExecutionsRequest},
};
use tidemill_tests::{
    Cluster,
    http::{Answer, send},
    until,
};

const WAIT: Duration = Duration::from_secs(30);
const CALLERS: usize = 50;
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Makes a flow run; gives its home partition.
async fn activate(client: &Client, name: &str, trigger: &str) -> Result<u32> {
    let document = format!(
        "name: {name}\n{trigger}\ngraph: {{nodes: [{{id: a, componentId: log, function: write}}]}}"
    );
    client.apply(&document).await?;
    client.publish(name).await?;
    let started = client.start_flow_by_name(name).await?;
    Ok(started.flow.context("a flow")?.partition)
}

fn execution(answer: &Answer) -> Result<String> {
    ensure!(answer.status == 200, "{answer:?}");
    let id = answer.json()["data"]["executionId"]
        .as_str()
        .map(str::to_owned);
    id.context("no execution id")
}

/// All executions of the flow.
async fn executions(client: &Client) -> Result<Vec<String>> {
    let request = ListExecutionsRequest {
        flow: "orders".into(),
        ..ListExecutionsRequest::default()
    };
    let listed = client.list_executions(request).await?.executions;
    Ok(listed.into_iter().map(|execution| execution.id).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_callers_at_three_nodes_with_one_request_id_start_one_execution() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    activate(&client, "orders", "").await?;
    let nodes: Vec<&str> = cluster.nodes.iter().map(|node| &*node.http).collect();
    let calls = (0..CALLERS).map(|caller| {
        let node = nodes[caller % nodes.len()];
        async move {
            // Who repeats a request sends other headers with it.
            let attempt = caller.to_string();
            let headers = [JSON, ("X-Request-Id", "order-7"), ("X-Attempt", &attempt)];
            send(node, "POST /hook/orders", &headers, b"{\"n\": 1}").await
        }
    });
    let answers: Vec<Answer> = join_all(calls).await.into_iter().collect::<Result<_>>()?;
    let bodies: BTreeSet<&[u8]> = answers.iter().map(|answer| &*answer.body).collect();
    ensure!(bodies.len() == 1, "different answers: {answers:?}");
    let id = execution(&answers[0])?;
    ensure!(executions(&client).await? == [id]);
    cluster.verified_journal().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_is_there_when_its_leader_is_killed_right_after_200() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let partition = activate(&client, "orders", "").await?;
    for round in 0..3 {
        let leader = cluster.leader_of(partition).await?;
        // The leader itself answers, so that nothing else knows of it.
        let request_id = format!("round-{round}");
        let headers = [JSON, ("X-Request-Id", &*request_id)];
        let file = vec![round; 100_000];
        let answer = send(
            &cluster.node(leader).http,
            "POST /hook/orders",
            &[("Content-Type", "image/png"), headers[1]],
            &file,
        )
        .await?;
        cluster.node_mut(leader).kill()?;
        let id = execution(&answer)?;
        let ended = client.wait(&id, WAIT).await?;
        let state = ended.execution.context("an execution")?.state();
        ensure!(state == ExecutionState::Succeeded, "{state:?}");
        let output = ended.output.first().context("an output")?;
        ensure!(output.attachments["payload"] == file, "not byte for byte");
        // The other nodes give the same answer to the same request.
        for id in cluster.running() {
            let node = cluster.node(id).http.clone();
            let again = until("an answer after the kill", async || {
                let again = send(&node, "POST /hook/orders", &headers, b"{}")
                    .await
                    .ok()?;
                (again.status != 503).then_some(again)
            })
            .await?;
            ensure!(again.body == answer.body, "{again:?} is not {answer:?}");
        }
        cluster.restart(leader).await?;
    }
    cluster.verified_journal().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_it_is_503_with_retry_after_and_nothing_is_started_twice() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    activate(&client, "orders", "").await?;
    for id in [2, 3] {
        cluster.node_mut(id).kill()?;
    }
    let node = cluster.node(1).http.clone();
    let headers = [JSON, ("X-Request-Id", "lonely")];
    let answer = send(&node, "POST /hook/orders", &headers, b"{}").await?;
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(answer.header("retry-after").is_some(), "{answer:?}");
    for id in [2, 3] {
        cluster.restart(id).await?;
    }
    let again = until("an answer with a majority", async || {
        let again = send(&node, "POST /hook/orders", &headers, b"{}")
            .await
            .ok()?;
        (again.status != 503).then_some(again)
    })
    .await?;
    let id = execution(&again)?;
    ensure!(executions(&client).await? == [id]);
    Ok(())
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_checks_requests_and_is_stored_and_logged_nowhere() -> Result<()> {
    const SECRET: &str = "b7c1e0d5-this-is-the-secret";
    const FOUND: &str = "not-the-secret-but-stored";
    const RIGHT: &str = "gQnYcyCXA5uv9IskykDjXweI07puPI5zwTNKjhqfCgA=";
    let cluster = Cluster::builder(1)
        .settings(&format!("[webhook.secrets]\norders = \"{SECRET}\""))
        .start()
        .await?;
    let client = cluster.client().await?;
    let trigger = "trigger: {webhook: {signature: {scheme: oih, secret: orders}}}";
    activate(&client, "orders", trigger).await?;
    let node = &cluster.nodes[0];
    // `RIGHT` is its HMAC-SHA256, as `openssl dgst -hmac` gives it.
    let body = format!("\"{FOUND}\"");
    let right = [JSON, ("x-hmac", RIGHT)];
    let answer = send(&node.http, "POST /hook/orders", &right, body.as_bytes()).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let answer = send(&node.http, "POST /hook/orders", &[JSON], body.as_bytes()).await?;
    ensure!(answer.status == 403, "{answer:?}");
    let mut paths = files(&node.data_dir)?;
    paths.push(node.log.clone());
    let mut looked_for = false;
    for path in paths {
        let bytes = std::fs::read(&path)?;
        let has = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        ensure!(!has(SECRET), "the secret is in {}", path.display());
        looked_for |= has(FOUND);
    }
    ensure!(looked_for, "what is stored was not found either");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_waits_gets_its_answer_although_the_leader_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let client = cluster.client().await?;
    let document = "name: orders\ntrigger: {webhook: {reply: wait, timeout: 1m}}\n\
        graph: {nodes: [{id: w, componentId: wait, function: delay, fields: {duration: 4s}}, \
        {id: r, componentId: respond, function: reply, fields: {status: 201}}], \
        edges: [{source: w, target: r}]}";
    client.apply(document).await?;
    client.publish("orders").await?;
    let started = client.start_flow_by_name("orders").await?;
    let leader = cluster
        .leader_of(started.flow.context("a flow")?.partition)
        .await?;
    let other = cluster.nodes.iter().find(|node| node.id != leader);
    let other = other.context("three nodes")?.http.clone();
    let headers = [JSON, ("X-Request-Id", "held")];
    let caller = other.clone();
    let held =
        tokio::spawn(
            async move { send(&caller, "POST /hook/orders", &headers, b"{\"n\":7}").await },
        );
    until("the execution is there", async || {
        let started = executions(&client).await.ok()?;
        (started.len() == 1).then_some(())
    })
    .await?;
    ensure!(!held.is_finished(), "answered before the flow has");
    cluster.node_mut(leader).kill()?;
    let answer = held.await??;
    ensure!(
        (answer.status, &*answer.body) == (201, b"{\"n\":7}"),
        "{answer:?}"
    );
    let again = send(&other, "POST /hook/orders", &headers, b"{}").await?;
    ensure!(
        (again.status, &again.body) == (201, &answer.body),
        "{again:?}"
    );
    ensure!(executions(&client).await?.len() == 1);
    cluster.restart(leader).await?;
    cluster.verified_journal().await?;
    Ok(())
}
