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
    overload::{Callers, MEMORY_MIB_MAX, memory_mib},
    until,
};

/// With this a commit takes long enough for starts to queue up.
const SYNC_DELAY: Duration = Duration::from_millis(300);
/// Starts by calls, of which a node lets 2,048 in; most of them are sent away at the door.
const CALLERS: usize = 3_000;
/// Starts by streams, which meet the partition's queue: a flow has at most 1,536 places of it.
const STREAMING: usize = 4_000;
const HOOKS: usize = 500;
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
    let endpoint = node.endpoint();
    let callers = Callers::new(&endpoint, &flow, "c")?.recording(Arc::clone(&recorder));
    let streaming = Callers::new(&endpoint, &flow, "s")?.recording(Arc::clone(&recorder));
    let streaming = streaming.streaming();
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
    let length = Duration::from_secs(3);
    let (calls, streams) = tokio::join!(
        callers.closed_loop(CALLERS, length),
        streaming.closed_loop(STREAMING, length)
    );
    let hooks = hooks.await?;
    let (_, memory) = memory_mib(node.pid().context("it runs")?)?;
    switches.sync_delay(Duration::ZERO)?;

    let acknowledged = calls.ok_us.len() + streams.ok_us.len();
    for (what, run) in [("calls", calls), ("streams", streams)] {
        println!(
            "{what}: {} sent, {} acknowledged, {} shed",
            run.sent,
            run.ok_us.len(),
            run.shed_us.len(),
        );
        ensure!(!run.ok_us.is_empty(), "{what}: nothing was acknowledged");
        ensure!(
            !run.shed_us.is_empty(),
            "{what}: nothing was shed: {:?}",
            run.other
        );
        ensure!(
            run.without_hint == 0,
            "{what}: {} were shed without a hint",
            run.without_hint
        );
        ensure!(
            run.other.is_empty(),
            "{what}: other answers: {:?}",
            run.other
        );
    }
    let metrics = http::metrics(&node.http).await?;
    for reason in ["door", "queue"] {
        let name = format!("tidemill_actor_commands_shed_total{{reason=\"{reason}\"}}");
        let shed = metrics.get(&name).copied().unwrap_or_default();
        ensure!(shed > 0.0, "nothing was shed for {reason}: {metrics:?}");
    }
    println!("memory: {memory} MiB at most");
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
        verdict.counts.starts_ok as usize > acknowledged,
        "{verdict}"
    );
    Ok(())
}
