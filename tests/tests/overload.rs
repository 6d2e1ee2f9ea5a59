//! More starts than a node can take: what it sheds is answered as overloaded with a hint when to retry, nothing
//! acknowledged is lost, nothing shed has an effect, and memory stays bounded. Times are not judged here: `make
//! overload` reports them.
//!
//! The node's fsync is made slow (by the campaign's preloaded library), so that the load needs to be no more than any
//! machine can send. Without a C compiler the test fails and says so.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tidemill_checker::{Recorder, history::Event};
use tidemill_sdk::api::GetFlowRequest;
use tidemill_tests::{
    Cluster,
    campaign::{
        settle,
        tools::{Switches, Tools},
    },
    http,
    overload::{Callers, memory_mib},
    until,
};

/// With this a commit takes long enough for starts to queue up.
const SYNC_DELAY: Duration = Duration::from_millis(300);
/// The mailbox of a partition has 4,096 places.
const CALLERS: usize = 6_000;
const HOOKS: usize = 500;
/// The queue's bytes (64 MiB), the store's memory and caches (128 MiB and 64 MiB), connections, and what a debug
/// build needs beside.
const MEMORY_MIB_MAX: u64 = 1_024;
const FLOW: &str =
    "name: plain\ngraph: {nodes: [{id: a, componentId: log, function: write}], edges: []}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_shed_with_a_hint_and_nothing_acknowledged_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tools = Tools::build(folder.path())?;
    let switches = Switches::create(folder.path().join("switches"))?;
    let cluster = Cluster::builder(1)
        .variable("LD_PRELOAD", &tools.faults.display().to_string())
        .variable("TM_FAULTS", &switches.path().display().to_string())
        .start()
        .await?;
    let client = cluster.client_of(1).await?;
    client.apply(FLOW).await?;
    client.publish("plain").await?;
    client.start_flow_by_name("plain").await?;
    let request = GetFlowRequest {
        flow: "plain".into(),
    };
    let flow = client.get_flow(request).await?.flow.context("the flow")?.id;
    let node = cluster.node(1);

    let history = folder.path().join("history.jsonl");
    let recorder = Arc::new(Recorder::create(&history, &json!({}))?);
    let callers = Callers::new(&node.endpoint(), &flow, "c")?.recording(Arc::clone(&recorder));
    switches.sync_delay(SYNC_DELAY)?;
    let address = node.http.clone();
    let path = format!("POST /hook/{flow}");
    let hooks = tokio::spawn(async move {
        // Webhooks meet the same queue, once the starts have filled it.
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..HOOKS {
            let (address, path) = (address.clone(), path.clone());
            calls.spawn(async move {
                let headers = [("Content-Type", "application/json")];
                http::send(&address, &path, &headers, b"{}").await
            });
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        calls.join_all().await
    });
    let run = callers.closed_loop(CALLERS, Duration::from_secs(3)).await;
    let hooks = hooks.await?;
    let (_, memory) = memory_mib(node.pid().context("it runs")?)?;
    switches.sync_delay(Duration::ZERO)?;

    println!(
        "{} sent, {} acknowledged, {} shed; memory {memory} MiB at most",
        run.sent,
        run.ok_us.len(),
        run.shed_us.len()
    );
    ensure!(!run.ok_us.is_empty(), "nothing was acknowledged");
    ensure!(!run.shed_us.is_empty(), "nothing was shed: {:?}", run.other);
    ensure!(
        run.without_hint == 0,
        "{} were shed without a hint",
        run.without_hint
    );
    ensure!(run.other.is_empty(), "other answers: {:?}", run.other);
    ensure!(memory < MEMORY_MIB_MAX, "{memory} MiB");
    let mut shed = 0;
    let mut taken = Vec::new();
    for answer in hooks {
        let answer = answer?;
        match answer.status {
            200 => {
                let id = answer.json()["data"]["executionId"]
                    .as_str()
                    .map(str::to_owned);
                taken.push(id.context("an id")?);
            }
            429 => {
                let seconds = answer
                    .header("retry-after")
                    .and_then(|text| text.parse().ok());
                ensure!(
                    seconds.is_some_and(|seconds: u64| seconds > 0),
                    "{answer:?}"
                );
                shed += 1;
            }
            _ => ensure!(false, "{answer:?}"),
        }
    }
    println!("webhooks: {} taken, {shed} shed", taken.len());
    ensure!(shed > 0, "no webhook was shed");

    until("a start is taken at once again", async || {
        let one = callers.closed_loop(1, Duration::ZERO).await;
        (one.ok_us.len() == 1).then_some(())
    })
    .await?;
    let flows = [flow];
    settle::all_ended(&client, &flows).await?;
    settle::read_finals(&client, &flows, &recorder).await?;
    recorder.write(Event::Healed);
    recorder.flush()?;
    let journal = settle::export(&client, folder.path()).await?;
    let verdict = tidemill_checker::check([history, journal])?;
    // The webhooks' starts are not in the history; each of them is one execution more.
    let invented = verdict
        .violations
        .iter()
        .filter(|v| v.rule == tidemill_checker::Rule::Invented);
    ensure!(invented.count() == taken.len().min(20), "{verdict}");
    let broken: u64 = verdict.by_rule.values().sum();
    ensure!(broken == taken.len() as u64, "{verdict}");
    ensure!(
        verdict.counts.starts_ok as usize > run.ok_us.len(),
        "{verdict}"
    );
    Ok(())
}
