use super::*;

const MINIMAL: &str = "cluster_name = \"c\"\nnode_id = 1\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "node.toml", &Overrides::default())
}

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Problems(problems)) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_documented_file_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster/node.toml");
    let config = Config::load(Some(&path), &Overrides::default()).expect("cluster/node.toml");
    assert_eq!(config.cluster_name, "orders");
    assert_eq!(config.partitions, 2);
    let ClusterStart::Bootstrap(members) = &config.cluster else {
        panic!("expected a bootstrap list");
    };
    assert_eq!(members.len(), 3);
    // The file says of its optional part that it shows the defaults.
    let defaults = parse(MINIMAL).expect("defaults");
    assert_eq!(config.heartbeat, defaults.heartbeat);
    assert_eq!(config.election_min, defaults.election_min);
    assert_eq!(config.election_max, defaults.election_max);
    assert_eq!(config.log_level, defaults.log_level);
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = parse(MINIMAL).expect("allowed");
    assert_eq!(config.grpc.to_string(), "127.0.0.1:7450");
    assert_eq!(config.reserve_bytes, 256 << 20);
    assert_eq!(config.message_bytes_max, 4 << 20);
    assert_eq!(config.drain_deadline, Duration::from_secs(30));
    assert!(!config.partitions_chosen);
    assert_eq!(config.cluster, ClusterStart::Alone);
}

