//! The binary against small servers within the test: what it asks for, prints, and ends with.

use std::process::Output;

use serde_json::{Value, json};

mod mock;

use mock::Node;

async fn tidemill(endpoint: &str, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["--endpoint", endpoint]).args(args);
    // The servers go on serving on the runtime's other threads.
    tokio::task::block_in_place(|| command.output().expect("the binary runs"))
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[track_caller]
fn ends(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout: {}\nstderr: {}",
        out(output),
        err(output)
    );
}

#[track_caller]
fn parse(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_splits_files_publishes_and_starts() {
    let node = Node::start(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flows.yaml");
    let flow = |name: &str| {
        format!("name: {name}\ngraph:\n  nodes:\n    - {{id: n, componentId: c, function: f}}\n")
    };
    std::fs::write(&path, format!("{}---\n{}", flow("one"), flow("two"))).expect("written");
    let path = path.to_str().expect("UTF-8");

    let args = [
        "flow",
        "apply",
        path,
        "--publish",
        "--start",
        "--output",
        "json",
    ];
    let output = tidemill(&node.endpoint(), &args).await;
    ends(&output, 0);
    let applied = parse(&output);
    assert_eq!(applied.as_array().expect("a list").len(), 2);
    assert_eq!(applied[1]["name"], "two");
    assert_eq!(applied[1]["result"], "created");
    assert_eq!(applied[1]["version"], 1);
    assert_eq!(applied[1]["status"], "active");
    let documents = node.mock.documents();
    assert_eq!(documents.len(), 2, "one call per document");
    assert_eq!(documents[0]["name"], "one");

    let output = tidemill(&node.endpoint(), &["flow", "apply", path]).await;
    ends(&output, 0);
    let first = out(&output).lines().next().expect("a header").to_owned();
    assert_eq!(
        first.split_whitespace().collect::<Vec<_>>(),
        ["NAME", "ID", "DRAFT", "VERSION", "STATUS"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_fails_ends_with_1_and_says_why() {
    let node = Node::start(1).await;
    let args = [
        "execution",
        "start",
        "orders",
        "--data",
        "{\"n\":1}",
        "--wait",
        "--output",
        "json",
    ];
    let output = tidemill(&node.endpoint(), &args).await;
    ends(&output, 1);
    let run = parse(&output);
    assert_eq!(run["state"], "failed");
    assert_eq!(run["output"], json!([{"data": {"done": true}}]));
    let error: Value = serde_json::from_str(&err(&output)).expect("JSON on stderr");
    assert_eq!(error["error"]["code"], "EXECUTION_FAILED");
    assert_eq!(node.mock.started(), ["orders {\"n\":1}"]);

    let output = tidemill(&node.endpoint(), &["execution", "start", "orders"]).await;
    ends(&output, 0);
    assert_eq!(
        out(&output),
        "exe_1\n",
        "nothing but the id: scripts use it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_each_change_as_a_line_where_there_is_no_terminal() {
    let node = Node::start(1).await;
    let output = tidemill(&node.endpoint(), &["execution", "watch", "exe_1"]).await;
    ends(&output, 1);
    let lines = out(&output);
    let changes: Vec<&str> = lines
        .lines()
        .filter_map(|line| {
            line.split_once("step ")
                .or_else(|| line.split_once("execution "))
        })
        .map(|(_, change)| change)
        .collect();
    assert_eq!(
        changes,
        [
            "0 fetch: running",
            "exe_1: running",
            "0 fetch: succeeded",
            "1 push: dead, attempt 3, HTTP_500: no",
            "exe_1: failed",
        ]
    );
    assert!(!lines.contains('\u{1b}'), "no colours: {lines:?}");

    let output = tidemill(
        &node.endpoint(),
        &["execution", "watch", "exe_1", "--output", "json"],
    )
    .await;
    ends(&output, 1);
    let lines: Vec<Value> = out(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one document per line"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["steps"][1]["error"]["code"], "HTTP_500");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_execution_is_refused_with_a_hint() {
    let node = Node::start(1).await;
    let output = tidemill(&node.endpoint(), &["execution", "get", "exe_2"]).await;
    ends(&output, 1);
    assert_eq!(
        err(&output),
        "error: there is no execution exe_2 (TM0107)\n\
         hint: `tidemill flow list` and `tidemill execution list FLOW` show what there is\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_journal_verifies_until_it_is_touched() {
    let node = Node::start(1).await;
    node.mock.cluster_of(&[&node]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    let path = path.to_str().expect("UTF-8");
    let output = tidemill(&node.endpoint(), &["journal", "export", "--out", path]).await;
    ends(&output, 0);
    assert!(out(&output).contains("7 records"), "{}", out(&output));
    // Offline: nobody listens at this endpoint.
    let output = tidemill("http://127.0.0.1:1", &["journal", "verify", path]).await;
    ends(&output, 0);

    let text = std::fs::read_to_string(path).expect("the export");
    std::fs::write(path, text.replacen("worker:w", "worker:x", 1)).expect("written");
    let output = tidemill(
        "http://127.0.0.1:1",
        &["journal", "verify", path, "--output", "json"],
    )
    .await;
    ends(&output, 1);
    assert_eq!(parse(&output)["verified"], false);
    let error: Value = serde_json::from_str(&err(&output)).expect("JSON on stderr");
    assert!(
        error["error"]["problems"][0]["message"]
            .as_str()
            .expect("text")
            .contains("`actor`")
    );

    let output = tidemill(&node.endpoint(), &["journal", "tail", "--last", "2"]).await;
    ends(&output, 0);
    assert_eq!(
        out(&output).lines().count(),
        4,
        "two of each partition: {}",
        out(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_cluster_verifies_unless_nodes_differ_or_are_missing() {
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    one.mock.cluster_of(&[&one, &two]);
    two.mock.cluster_of(&[&one, &two]);
    let output = tidemill(&one.endpoint(), &["journal", "verify", "--output", "json"]).await;
    ends(&output, 0);
    let report = parse(&output);
    assert_eq!(report["verified"], true);
    assert_eq!(report["chains"].as_array().expect("a list").len(), 4);

    // A node that lags is no node that differs.
    two.mock.cut_journal(1, 2);
    let output = tidemill(&one.endpoint(), &["journal", "verify"]).await;
    ends(&output, 0);

    // A chain that is sound, but another one.
    two.mock.rewrite_journal(1);
    let output = tidemill(&one.endpoint(), &["journal", "verify"]).await;
    ends(&output, 1);
    assert!(
        err(&output).contains("partition 1 is not the same on all nodes"),
        "{}",
        err(&output)
    );

    two.mock.tamper_with_journal(1);
    let output = tidemill(&one.endpoint(), &["journal", "verify"]).await;
    ends(&output, 1);
    assert!(
        err(&output).contains("node 2: partition 1, record 2"),
        "{}",
        err(&output)
    );

    drop(two);
    let output = tidemill(&one.endpoint(), &["--timeout", "2s", "journal", "verify"]).await;
    ends(&output, 1);
    assert!(
        err(&output).contains("node 2: cannot connect"),
        "{}",
        err(&output)
    );
    let args = ["--timeout", "2s", "journal", "verify", "--reachable-only"];
    let output = tidemill(&one.endpoint(), &args).await;
    ends(&output, 0);
}
