//! Members change while executions run, as an operator changes them: by the command line. Nothing is
//! lost, and no call needs more than the SDK's own retries.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tidemill_sdk::api::{ReadJournalRequest, journal_service_client::JournalServiceClient};
use tidemill_tests::{Cli, Cluster, Load, until};
use tonic::Code;

const STARTERS: usize = 4;

/// `cluster add` for a node of ours.
async fn add(cluster: &Cluster, id: u64) -> Result<()> {
    let node = cluster.node(id);
    let (id, peer) = (id.to_string(), node.peer.clone());
    let (grpc, http) = (node.grpc.clone(), node.http.clone());
    let args = [
        "cluster", "add", &id, "--peer", &peer, "--grpc", &grpc, "--http", &http,
    ];
    cluster.cli().run(&args).await?.success()?;
    Ok(())
}

async fn members(cli: &Cli) -> Result<Value> {
    Ok(cli.json(&["cluster", "status"]).await?["members"].clone())
}

/// The ids of all voters that are reached.
async fn voters(cli: &Cli) -> Result<Vec<u64>> {
    let members = members(cli).await?;
    let members = members.as_array().context("a list")?;
    Ok(members
        .iter()
        .filter(|member| member["voter"] == true && member["reachable"] == true)
        .filter_map(|member| member["id"].as_u64())
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_added_removed_and_replaced_under_load() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let cli = cluster.cli();
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;

    // A fourth node follows, votes, and leads.
    let fourth = cluster.launch_joining()?;
    let node = cluster.node(fourth);
    until("the new node says what it waits for", async || {
        node.log_text()
            .contains("run `tidemill cluster add 4")
            .then_some(())
    })
    .await?;
    let known = members(&cli).await?;
    ensure!(
        known.as_array().is_some_and(|all| all.len() == 3),
        "no member before it is added: {known}"
    );
    add(&cluster, fourth).await?;
    ensure!(voters(&cli).await? == [1, 2, 3, 4]);
    cluster.node_mut(fourth).await_ready().await?;
    cli.run(&["cluster", "transfer", "--to", "4"])
        .await?
        .success()?;
    for group in cluster.groups() {
        ensure!(cluster.leader_of(group).await? == fourth, "group {group}");
    }
    load.goes_on().await?;

    // What makes no sense is refused, and says why.
    for (args, text) in [
        (["cluster", "remove", "9"].as_slice(), "not a member"),
        (&["cluster", "transfer", "--to", "9"], "not a voter"),
        (
            &["cluster", "transfer", "--to", "1", "--partition", "9"],
            "partition",
        ),
    ] {
        let run = cli.run(args).await?;
        ensure!(run.code == 1 && run.stderr.contains(text), "{text}: {run}");
    }

    // A leader of everything is removed: it hands over first.
    cli.run(&["cluster", "remove", "4"]).await?.success()?;
    ensure!(voters(&cli).await? == [1, 2, 3]);
    load.goes_on().await?;
    cluster.node_mut(fourth).terminate().await?;

    // A machine is lost with its disk; its replacement has a new id and an empty directory.
    cluster.node_mut(2).kill()?;
    fs::remove_dir_all(&cluster.node(2).data_dir)?;
    load.goes_on().await?;
    let fifth = cluster.launch_joining()?;
    add(&cluster, fifth).await?;
    cli.run(&["cluster", "remove", "2"]).await?.success()?;
    cluster.node_mut(fifth).await_ready().await?;
    ensure!(voters(&cli).await? == [1, 3, 5]);
    load.goes_on().await?;
    ensure!(load.given_up().is_empty(), "{:?}", load.given_up());
    load.finish(&cluster).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_loses_nothing_and_hands_over_first() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    let cli = cluster.cli();
    for id in 1..=3 {
        load.goes_on().await?;
        // It leads all, so that it has something to hand over.
        let to = id.to_string();
        cli.run(&["cluster", "transfer", "--to", &to])
            .await?
            .success()?;
        // A stream that would never end by itself.
        let mut journal = JournalServiceClient::connect(cluster.node(id).endpoint()).await?;
        let request = ReadJournalRequest {
            partition: load.home(),
            follow: true,
            ..ReadJournalRequest::default()
        };
        let mut stream = journal.read_journal(request).await?.into_inner();
        let reader = tokio::spawn(async move {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        });

        let status = cluster.node_mut(id).terminate().await?;
        ensure!(status.code() == Some(0), "a drain ends with 0: {status}");
        // Not by a time-out: when its process has gone, the others know their leaders already.
        for other in cluster.running() {
            for group in cluster.status_of(other).await?.partitions {
                ensure!(
                    group.leader != 0 && group.leader != id,
                    "group {} is led by {} as node {other} sees it, just after node {id} has drained",
                    group.id,
                    group.leader
                );
            }
        }
        let end = reader.await?.context("the stream says why it ends")?;
        ensure!(
            end.code() == Code::Unavailable && end.message().contains("shutting down"),
            "{end:?}"
        );
        cluster.restart(id).await?;
    }
    load.goes_on().await?;
    ensure!(
        load.given_up().is_empty(),
        "the SDK's own retries are enough: {:?}",
        load.given_up()
    );
    load.finish(&cluster).await?;
    Ok(())
}

/// The first entry of each log names the members; two nodes must not write it differently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_bootstrap_with_the_same_members() -> Result<()> {
    let mut cluster = Cluster::builder(3).prepare()?;
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.http.clone()).collect();
    for node in &mut cluster.nodes {
        // Optional in the list: a node must not fill in its own, which the others do not know.
        let mut text = fs::read_to_string(&node.config)?;
        for http in &addresses {
            let entry = format!(", http = \"{http}\"");
            ensure!(text.contains(&entry), "{text}");
            text = text.replace(&entry, "");
        }
        fs::write(&node.config, text)?;
        node.launch()?;
    }
    for node in &mut cluster.nodes {
        node.await_ready().await?;
    }
    let mut seen = Vec::new();
    for id in 1..=3 {
        let members = cluster.status_of(id).await?.members;
        let known: Vec<_> = members
            .into_iter()
            .map(|m| (m.id, m.grpc, m.http))
            .collect();
        seen.push(known);
    }
    ensure!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    Ok(())
}

/// Committing such a change would need the dead node: the cluster would stand still until it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_the_majority_needs_is_not_removed() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    cluster.node_mut(3).kill()?;
    load.goes_on().await?;
    let cli = cluster.cli();
    let run = cli.run(&["cluster", "remove", "2"]).await?;
    ensure!(run.code == 1 && run.stderr.contains("no majority"), "{run}");
    let known = members(&cli).await?;
    ensure!(
        known.as_array().is_some_and(|all| all.len() == 3),
        "{known}"
    );
    load.goes_on().await?;
    // The dead one can go.
    cli.run(&["cluster", "remove", "3"]).await?.success()?;
    ensure!(voters(&cli).await? == [1, 2]);
    load.goes_on().await?;
    load.finish(&cluster).await?;
    Ok(())
}