#[test]
fn each_problem_is_named() {
    for (text, want) in [
        ("", "cluster_name: is missing"),
        ("", "node_id: is missing"),
        (
            "cluster_nam = \"c\"",
            "cluster_nam: unknown key; did you mean \"cluster_name\"?",
        ),
        (
            "[raft]\nheartbeet = \"1s\"",
            "raft.heartbeet: unknown key; did you mean \"raft.heartbeat\"?",
        ),
        (
            "heartbeat = \"1s\"",
            "heartbeat: unknown key; did you mean \"raft.heartbeat\"?",
        ),
        ("[strange]\nthing = 1", "strange.thing: unknown key"),
        ("[strange]", "strange: unknown key"),
        ("node_id = 0", "node_id: 0 is not allowed"),
        (
            "node_id = -1",
            "node_id: \"-1\" is not allowed: a whole number",
        ),
        (
            "node_id = [1]",
            "node_id: array where one value is expected",
        ),
        ("partitions = 0", "partitions: 0 is not allowed: 1 to 1024"),
        ("partitions = 70000", "partitions: \"70000\" is not allowed"),
        ("[raft]\nsnapshot_entries = 0", "raft.snapshot_entries:"),
        ("[raft]\nsnapshot_keep = 10000001", "raft.snapshot_keep:"),
        (
            "[listen]\ngrpc = \"localhost:1\"",
            "listen.grpc: \"localhost:1\" is not allowed: an IP address",
        ),
        (
            "[listen]\ngrpc = \"0.0.0.0:7450\"",
            "listen.grpc: 0.0.0.0:7450 can be reached from other machines",
        ),
        (
            "[listen]\npeer = \"10.0.0.1:7470\"",
            "listen.peer: 10.0.0.1:7470 can be reached",
        ),
        (
            "[raft]\nheartbeat = 100",
            "raft.heartbeat: \"100\" is not a duration",
        ),
        (
            "[raft]\nelection_min = \"100ms\"",
            "raft.election_min: is out of range",
        ),
        (
            "[storage]\nreserve = \"5\"",
            "storage.reserve: \"5\" is not a size",
        ),
        (
            "[limits]\nmessage = \"17MiB\"",
            "limits.message: 17MiB is not allowed: 1KiB to 16MiB",
        ),
        ("[limits]\nretention = \"9999w\"", "limits.retention:"),
        (
            "[limits]\nledger_retention = \"9999w\"",
            "limits.ledger_retention:",
        ),
        (
            "[limits]\nflow_backlog = 0",
            "limits.flow_backlog: \"0\" is not allowed: 1 to 10,000,000",
        ),
        (
            "[limits]\nbacklog = 10000001",
            "limits.backlog: \"10000001\" is not allowed: 1 to 10,000,000",
        ),
        (
            "[drain]\ndeadline = \"2h\"",
            "drain.deadline: 2h is not allowed",
        ),
        (
            "[webhook]\nflow_rate = \"5\"",
            "webhook.flow_rate: \"5\" is not a rate",
        ),
        ("[webhook]\nsecrets = 5", "webhook.secrets: must be a table"),
        (
            "[webhook.secrets]\n\"a b\" = \"x\"",
            "webhook.secrets: \"a b\" is no name",
        ),
        (
            "[webhook.secrets]\na = \" \"",
            "webhook.secrets: a: the secret is empty",
        ),
        (
            "[webhook.secrets]\na = { file = \"/nowhere/a\" }",
            "webhook.secrets: a: cannot read /nowhere/a",
        ),
        (
            "[webhook.secrets]\na = { fil = \"x\" }",
            "webhook.secrets: a: must be a string or",
        ),
        (
            "[log]\nformat = \"xml\"",
            "log.format: \"xml\" is not allowed: \"text\" or \"json\"",
        ),
        ("[log]\nlevel = \"a=b=c\"", "log.level:"),
        (
            "[telemetry]\notlp_endpoint = \"x\"",
            "telemetry.otlp_endpoint: must begin with http",
        ),
        (
            "[cluster]\nbootstrap = []",
            "cluster.bootstrap: must have 1 to 64 members",
        ),
        (
            "[cluster]\nbootstrap = [{ id = 2, peer = \"a:1\", grpc = \"a:2\" }]",
            "this node (1) is not in the list",
        ),
        (
            "[cluster]\nbootstrap = [{ id = 1, peer = \"a\", grpc = \"a:2\" }]",
            "cluster.bootstrap[0]: peer must be host:port",
        ),
        (
            "[cluster]\nbootstrap = [{ id = 1, per = \"a:1\" }]",
            "cluster.bootstrap[0]: per: unknown key; did you mean \"peer\"?",
        ),
        (
            "[cluster]\nbootstrap = [{ id = 1, peer = \"a:1\", grpc = \"a:2\" }, { id = 1, peer = \"b:1\", grpc = \"b:2\" }]",
            "cluster.bootstrap[1]: the id or the peer address is in the list twice",
        ),
        (
            "[cluster]\njoin = \"a:1\"\nbootstrap = []",
            "cluster: give either bootstrap or join",
        ),
    ] {
        let base = if text.is_empty() || text.contains("cluster_nam ") {
            String::new()
        } else if text.starts_with("node_id") {
            "cluster_name = \"c\"\n".to_owned()
        } else {
            MINIMAL.to_owned()
        };
        let found = problems(&format!("{base}{text}"));
        assert!(
            found.iter().any(|problem| problem.contains(want)),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn all_problems_are_named_at_once() {
    let found = problems("partition = 1\n[log]\nformat = \"xml\"\n[raft]\nheartbeat = \"fast\"");
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let error = parse("cluster_name = \"c\"\nnode_id = = 1\n").expect_err("not TOML");
    assert!(
        error.to_string().contains("node.toml is not TOML: line 2"),
        "{error}"
    );
}

#[test]
fn flags_go_over_the_environment_over_the_file() {
    let mut overrides = Overrides::from_variables(|name| match name {
        "TIDEMILL_NODE_ID" => Some("2".into()),
        "TIDEMILL_GRPC" => Some("127.0.0.1:1111".into()),
        "TIDEMILL_HTTP" => Some(String::new()),
        _ => None,
    });
    overrides.set("listen.grpc", "127.0.0.1:2222");
    let config = Config::parse(MINIMAL, "", &overrides).expect("allowed");
    assert_eq!(config.node_id, NodeId(2));
    assert_eq!(config.grpc.port(), 2222);
    assert_eq!(config.http.port(), 7480, "an empty variable sets nothing");
    overrides.set("listen.grpc", "x");
    let error = Config::parse(MINIMAL, "", &overrides).expect_err("not an address");
    assert!(
        error.to_string().contains("listen.grpc (from --grpc)"),
        "{error}"
    );
}

#[test]
fn ports_beyond_loopback_can_be_allowed() {
    let text = format!("{MINIMAL}insecure_no_auth = true\n[listen]\ngrpc = \"0.0.0.0:7450\"");
    assert!(parse(&text).is_ok());
}

#[test]
fn secrets_are_masked() {
    let text = format!("{MINIMAL}[telemetry]\notlp_endpoint = \"https://me:secret@host:4317\"");
    let shown = parse(&text).expect("allowed").to_string();
    assert!(shown.contains("https://***@host:4317"), "{shown}");
    assert!(!shown.contains("secret"));
}

#[test]
fn webhook_secrets_are_read_and_never_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("secret");
    std::fs::write(&file, "of-the-file\n").expect("written");
    let text = format!(
        "{MINIMAL}[webhook.secrets]\norders = \"of-the-text\"\n\"a.b\" = {{ file = {file:?} }}\n"
    );
    let config = parse(&text).expect("allowed");
    let secret = |name: &str| config.webhook_secrets[name].expose();
    assert_eq!(
        (secret("orders"), secret("a.b")),
        ("of-the-text", "of-the-file")
    );
    let shown = format!("{config}\n{config:?}");
    assert!(
        shown.contains("webhook.secrets.\"orders\" = \"***\""),
        "{shown}"
    );
    assert!(!shown.contains("of-the-"), "{shown}");
}

#[test]
fn what_is_shown_is_a_file() {
    let config = parse(MINIMAL).expect("allowed");
    let shown = config.to_string();
    for option in OPTIONS {
        assert!(shown.contains(option.key), "{} is not shown", option.key);
    }
    let again = parse(&shown).expect("what is shown can be read");
    assert_eq!(
        Config {
            partitions_chosen: false,
            ..again
        },
        config
    );
}

#[test]
fn dev_needs_nothing() {
    let config = Config::dev("/tmp/x");
    assert_eq!(config.partitions, 1);
    assert_eq!(config.data_dir, Path::new("/tmp/x"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/node.toml")), &Overrides::default());
    assert!(matches!(error, Err(ConfigError::File { file, .. }) if file == "/nowhere/node.toml"));
}
