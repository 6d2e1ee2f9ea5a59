//! Each scenario once, tiny, with real servers: the figures are there, and the account adds up.
//!
//! The server's binary is the one beside the tests (`cargo build -p tidemill`), or TIDEMILL_BIN.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Map, Value};

type Figures = Map<String, Value>;

/// What every load must give.
const KEYS: &[&str] = &[
    "scenario",
    "nodes",
    "clients",
    "executions",
    "errors",
    "rate_per_s",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "server_cpu_us_per_execution",
    "server_cpu_us_per_step",
    "commits_per_s",
    "fsyncs_per_s",
    "bytes_written_per_execution",
    "rss_bytes",
    "method",
];
const METHOD_KEYS: &[&str] = &[
    "version",
    "date",
    "machine",
    "cores",
    "durability",
    "commit",
];

fn loadtest(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill-loadtest"))
        .args(line.split_whitespace())
        .output()
        .expect("the program starts")
}

fn results(line: &str) -> Vec<Figures> {
    let output = loadtest(&format!("{line} --output json"));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {errors}");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("an object per line"))
        .collect()
}

fn result(line: &str) -> Figures {
    let mut results = results(line);
    assert_eq!(results.len(), 1, "{line}");
    results.remove(0)
}

fn assert_keys(figures: &Figures) {
    for key in KEYS {
        assert!(figures.contains_key(*key), "{key} is missing: {figures:?}");
    }
    for key in METHOD_KEYS {
        assert!(
            !figures["method"][key].is_null() || *key == "commit",
            "{key}"
        );
    }
    assert_eq!(figures["errors"], 0);
    assert!(number(figures, "executions") > 0.0);
    assert!(number(figures, "p50_ms") <= number(figures, "p99_ms"));
    assert!(number(figures, "p99_ms") <= number(figures, "max_ms"));
}

/// As many requests as were due within the window, which may last a little longer than asked.
fn assert_rate_held(figures: &Figures) {
    let due = number(figures, "offered_rate_per_s") * number(figures, "seconds");
    let off = number(figures, "executions") - due;
    assert!(off.abs() <= 1.5, "{off} off: {figures:?}");
}

fn number(figures: &Figures, key: &str) -> f64 {
    let number = figures.get(key).and_then(Value::as_f64);
    number.unwrap_or_else(|| panic!("{key} is no number: {figures:?}"))
}

#[test]
fn steps_in_a_closed_loop() {
    let figures = result("run steps1 --nodes 1 --clients 4 --duration 1s --warm-up 200ms");
    assert_keys(&figures);
    assert_eq!(figures["shape"], "closed");
    // A worker step takes two batches, each of them one sync on one node.
    assert!(number(&figures, "commits_per_s") > 0.0);
    assert!(number(&figures, "server_cpu_us_per_execution") > 0.0);
    let figures = result("run steps9 --nodes 1 --clients 4 --duration 1s --warm-up 200ms");
    let ratio = number(&figures, "server_cpu_us_per_execution")
        / number(&figures, "server_cpu_us_per_step");
    assert!((ratio - 9.0).abs() < 0.1, "{ratio}");
}

#[test]
fn steps_on_three_nodes_at_a_rate() {
    let figures =
        result("run steps3 --nodes 3 --clients 4 --rate 50 --duration 1s --warm-up 200ms");
    assert_keys(&figures);
    assert_eq!(
        (&figures["nodes"], &figures["shape"]),
        (&3.into(), &"open".into())
    );
    assert_eq!(number(&figures, "offered_rate_per_s"), 50.0);
    assert_rate_held(&figures);
}

#[test]
fn accept_and_drain() {
    let figures = result("run steps1 --mode accept --clients 4 --duration 1s --warm-up 200ms");
    assert_keys(&figures);
    assert_eq!(figures["mode"], "accept");
    assert!(number(&figures, "accepted") >= number(&figures, "executions"));
    assert!(number(&figures, "completed_per_s") > 0.0);
    assert!(number(&figures, "drain_ms") > 0.0);
}

