//! Damaged files of a stopped node. Damage of the log stops the node, with an error that names what is
//! damaged and what to do; a torn end that was never acknowledged is cut off; damage of one partition's
//! state stops that partition on that node and nothing else.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    ErrorKind,
    api::{GetFlowRequest, StartExecutionRequest},
};
use tidemill_tests::{Cluster, Load, damage, until};

const END_TIMEOUT: Duration = Duration::from_secs(30);
const STARTERS: usize = 2;

/// Starts node 1, which must end by itself with an error that says all of this.
async fn refused(cluster: &mut Cluster, says: &[&str]) -> Result<()> {
    let node = cluster.node_mut(1);
    let before = node.log_text().len();
    node.launch()?;
    let status = node.await_end(END_TIMEOUT).await?;
    let log = node.log_text().split_off(before);
    ensure!(status.code() == Some(1), "{status}:\n{log}");
    for text in says {
        ensure!(log.contains(text), "{text:?} is missing in:\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_log_is_refused_by_name_and_a_torn_end_is_cut_off() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;
    // No drain: the end of the log is as the last sync left it.
    cluster.node_mut(1).kill()?;
    let data = cluster.node(1).data_dir.clone();
    let log = data.join("log");
    let whole = data.with_file_name("whole");
    damage::copy_folder(&data, &whole)?;

    // In the middle of what was synced: never taken for the end.
    damage::flip_middle(&damage::files(&log, "", ".log")?[0])?;
    let name = log.display().to_string();
    refused(
        &mut cluster,
        &[&name, "damaged", "docs/operations.md", "new id"],
    )
    .await?;
    restore(&whole, &data)?;

    // Cut off: what was acknowledged is missing.
    let wal = &damage::files(&log, "", ".log")?[0];
    let length = fs::metadata(wal)?.len();
    fs::OpenOptions::new()
        .write(true)
        .open(wal)?
        .set_len(length / 2)?;
    refused(&mut cluster, &[&name, "damaged", "new id"]).await?;
    restore(&whole, &data)?;

    // The beginning of a record that was never synced, so never acknowledged.
    let wal = &damage::files(&log, "", ".log")?[0];
    let mut bytes = fs::read(wal)?;
    let torn = bytes[bytes.len() / 2..][..100].to_vec();
    bytes.extend(torn);
    fs::write(wal, bytes)?;
    cluster.restart(1).await?;
    load.goes_on().await?;

    // A table file of the log: a restart has written one.
    let status = cluster.node_mut(1).terminate().await?;
    ensure!(status.success(), "{status}");
    fs::remove_dir_all(&whole)?;
    damage::copy_folder(&data, &whole)?;
    let table = damage::files(&log, "", ".sst")?.remove(0);
    damage::flip_middle(&table)?;
    let table = table.file_name().context("a name")?.to_string_lossy();
    refused(&mut cluster, &[&name, &table, "damaged", "new id"]).await?;
    restore(&whole, &data)?;

    // The catalog's state: without it a node does not know its cluster.
    damage::flip_middle(&damage::files(&data.join("state/0/00000000"), "MANIFEST", "")?[0])?;
    refused(
        &mut cluster,
        &["catalog", "MANIFEST", "damaged", "docs/operations.md"],
    )
    .await?;
    restore(&whole, &data)?;

    cluster.restart(1).await?;
    load.goes_on().await?;
    load.finish(&cluster).await?;
    Ok(())
}

fn restore(whole: &Path, data: &Path) -> Result<()> {
    fs::remove_dir_all(data)?;
    damage::copy_folder(whole, data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_one_partition_stops_only_that() -> Result<()> {
    let mut cluster = Cluster::builder(1).partitions(2).start().await?;
    let load = Load::start(&cluster, STARTERS).await?;
    let hurt = if load.home() == 1 { 2 } else { 1 };
    let flow = flow_of(&cluster, hurt).await?;
    load.goes_on().await?;
    let status = cluster.node_mut(1).terminate().await?;
    ensure!(status.success(), "{status}");
    let state = cluster
        .node(1)
        .data_dir
        .join(format!("state/{hurt}/00000000"));
    let whole = cluster.node(1).data_dir.with_file_name("whole");
    damage::copy_folder(&state, &whole)?;
    for (begin, end) in [("MANIFEST", ""), ("", ".sst")] {
        for path in damage::files(&state, begin, end)? {
            damage::flip_all_over(&path)?;
        }
        cluster.node_mut(1).launch()?;
        let fault = until("the damage is found", async || {
            let status = cluster.status_of(1).await.ok()?;
            let group = status.partitions.into_iter().find(|g| g.id == hurt)?;
            Some(group.fault).filter(|fault| !fault.is_empty())
        })
        .await?;
        ensure!(
            fault.contains("damaged") && fault.contains(&state.display().to_string()),
            "{fault}"
        );
        // The other partition, and the catalog, go on.
        load.goes_on().await?;
        let request = StartExecutionRequest {
            flow: flow.clone(),
            ..StartExecutionRequest::default()
        };
        let refused = cluster
            .client_of(1)
            .await?
            .start_execution(request)
            .await
            .err()
            .context("the damaged partition takes nothing")?;
        ensure!(
            refused.kind == ErrorKind::Broken && refused.code == "TM0204",
            "{refused:?}"
        );
        let (code, body) = tidemill_tests::http::get(&cluster.node(1).http, "/ready").await?;
        ensure!(code == 503 && body.contains("has stopped"), "{code} {body}");
        let verify = cluster.cli().run(&["journal", "verify"]).await?;
        ensure!(
            verify.code == 1,
            "a journal that cannot be read does not verify: {verify}"
        );
        let status = cluster.node_mut(1).terminate().await?;
        ensure!(
            status.success(),
            "{status}:\n{}",
            cluster.node(1).log_tail()
        );
        restore(&whole, &state)?;
    }
    cluster.restart(1).await?;
    load.finish(&cluster).await?;
    Ok(())
}

/// A flow whose home is this partition, started.
async fn flow_of(cluster: &Cluster, partition: u32) -> Result<String> {
    let client = cluster.client().await?;
    for number in 0..64 {
        let name = format!("lonely-{number}");
        client
            .apply(&format!(
                "name: {name}\ngraph: {{nodes: [{{id: a, componentId: nobody, function: f}}], edges: []}}"
            ))
            .await?;
        let request = GetFlowRequest { flow: name.clone() };
        let flow = client.get_flow(request).await?.flow.context("a flow")?;
        if flow.partition == partition {
            client.publish(&name).await?;
            let cli = cluster.cli();
            cli.run(&["flow", "start", &name, "--without-workers"])
                .await?
                .success()?;
            return Ok(name);
        }
    }
    anyhow::bail!("no flow has its home in partition {partition}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_node_of_three_is_served_by_the_others_and_replaced() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;
    let hurt = load.home();
    let victim = cluster.leader_of(hurt).await?;
    let status = cluster.node_mut(victim).terminate().await?;
    ensure!(status.success(), "{status}");
    let state = cluster
        .node(victim)
        .data_dir
        .join(format!("state/{hurt}/00000000"));
    damage::flip_middle(&damage::files(&state, "MANIFEST", "")?[0])?;
    cluster.node_mut(victim).launch()?;
    until("the damaged node knows who leads elsewhere", async || {
        let status = cluster.status_of(victim).await.ok()?;
        let group = status.partitions.into_iter().find(|g| g.id == hurt)?;
        (!group.fault.is_empty() && group.leader != 0 && group.leader != victim).then_some(())
    })
    .await?;

    // Who asks the damaged node gets an answer all the same, and nobody can make it lead.
    let client = cluster.client_of(victim).await?;
    let request = StartExecutionRequest {
        flow: "chain".into(),
        ..StartExecutionRequest::default()
    };
    let started = client.start_execution(request).await?.execution_id;
    client.wait(&started, END_TIMEOUT).await?;
    let cli = cluster.cli();
    let (to, partition) = (victim.to_string(), hurt.to_string());
    let transfer = [
        "cluster",
        "transfer",
        "--to",
        &to,
        "--partition",
        &partition,
    ];
    let run = cli.run(&transfer).await?;
    ensure!(run.code == 1, "a damaged node must not lead: {run}");
    load.goes_on().await?;

    // As docs/operations.md says: add the new node, remove the old one.
    let new = cluster.launch_joining()?;
    let node = cluster.node(new);
    let (id, grpc, peer, http) = (
        new.to_string(),
        node.grpc.clone(),
        node.peer.clone(),
        node.http.clone(),
    );
    let add = [
        "cluster", "add", &id, "--peer", &peer, "--grpc", &grpc, "--http", &http,
    ];
    cli.run(&add).await?.success()?;
    cli.run(&["cluster", "remove", &to]).await?.success()?;
    cluster.node_mut(victim).terminate().await?;
    cluster.node_mut(new).await_ready().await?;
    load.goes_on().await?;
    ensure!(load.given_up().is_empty(), "{:?}", load.given_up());
    load.finish(&cluster).await?;
    Ok(())
}
