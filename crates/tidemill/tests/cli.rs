//! The binary as people and scripts meet it: what it prints where, and how it ends. Needs no server.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn tidemill(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    for name in [
        "ENDPOINT", "CONFIG", "NODE_ID", "DATA_DIR", "GRPC", "HTTP", "PEER",
    ] {
        command.env_remove(format!("TIDEMILL_{name}"));
    }
    command
        .env_remove("COLUMNS")
        .args(args)
        .output()
        .expect("the binary runs")
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

/// An endpoint at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

const GOOD: &str = "name: a\ngraph:\n  nodes:\n    - {id: n, componentId: c, function: f}\n";

#[test]
fn help_is_as_reviewed() {
    let commands: &[&[&str]] = &[
        &[],
        &["dev"],
        &["server"],
        &["flow"],
        &["flow", "apply"],
        &["flow", "validate"],
        &["flow", "list"],
        &["flow", "get"],
        &["flow", "versions"],
        &["flow", "publish"],
        &["flow", "start"],
        &["flow", "stop"],
        &["flow", "trigger"],
        &["flow", "delete"],
        &["execution"],
        &["execution", "start"],
        &["execution", "list"],
        &["execution", "get"],
        &["execution", "steps"],
        &["execution", "watch"],
        &["execution", "cancel"],
        &["execution", "redrive"],
        &["schedule"],
        &["schedule", "preview"],
        &["schedule", "next"],
        &["schedule", "ledger"],
        &["journal"],
        &["journal", "tail"],
        &["journal", "export"],
        &["journal", "verify"],
        &["cluster"],
        &["cluster", "status"],
        &["cluster", "add"],
        &["cluster", "remove"],
        &["cluster", "transfer"],
        &["worker"],
        &["worker", "example"],
        &["completions"],
    ];
    let mut text = String::new();
    for command in commands {
        let mut args = command.to_vec();
        args.push("--help");
        let output = tidemill(&args);
        ends(&output, 0);
        text.push_str(&format!(
            "$ tidemill {}\n{}\n",
            args.join(" "),
            out(&output)
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let reviewed = std::fs::read_to_string(&path).expect("tests/help.txt");
    assert!(
        text == reviewed,
        "the help changed: UPDATE=1 cargo test -p tidemill help_is_as_reviewed, then review tests/help.txt"
    );
}

#[test]
fn a_schedule_is_previewed_without_a_server() {
    let endpoint = nobody();
    let preview = |args: &[&str]| {
        let mut all = vec!["--endpoint", &endpoint, "schedule", "preview"];
        all.extend(args);
        tidemill(&all)
    };
    // The last Sunday of March 2027: 02:30 does not exist in Berlin.
    let given = [
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2027-03-27T00:00:00Z",
    ];
    let output = preview(&[&given[..], &["--count", "3", "--output", "json"]].concat());
    ends(&output, 0);
    let lines: Vec<Value> = out(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON on each line"))
        .collect();
    let times: Vec<_> = lines
        .iter()
        .map(|line| (line["nominal"].as_str(), line["at"].as_str()))
        .collect();
    assert_eq!(
        times,
        [
            (
                Some("2027-03-27T02:30:00"),
                Some("2027-03-27T01:30:00.000000Z")
            ),
            (
                Some("2027-03-28T02:30:00"),
                Some("2027-03-28T01:00:00.000000Z")
            ),
            (
                Some("2027-03-29T02:30:00"),
                Some("2027-03-29T00:30:00.000000Z")
            ),
        ]
    );
    assert_eq!(lines[0]["note"], "");
    assert!(
        lines[1]["note"]
            .as_str()
            .is_some_and(|note| note.contains("does not exist")),
        "{lines:?}"
    );
    let output = preview(&["--schedule", "{\"every\": \"90m\"}", "--count", "1"]);
    ends(&output, 0);
    for (wrong, named) in [
        (["--cron", "0 0 31 2 *"], "--cron"),
        (["--cron", "* * * *"], "--cron"),
        (["--schedule", "{\"every\": \"1\"}"], "/every"),
    ] {
        let output = preview(&wrong);
        ends(&output, 1);
        assert!(err(&output).contains(named), "{}", err(&output));
    }
}

#[test]
fn a_dry_run_shows_the_message_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.http");
    let path = file.display().to_string();
    let trigger = |request: &str| {
        std::fs::write(&file, request).expect("written");
        tidemill(&[
            "--endpoint",
            &nobody(),
            "flow",
            "trigger",
            "--dry-run",
            "--request",
            &path,
        ])
    };
    let output = trigger(
        "POST /hook/orders/new HTTP/1.1\nAuthorization: x\nContent-Type: application/x-www-form-urlencoded\n\na[b]=1&c=2&c=3",
    );
    ends(&output, 0);
    let message: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(
        message["data"],
        serde_json::json!({"a": {"b": "1"}, "c": ["2", "3"]})
    );
    assert_eq!(message["metadata"]["pathSuffix"], "new");
    assert_eq!(message["headers"].get("authorization"), None);
    let output = trigger("POST /hook/orders\n\n{}");
    ends(&output, 1);
    assert!(err(&output).contains("415"), "{}", err(&output));
}

#[test]
fn a_dry_run_checks_the_signature_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = folder.path().join("body");
    std::fs::write(&body, "Hello, World!").expect("written");
    // GitHub's published example: the secret stands in a variable of this process's children.
    let right = "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let wrong = &right.replace("757107", "757108");
    for (header, exit, status, verdict) in [
        (right, 0, 200, "right"),
        (wrong, 1, 403, "the signature is wrong"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["--endpoint", &nobody(), "flow", "trigger", "--dry-run"])
            .args(["--scheme", "github", "--secret-env", "HOOK_SECRET"])
            .args(["--path", "/new", "--header", "content-type: text/plain"])
            .args(["--header", header, "--header", "x-request-id: mine"])
            .arg("--body")
            .arg(&body)
            .env("HOOK_SECRET", "It's a Secret to Everybody")
            .output()
            .expect("it runs");
        ends(&output, exit);
        let shown: Value = serde_json::from_str(&out(&output)).expect("JSON");
        assert_eq!(shown["would_answer"], status, "{shown}");
        assert_eq!(shown["signature"], verdict, "{shown}");
        assert_eq!(shown["request_id"], "mine");
        assert_eq!(shown["message"]["data"], "Hello, World!");
        assert_eq!(shown["message"]["metadata"]["pathSuffix"], "new");
    }
    let output = tidemill(&["flow", "trigger", "--dry-run"]);
    ends(&output, 2);
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    for args in [
        &["flow"][..],
        &["nonsense"],
        &["flow", "list", "--no-such"],
        &["--timeout", "5", "flow", "list"],
    ] {
        let output = tidemill(args);
        ends(&output, 2);
        assert!(err(&output).contains("Usage") || err(&output).contains("For more information"));
    }
    let output = tidemill(&["--output", "json", "flow", "list", "--no-such"]);
    ends(&output, 2);
    let error: Value = serde_json::from_str(&err(&output)).expect("JSON on stderr");
    assert_eq!(error["error"]["class"], "usage");
    let output = tidemill(&["execution", "start", "f", "--data", "{"]);
    ends(&output, 2);
    assert!(
        err(&output).contains("--data: not JSON"),
        "{}",
        err(&output)
    );
}

#[test]
fn no_server_ends_with_3_and_says_what_to_do() {
    let output = tidemill(&["--endpoint", &nobody(), "flow", "list"]);
    ends(&output, 3);
    assert_eq!(out(&output), "");
    assert!(err(&output).contains("tidemill dev"), "{}", err(&output));
    let output = tidemill(&["--endpoint", &nobody(), "flow", "list", "--output", "json"]);
    ends(&output, 3);
    let error: Value = serde_json::from_str(&err(&output)).expect("JSON on stderr");
    assert_eq!(error["error"]["class"], "unreachable");
    assert!(error["error"]["problems"].is_array());
}

#[test]
fn a_bad_endpoint_is_no_unreachable_server() {
    let output = tidemill(&["--endpoint", "https://a:1", "flow", "list"]);
    ends(&output, 1);
    assert!(err(&output).contains("TLS"), "{}", err(&output));
}

#[test]
fn flows_are_validated_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let good = file(
        "good.yaml",
        &format!("{GOOD}---\n{}", GOOD.replace("name: a", "name: b")),
    );
    let output = tidemill(&["flow", "validate", &good]);
    ends(&output, 0);
    assert_eq!(out(&output), format!("{good}: valid, 2 flows\n"));

    let bad = file(
        "bad.yaml",
        "name: a\ngrahp: {}\ngraph: {nodes: [{id: n, componentId: c}]}\n",
    );
    let output = tidemill(&["flow", "validate", &good, &bad]);
    ends(&output, 1);
    let lines = out(&output);
    assert!(
        lines.contains("/grahp") && lines.contains("function"),
        "all at once: {lines}"
    );

    let output = tidemill(&["flow", "validate", &good, &bad, "--output", "json"]);
    ends(&output, 1);
    let report: Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(report[0]["valid"], true);
    assert_eq!(report[0]["flows"], 2);
    assert_eq!(report[1]["valid"], false);
    assert!(report[1]["problems"].as_array().expect("a list").len() >= 2);

    // Nothing is applied, nobody is even asked, while anything is wrong.
    let output = tidemill(&["--endpoint", &nobody(), "flow", "apply", &good, &bad]);
    ends(&output, 1);
    assert!(err(&output).contains("/grahp"), "{}", err(&output));

    let output = tidemill(&["flow", "validate", "/nowhere.yaml"]);
    ends(&output, 1);
    assert!(err(&output).contains("/nowhere.yaml"));
}

#[test]
fn the_sample_flows_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/oih-flows");
    for name in [
        "index",
        "load-test-sample",
        "logic-gateway-flows",
        "mix",
        "rebound-test",
        "test-component-flow",
    ] {
        let path = folder.join(format!("{name}.json"));
        let output = tidemill(&["flow", "validate", path.to_str().expect("UTF-8")]);
        ends(&output, 0);
    }
}