#[test]
fn the_highest_rate_that_holds() {
    let line = "run start --clients 4 --search-p99 2000 --duration 300ms --warm-up 100ms --max-in-flight 2000";
    let figures = result(line);
    assert_keys(&figures);
    assert!(number(&figures, "offered_rate_per_s") > 0.0);
    assert!(number(&figures, "p99_ms") <= 2_000.0);
}

#[test]
fn fan_out_and_join() {
    let figures = result("run fanout --fan 5 --clients 2 --duration 1s --warm-up 200ms");
    assert_keys(&figures);
    assert_eq!(figures["fan"], 5);
}

#[test]
fn webhooks() {
    assert_keys(&result(
        "run webhook --clients 4 --duration 1s --warm-up 200ms",
    ));
    let figures = result("run webhook --clients 4 --rate 100 --duration 1s --warm-up 200ms");
    assert_keys(&figures);
    assert_rate_held(&figures);
}

#[test]
fn waiting_and_finished() {
    let figures = result("run waiting --count 300 --clients 8");
    assert_eq!(figures["executions"], 300);
    for key in [
        "memory_bytes_per_waiting",
        "disk_bytes_per_waiting",
        "disk_bytes_per_finished",
        "restart_after_kill_ms",
        "rss_bytes",
    ] {
        number(&figures, key);
    }
}

#[test]
fn timers_that_fire_and_that_sleep() {
    let figures = result("run timers --count 200 --within 500ms --clients 8");
    assert_keys(&figures);
    assert_eq!(figures["executions"], 200);
    assert!(number(&figures, "late_p99_ms") >= number(&figures, "decided_late_p99_ms"));
    let figures = result("run timers --sleep 1h --count 100 --clients 8");
    assert_eq!(figures["executions"], 100);
    number(&figures, "memory_bytes_per_waiting");
}

#[test]
fn a_killed_leader() {
    let figures = result("run recovery --nodes 3 --clients 4 --duration 3s --warm-up 500ms");
    assert_keys(&figures);
    assert_eq!(figures["lost"], 0);
    let (gap, first) = (number(&figures, "gap_ms"), number(&figures, "first_ack_ms"));
    assert!(gap > 0.0 && first > 0.0 && first <= 3_000.0, "{figures:?}");
    assert!(number(&figures, "accounted") >= number(&figures, "executions"));
}

#[test]
fn a_growing_history() {
    let figures = result("run history --count 200 --clients 4 --warm-up 100ms");
    assert_keys(&figures);
    let slices = figures["slices"].as_array().expect("rows");
    assert_eq!(slices.len(), 10);
    let finished = |at: usize| slices[at]["finished"].as_u64().expect("a number");
    assert!((1..10).all(|at| finished(at) > finished(at - 1)));
    assert!(number(&figures, "rate_kept") > 0.0);
}

#[test]
fn an_hour_in_two_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let figures = result(&format!(
        "run endurance --rate 50 --duration 2s --every 500ms --warm-up 100ms --plot {}",
        folder.path().display()
    ));
    assert_keys(&figures);
    assert_rate_held(&figures);
    let rows = figures["course"].as_array().expect("rows");
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["rss_bytes"].as_f64() > Some(0.0)));
    let plots = std::fs::read_dir(folder.path())
        .expect("the folder")
        .count();
    assert_eq!(plots, 2);
}

#[test]
fn payloads_of_several_sizes() {
    let results =
        results("run payload --bytes 256,65536 --clients 2 --duration 500ms --warm-up 100ms");
    let sizes: Vec<_> = results
        .iter()
        .map(|r| r["payload_bytes"].as_u64())
        .collect();
    assert_eq!(sizes, [Some(256), Some(65_536)]);
    results.iter().for_each(assert_keys);
    let written = |at: usize| number(&results[at], "bytes_written_per_execution");
    assert!(written(1) > written(0));
}

