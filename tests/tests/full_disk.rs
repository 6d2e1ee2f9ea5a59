//! A disk that another program fills to the last byte. New work is refused as unavailable, with the
//! reason; reads go on; nothing that was acknowledged is lost; and when space returns, work goes on in
//! the same process. Of three nodes the one with the full disk hands over, and the cluster goes on.

use std::{sync::Mutex, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{
    ErrorKind,
    api::{GetStatusRequest, StartExecutionRequest},
};
use tidemill_tests::{Cluster, Load, Tmpfs, until};

/// RocksDB preallocates its WAL, and the log holds a few of them.
const DISK_BYTES: u64 = 160 << 20;
const SETTINGS: &str = "[storage]\nreserve = \"32MiB\"\n";
const STARTERS: usize = 4;
const END_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounted_full_disk_refuses_writes_and_recovers_by_itself() -> Result<()> {
    let disk = Tmpfs::mount(DISK_BYTES)?;
    let mut cluster = Cluster::builder(1)
        .settings(SETTINGS)
        .data_root(1, disk.path())
        .start()
        .await?;
    let pid = cluster.node(1).pid();
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;
    disk.fill()?;
    let client = cluster.client_of(1).await?;
    until("the node says that its disk is full", async || {
        let status = client.get_status(GetStatusRequest {}).await.ok()?;
        status.disk_low.then_some(())
    })
    .await?;

    // Each way of asking is told what is wrong, and that nothing has happened. The actors look at the
    // disk twice a second: what they take before that is as good as any other.
    let hasty = tidemill_sdk::Client::builder([cluster.node(1).endpoint()])
        .retry(false)
        .connect()
        .await?;
    let taken = Mutex::new(Vec::new());
    let refused = until("a start is refused", async || {
        let request = StartExecutionRequest {
            flow: "chain".into(),
            ..StartExecutionRequest::default()
        };
        match hasty.start_execution(request).await {
            Ok(started) => {
                taken.lock().ok()?.push(started.execution_id);
                None
            }
            Err(refused) => Some(refused),
        }
    })
    .await?;
    ensure!(
        refused.kind == ErrorKind::Unavailable && refused.code == "TM0201",
        "{refused:?}"
    );
    ensure!(
        refused.message.contains("the disk is nearly full"),
        "{refused}"
    );
    let cli = cluster.cli();
    for args in [
        ["execution", "start", "chain", "--timeout", "1s"].as_slice(),
        &["flow", "publish", "chain", "--timeout", "1s"],
    ] {
        let run = cli.run(args).await?;
        ensure!(
            run.code == 1 && run.stderr.contains("the disk is nearly full"),
            "{run}"
        );
    }
    // Reads go on, those too that must see everything that was acknowledged.
    let execution = load.any().context("one was started")?;
    for args in [
        ["execution", "get", &execution].as_slice(),
        &["execution", "list", "chain"],
        &["flow", "get", "chain"],
        &["journal", "verify"],
    ] {
        cli.run(args).await?.success()?;
    }
    let status = cli.run(&["cluster", "status"]).await?.success()?;
    ensure!(status.stdout.contains("disk is nearly full"), "{status}");

    let before = load.acknowledged();
    disk.free()?;
    load.goes_on().await?;
    ensure!(load.acknowledged() > before);
    let node = cluster.node_mut(1);
    ensure!(
        node.ended()?.is_none() && node.pid() == pid,
        "the same process goes on:\n{}",
        node.log_tail()
    );
    for execution in taken.into_inner().unwrap_or_default() {
        client.wait(&execution, END_TIMEOUT).await?;
    }
    load.finish(&cluster).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounted_leader_with_a_full_disk_hands_over_and_the_cluster_goes_on() -> Result<()> {
    let disks = [
        Tmpfs::mount(DISK_BYTES)?,
        Tmpfs::mount(DISK_BYTES)?,
        Tmpfs::mount(DISK_BYTES)?,
    ];
    let mut builder = Cluster::builder(3).settings(SETTINGS);
    for (id, disk) in (1..).zip(&disks) {
        builder = builder.data_root(id, disk.path());
    }
    let mut cluster = builder.start().await?;
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;
    let full = cluster.leader_of(load.home()).await?;
    let disk = &disks[usize::try_from(full)? - 1];
    disk.fill()?;
    until("another node leads every group", async || {
        let others = cluster.running().into_iter().filter(|id| *id != full);
        for id in others {
            let status = cluster.status_of(id).await.ok()?;
            if status
                .partitions
                .iter()
                .any(|group| group.leader == full || group.leader == 0)
            {
                return None;
            }
        }
        Some(())
    })
    .await?;
    load.goes_on().await?;
    ensure!(
        load.given_up().is_empty(),
        "the SDK's own retries are enough: {:?}",
        load.given_up()
    );
    ensure!(
        cluster.node_mut(full).ended()?.is_none(),
        "the full node lives:\n{}",
        cluster.node(full).log_tail()
    );
    ensure!(cluster.status_of(full).await?.disk_low);
    disk.free()?;
    // It catches up: the journals are compared on all three.
    load.finish(&cluster).await?;
    Ok(())
}