#[test]
fn journals_are_verified_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    let verify = |text: &str| {
        std::fs::write(&path, text).expect("written");
        tidemill(&["journal", "verify", path.to_str().expect("UTF-8")])
    };
    let output = verify("{\"tidemill_journal\": 1, \"cluster\": \"c\", \"heads\": []}\n");
    ends(&output, 0);
    assert!(err(&output).contains("verified, 0 records"));
    // A chain whose records were all cut off.
    let head = format!(
        "{{\"partition\": 1, \"seq\": 2, \"hash\": \"{}\"}}",
        "0".repeat(64)
    );
    let output = verify(&format!(
        "{{\"tidemill_journal\": 1, \"heads\": [{head}]}}\n"
    ));
    ends(&output, 1);
    assert!(
        err(&output).contains("ends at record 0, but had 2"),
        "{}",
        err(&output)
    );
    let output = verify("hello\n");
    ends(&output, 1);
}

#[test]
fn completions_are_printed() {
    let output = tidemill(&["completions", "bash"]);
    ends(&output, 0);
    assert!(out(&output).contains("_tidemill()"));
}

#[test]
fn the_journals_page_names_every_kind_of_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let (page, source) = (read("docs/journal.md"), read("crates/rows/src/journal.rs"));
    let kinds: Vec<&str> = source
        .lines()
        .filter(|line| line.contains("pub const") && line.contains(": &str = "))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    for kind in kinds {
        assert!(
            page.contains(&format!("`{kind}`")),
            "docs/journal.md lacks {kind}"
        );
    }
}

#[test]
fn the_pages_name_every_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/cli.md")).expect("docs/cli.md");
    let help = std::fs::read_to_string(root.join("crates/tidemill/tests/help.txt")).expect("help");
    let commands = help
        .lines()
        .filter_map(|line| line.strip_prefix("$ tidemill "));
    for command in commands.filter_map(|line| line.strip_suffix(" --help")) {
        for word in command.split(' ') {
            assert!(page.contains(word), "docs/cli.md lacks {command}");
        }
    }
}