#[test]
fn running_servers_are_taken_as_they_are() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime
        .block_on(tidemill_tests::Cluster::start(3))
        .expect("servers");
    let figures = result(&format!(
        "run steps1 --endpoint {} --clients 4 --duration 1s --warm-up 200ms",
        cluster.endpoints()[1]
    ));
    assert_keys(&figures);
    assert_eq!(figures["nodes"], 3);
    assert!(number(&figures, "server_cpu_us_per_execution") > 0.0);
    // A second run begins where the first one ended.
    result(&format!(
        "run start --endpoint {} --clients 4 --duration 500ms --warm-up 0s",
        cluster.endpoints()[0]
    ));
}

/// What nobody asked for must not pass: here another client starts the flow of the run.
#[test]
fn an_execution_that_no_client_knows_fails_the_run() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime
        .block_on(tidemill_tests::Cluster::start(1))
        .expect("servers");
    let line = format!(
        "run start --endpoint {} --clients 2 --duration 2s --quiet",
        cluster.endpoints()[0]
    );
    let running = std::thread::spawn(move || loadtest(&line));
    let intruded = runtime.block_on(async {
        let client = cluster.client().await?;
        tidemill_tests::until("the run's flow takes starts", async || {
            let flows = client.list_flows(Default::default()).await.ok()?.flows;
            let flow = flows.iter().find(|flow| flow.name.starts_with("load-"))?;
            client
                .start(&flow.name, &serde_json::json!({"intruder": true}))
                .await
                .ok()
        })
        .await
    });
    intruded.expect("it starts");
    let output = running.join().expect("no panic");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no client knows of it"), "{errors}");
    assert!(output.stdout.is_empty(), "figures of a run that failed");
}

#[test]
fn the_table_in_small() {
    let folder = tempfile::tempdir().expect("a folder");
    let keep = folder.path().join("kept.json");
    let line = format!(
        "bench --tiny --only steps1,history --keep {}",
        keep.display()
    );
    let results = results(&line);
    // Ten of steps1, of them two in accept mode and two with shared connections, one of history.
    assert_eq!(results.len(), 11);
    let kept = std::fs::read_to_string(&keep).expect("kept");
    assert_eq!(kept.lines().count(), results.len());
    results.iter().for_each(assert_keys);
}

#[test]
fn medians_of_repeated_runs() {
    let figures = result("run start --clients 2 --duration 300ms --warm-up 100ms --repeat 3");
    assert_keys(&figures);
    assert_eq!(figures["runs"], 3);
    assert_eq!(figures["rates_per_s"].as_array().map(Vec::len), Some(3));
}

#[test]
fn schedules_that_fire() {
    let figures = result("run schedules --count 40 --burst 20 --clients 4");
    assert_eq!(figures["burst"], 20);
    assert!(number(&figures, "late_p99_ms") > 0.0);
}

#[test]
fn a_file_of_results_is_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.json");
    let line = "run start --clients 2 --duration 500ms --warm-up 100ms";
    let mut old = result(line);
    let keep = |old: &Figures, path: &Path| {
        std::fs::write(path, serde_json::to_string(old).expect("json")).expect("written");
    };
    old.insert("rate_per_s".to_owned(), 1e9.into());
    keep(&old, &path);
    let compare = format!("{line} --compare {}", path.display());
    let told = loadtest(&compare);
    assert!(told.status.success());
    assert!(String::from_utf8_lossy(&told.stdout).contains("rate_per_s"));
    let failed = loadtest(&format!("{compare} --fail-over 50"));
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("rate_per_s"));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for line in [
        "run steps1 --rate 10 --search-p99 5",
        "run steps1 --rate 0",
        "run steps1 --duration 3",
        "run steps1 --nodes 0",
        "run steps1 --nodes 3 --endpoint http://127.0.0.1:1",
        "run waiting --endpoint http://127.0.0.1:1",
        "run fanout --mode accept",
    ] {
        let output = loadtest(line);
        assert!(!output.status.success(), "{line}");
        assert!(!output.stderr.is_empty(), "{line}");
    }
}
