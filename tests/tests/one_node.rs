//! One node, used as a person uses it: by the command line.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::Duration;
use tidemill_tests::{Cluster, within};

/// The flows of the Open Integration Hub, and what becomes of an execution of each.
const SAMPLES: &[(&str, &str)] = &[
    ("Message Format test", "CODE_NOT_SUPPORTED"),
    ("Webhook1", ""),
    ("Concurrent Webhook", ""),
    ("logic-gateway-flow", ""),
    ("logic-gateway-flow-lg-image", ""),
    ("Webhook2", ""),
    ("Webhook3", ""),
    ("rebound-local", "REBOUND_LIMIT"),
    ("rebound-global", "REBOUND_LIMIT"),
    ("Webhook1 (2)", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_run_and_the_journal_verifies() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let cli = cluster.cli();
    let _worker = cli
        .command(&["worker", "example", "--concurrency", "16"])
        .spawn()?;
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/data/oih-flows");
    let mut args: Vec<String> = vec!["flow".into(), "apply".into()];
    let mut files: Vec<String> = std::fs::read_dir(data)?
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .filter(|path| path.ends_with(".json") && !path.ends_with("components.json"))
        .collect();
    files.sort();
    args.extend(files);
    args.extend([
        "--publish".into(),
        "--start".into(),
        "--timeout".into(),
        "60s".into(),
    ]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let applied = cli.json(&args).await?;
    let names: Vec<&str> = applied
        .as_array()
        .context("a list")?
        .iter()
        .filter_map(|flow| flow["name"].as_str())
        .collect();
    ensure!(names.len() == SAMPLES.len(), "{names:?}");

    for (flow, error) in SAMPLES {
        let run = cli
            .run(&["execution", "start", flow, "--wait", "--output", "json"])
            .await?;
        if error.is_empty() {
            let document = run.success()?.document()?;
            ensure!(document["state"] == "succeeded", "{flow}: {document}");
            continue;
        }
        ensure!(run.code == 1, "{flow}: {run}");
        let id = run.document()?["id"].as_str().context("an id")?.to_owned();
        let steps = cli.json(&["execution", "steps", &id]).await?.to_string();
        ensure!(steps.contains(error), "{flow}: {steps}");
        let redriven = cli.json(&["execution", "redrive", &id]).await?;
        ensure!(redriven["redriven"] == 1, "{redriven}");
    }

    // A crash leaves everything that was acknowledged.
    let before = cli.json(&["execution", "list", "Webhook1"]).await?;
    cluster.node_mut(1).kill()?;
    cluster.restart(1).await?;
    let after = within(
        Duration::from_secs(20),
        "the list after the crash",
        async || cli.json(&["execution", "list", "Webhook1"]).await.ok(),
    )
    .await?;
    let ids = |list: &serde_json::Value| {
        list.as_array()
            .map(|all| all.iter().map(|e| e["id"].clone()).collect::<Vec<_>>())
    };
    ensure!(ids(&before).is_some_and(|before| {
        ids(&after).is_some_and(|after| before.iter().all(|id| after.contains(id)))
    }));
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    cli.run(&["journal", "export", "--out", &path])
        .await?
        .success()?;
    cli.run(&["journal", "verify", &path]).await?.success()?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(
        &path,
        text.replacen("execution.started", "execution.startled", 1),
    )?;
    ensure!(
        cli.run(&["journal", "verify", &path]).await?.code == 1,
        "a changed record is found"
    );
    cli.run(&["journal", "verify"]).await?.success()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_named_and_leave_nothing() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let cli = cluster.cli();
    let bad = "name: x\ngraph:\n  nodes: [{id: a, componentId: w, functoin: f}]\n  edges: [{source: a, target: zz}]\n";
    let refused = cli
        .run_with_input(&["flow", "apply", "-", "--output", "json"], bad)
        .await?;
    ensure!(refused.code == 1, "{refused}");
    let problems = refused.error()?["problems"].to_string();
    for pointer in [
        "/graph/nodes/0/functoin",
        "/graph/nodes/0/function",
        "/graph/edges/0/target",
    ] {
        ensure!(
            problems.contains(pointer),
            "{pointer} is missing in {problems}"
        );
    }
    ensure!(
        cli.json(&["flow", "list"]).await? == json!([]),
        "nothing was stored"
    );

    let good =
        "name: lonely\ngraph: {nodes: [{id: a, componentId: nobody, function: f}], edges: []}";
    cli.run_with_input(&["flow", "apply", "-"], good)
        .await?
        .success()?;
    for (args, code, text) in [
        (vec!["flow", "start", "lonely"], 1, "no published version"),
        (vec!["flow", "publish", "lonely"], 0, ""),
        (vec!["flow", "start", "lonely"], 1, "nobody/f"),
        (vec!["execution", "start", "lonely"], 1, "not active"),
        (vec!["flow", "start", "lonely", "--without-workers"], 0, ""),
        (vec!["flow", "delete", "lonely"], 1, "stop it first"),
        (vec!["execution", "get", "exe_nonsense"], 1, "execution_id"),
        (
            vec!["execution", "get", "exe_00000000000000g00000000000"],
            1,
            "no execution",
        ),
        (vec!["flow", "get", "nowhere"], 1, "flow list"),
        (vec!["flow", "start"], 2, "Usage"),
        (
            vec![
                "--endpoint",
                "http://127.0.0.1:1",
                "--timeout",
                "1s",
                "flow",
                "list",
            ],
            3,
            "cannot connect",
        ),
    ] {
        let run = cli.run(&args).await?;
        ensure!(
            run.code == code && run.stderr.contains(text),
            "expected {code} and {text:?}: {run}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_another_cluster_or_version_is_refused() -> Result<()> {
    let mut cluster = Cluster::builder(1).name("first").start().await?;
    let status = cluster.node_mut(1).terminate().await?;
    ensure!(status.success(), "a drain ends with 0: {status}");
    let config = cluster.node(1).config.clone();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("\"first\"", "\"second\""))?;
    cluster.node_mut(1).launch()?;
    let status = cluster
        .node_mut(1)
        .await_end(Duration::from_secs(30))
        .await?;
    ensure!(!status.success(), "it must not start");
    let log = cluster.node(1).log_text();
    ensure!(log.contains("first") && log.contains("second"), "{log}");

    // A newer version wrote it: nothing of it is touched, and the older one works on afterwards.
    std::fs::write(&config, text)?;
    let identity = cluster.node(1).data_dir.join("IDENTITY");
    let ours = std::fs::read_to_string(&identity)?;
    let newer = ours.replace("\"format\": 1", "\"format\": 99");
    ensure!(newer != ours, "{ours}");
    std::fs::write(&identity, &newer)?;
    cluster.node_mut(1).launch()?;
    let status = cluster
        .node_mut(1)
        .await_end(Duration::from_secs(30))
        .await?;
    let log = cluster.node(1).log_text();
    ensure!(
        status.code() == Some(1) && log.contains("has format 99, this version knows formats up to"),
        "{status}: {log}"
    );
    ensure!(std::fs::read_to_string(&identity)? == newer);
    std::fs::write(&identity, &ours)?;
    cluster.restart(1).await?;
    Ok(())
}
