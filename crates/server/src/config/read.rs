//! From raw values to a checked configuration.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use tidemill_replica::Member;
use tidemill_types::{
    NodeId,
    duration::FlowDuration,
    limits::{
        BACKLOG_MAX, BOOTSTRAP_MEMBERS_MAX, CLUSTER_NAME_CHARS_MAX, FLOW_DURATION_MS_MAX,
        MESSAGE_BYTES_MAX, PARTITIONS_MAX, SNAPSHOT_ENTRIES_MAX,
    },
};
use toml::{Table, Value};

use super::{
    ClusterStart, Config, ConfigError, LogFormat, Overrides, Rate, SecretText,
    options::{LISTS, MEMBER_KEYS, find, keys, nearest},
    units,
};

/// Reads everything, noting each problem.
struct Reader<'a> {
    table: &'a Table,
    overrides: &'a Overrides,
    problems: Vec<String>,
}

pub(super) fn config(table: &Table, overrides: &Overrides) -> Result<Config, ConfigError> {
    let mut r = Reader {
        table,
        overrides,
        problems: Vec::new(),
    };
    r.refuse_unknown();
    let config = read(&mut r);
    if r.problems.is_empty() {
        check(&config, &mut r.problems);
    }
    if r.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Problems(r.problems))
    }
}

fn read(r: &mut Reader<'_>) -> Config {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let partitions_chosen = r
        .text("partitions")
        .is_some_and(|(_, from)| from != DEFAULT);
    Config {
        cluster_name: r.required("cluster_name"),
        node_id: NodeId(
            r.parsed("node_id", "a whole number, 1 or more", |t| t.parse().ok())
                .unwrap_or(0),
        ),
        data_dir: PathBuf::from(r.required("data_dir")),
        partitions: r
            .parsed("partitions", "1 to 1,024", |t| t.parse().ok())
            .unwrap_or(1),
        partitions_chosen,
        insecure_no_auth: r
            .parsed("insecure_no_auth", "true or false", |t| t.parse().ok())
            .unwrap_or(false),
        grpc: r.address("listen.grpc").unwrap_or(loopback),
        http: r.address("listen.http").unwrap_or(loopback),
        peer: r.address("listen.peer").unwrap_or(loopback),
        cluster: r.cluster(),
        heartbeat: r.duration("raft.heartbeat"),
        election_min: r.duration("raft.election_min"),
        election_max: r.duration("raft.election_max"),
        snapshot_entries: r
            .parsed("raft.snapshot_entries", "1 to 10,000,000", |t| {
                t.parse()
                    .ok()
                    .filter(|n| (1..=SNAPSHOT_ENTRIES_MAX).contains(n))
            })
            .unwrap_or(1),
        snapshot_keep: r
            .parsed("raft.snapshot_keep", "0 to 10,000,000", |t| {
                t.parse().ok().filter(|n| *n <= SNAPSHOT_ENTRIES_MAX)
            })
            .unwrap_or(0),
        reserve_bytes: r.bytes("storage.reserve"),
        block_cache_bytes: r.size("storage.block_cache"),
        state_memory_bytes: r.size("storage.state_memory"),
        message_bytes_max: r.size("limits.message"),
        retention: r.duration("limits.retention"),
        ledger_retention: r.duration("limits.ledger_retention"),
        flow_backlog: r.backlog("limits.flow_backlog"),
        backlog: r.backlog("limits.backlog"),
        webhook_tenant_rate: r.measured("webhook.tenant_rate", Rate::parse),
        webhook_flow_rate: r.measured("webhook.flow_rate", Rate::parse),
        webhook_secrets: r.secrets(),
        drain_deadline: r.duration("drain.deadline"),
        log_level: r.required("log.level"),
        log_format: r
            .parsed("log.format", "\"text\" or \"json\"", |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            })
            .unwrap_or(LogFormat::Text),
        otlp_endpoint: r.text("telemetry.otlp_endpoint").map(|(text, _)| text),
    }
}

const DEFAULT: &str = "default";

impl Reader<'_> {
    /// A number of steps that wait.
    fn backlog(&mut self, key: &str) -> usize {
        self.parsed(key, "1 to 10,000,000", |t| {
            t.parse().ok().filter(|n| (1..=BACKLOG_MAX).contains(n))
        })
        .unwrap_or(1)
    }

    fn problem(&mut self, key: &str, from: &str, problem: impl std::fmt::Display) {
        let from = if from == key || from == DEFAULT {
            String::new()
        } else {
            format!(" (from {from})")
        };
        self.problems.push(format!("{key}{from}: {problem}"));
    }

    fn refuse_unknown(&mut self) {
        let mut found: Vec<String> = Vec::new();
        for (name, value) in self.table {
            match value {
                Value::Table(section) if find(name).is_none() => {
                    found.extend(section.keys().map(|key| format!("{name}.{key}")));
                    if section.is_empty() && !keys().any(|key| key.starts_with(&format!("{name}.")))
                    {
                        found.push(name.clone());
                    }
                }
                _ => found.push(name.clone()),
            }
        }
        found.extend(self.overrides.values.keys().cloned());
        for key in found {
            if keys().any(|known| known == key) {
                continue;
            }
            let hint = nearest(&key, keys())
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            self.problems.push(format!("{key}: unknown key{hint}"));
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        match key.split_once('.') {
            None => self.table.get(key),
            Some((section, name)) => self.table.get(section)?.get(name),
        }
    }

    /// The value as text, with where it comes from.
    fn text(&mut self, key: &str) -> Option<(String, String)> {
        if let Some((value, from)) = self.overrides.values.get(key) {
            return Some((value.clone(), from.clone()));
        }
        match self.value(key) {
            Some(Value::String(text)) => return Some((text.clone(), key.to_owned())),
            Some(Value::Integer(number)) => return Some((number.to_string(), key.to_owned())),
            Some(Value::Boolean(flag)) => return Some((flag.to_string(), key.to_owned())),
            Some(other) => {
                let problem = format!("{} where one value is expected", other.type_str());
                self.problem(key, key, problem);
                return None;
            }
            None => {}
        }
        let default = find(key)?.default;
        (!default.is_empty()).then(|| (default.to_owned(), DEFAULT.to_owned()))
    }

    fn required(&mut self, key: &str) -> String {
        if let Some((text, from)) = self.text(key) {
            if text.is_empty() {
                self.problem(key, &from, "must not be empty");
            }
            return text;
        }
        self.missing(key);
        String::new()
    }

    fn missing(&mut self, key: &str) {
        // A value of the wrong type was named already.
        if self.value(key).is_none() {
            let env = find(key).map_or("", |option| option.env);
            self.problems
                .push(format!("{key}: is missing; set it in the file or by {env}"));
        }
    }

    fn parsed<T>(
        &mut self,
        key: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let Some((text, from)) = self.text(key) else {
            self.missing(key);
            return None;
        };
        let parsed = parse(text.trim());
        if parsed.is_none() {
            self.problem(key, &from, format!("{text:?} is not allowed: {allowed}"));
        }
        parsed
    }

    fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let allowed = "an IP address and a port, such as 127.0.0.1:7450";
        self.parsed(key, allowed, |text| text.parse().ok())
    }

    fn measured<T: Default>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some((text, from)) = self.text(key) else {
            self.missing(key);
            return T::default();
        };
        parse(&text).unwrap_or_else(|error| {
            self.problem(key, &from, format!("{text:?} is {error}"));
            T::default()
        })
    }

    fn duration(&mut self, key: &str) -> Duration {
        self.measured(key, units::duration)
    }

    fn bytes(&mut self, key: &str) -> u64 {
        self.measured(key, units::bytes)
    }

    fn size(&mut self, key: &str) -> usize {
        usize::try_from(self.bytes(key)).unwrap_or(usize::MAX)
    }

    fn secrets(&mut self) -> BTreeMap<String, SecretText> {
        const KEY: &str = LISTS[1];
        let mut secrets = BTreeMap::new();
        let table = match self.value(KEY) {
            None => return secrets,
            Some(Value::Table(table)) => table.clone(),
            Some(_) => {
                self.problem(
                    KEY,
                    KEY,
                    "must be a table: a name and a secret in each line",
                );
                return secrets;
            }
        };
        for (name, value) in table {
            match SecretText::read(&name, &value) {
                Ok(secret) => drop(secrets.insert(name, secret)),
                Err(problem) => self.problem(KEY, KEY, problem),
            }
        }
        secrets
    }

    fn cluster(&mut self) -> ClusterStart {
        let join = self.text("cluster.join").map(|(via, _)| via);
        let members = self.value(LISTS[0]).cloned();
        match (join, members) {
            (Some(_), Some(_)) => {
                self.problems
                    .push("cluster: give either bootstrap or join, not both".into());
                ClusterStart::Bootstrap(Vec::new())
            }
            (Some(via), None) => ClusterStart::Join(via),
            (None, Some(Value::Array(members))) => {
                if members.is_empty() || members.len() > BOOTSTRAP_MEMBERS_MAX {
                    let problem = format!("must have 1 to {BOOTSTRAP_MEMBERS_MAX} members");
                    self.problem(LISTS[0], LISTS[0], problem);
                }
                let members = members.iter().enumerate();
                ClusterStart::Bootstrap(
                    members
                        .map(|(at, member)| self.member(at, member))
                        .collect(),
                )
            }
            (None, Some(_)) => {
                self.problem(LISTS[0], LISTS[0], "must be a list of { id, peer, grpc }");
                ClusterStart::Bootstrap(Vec::new())
            }
            (None, None) => ClusterStart::Alone,
        }
    }

    fn member(&mut self, at: usize, member: &Value) -> Member {
        let place = format!("{}[{at}]", LISTS[0]);
        let Value::Table(member) = member else {
            self.problem(&place, &place, "must be { id, peer, grpc }");
            return Member::default();
        };
        for key in member.keys() {
            if !MEMBER_KEYS.contains(&key.as_str()) {
                let hint = nearest(key, MEMBER_KEYS.iter().copied())
                    .map(|near| format!("; did you mean {near:?}?"))
                    .unwrap_or_default();
                self.problem(&place, &place, format!("{key}: unknown key{hint}"));
            }
        }
        let id = match member
            .get("id")
            .and_then(Value::as_integer)
            .map(u64::try_from)
        {
            Some(Ok(id)) if id > 0 => id,
            _ => {
                self.problem(&place, &place, "id must be a whole number, 1 or more");
                0
            }
        };
        let mut address = |key: &str, required: bool| match member.get(key) {
            None if !required => String::new(),
            Some(Value::String(text)) if is_host_and_port(text) => text.clone(),
            _ => {
                let problem = format!("{key} must be host:port, such as \"10.0.0.1:7470\"");
                self.problem(&place, &place, problem);
                String::new()
            }
        };
        Member {
            id: NodeId(id),
            peer: address("peer", true),
            grpc: address("grpc", true),
            http: address("http", false),
            voter: true,
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// What one value alone does not show.
fn check(config: &Config, problems: &mut Vec<String>) {
    let mut refuse = |wrong: bool, problem: String| {
        if wrong {
            problems.push(problem);
        }
    };
    let name = &config.cluster_name;
    refuse(
        name.len() > CLUSTER_NAME_CHARS_MAX || !name.bytes().all(|b| b.is_ascii_graphic()),
        format!(
            "cluster_name: {name:?} is not allowed: 1 to {CLUSTER_NAME_CHARS_MAX} printable ASCII characters without spaces"
        ),
    );
    refuse(
        config.node_id.0 == 0,
        "node_id: 0 is not allowed: 1 or more".into(),
    );
    refuse(
        config.partitions == 0 || config.partitions > PARTITIONS_MAX,
        format!(
            "partitions: {} is not allowed: 1 to {PARTITIONS_MAX}",
            config.partitions
        ),
    );
    refuse(
        config.message_bytes_max < 1024 || config.message_bytes_max > MESSAGE_BYTES_MAX,
        format!(
            "limits.message: {} is not allowed: 1KiB to {}",
            units::show_bytes(config.message_bytes_max as u64),
            units::show_bytes(MESSAGE_BYTES_MAX as u64)
        ),
    );
    for (key, value) in [
        ("limits.retention", config.retention),
        ("limits.ledger_retention", config.ledger_retention),
    ] {
        let kept = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        refuse(
            kept > FLOW_DURATION_MS_MAX,
            format!(
                "{key}: {} is not allowed: at most {}",
                FlowDuration::from_ms(kept),
                FlowDuration::from_ms(FLOW_DURATION_MS_MAX)
            ),
        );
    }
    const MIB: usize = 1 << 20;
    for (key, value) in [
        ("storage.block_cache", config.block_cache_bytes),
        ("storage.state_memory", config.state_memory_bytes),
    ] {
        refuse(
            value < MIB,
            format!(
                "{key}: {} is not allowed: 1MiB or more",
                units::show_bytes(value as u64)
            ),
        );
    }
    refuse(
        config.drain_deadline < Duration::from_secs(1)
            || config.drain_deadline > Duration::from_secs(3600),
        format!(
            "drain.deadline: {} is not allowed: 1s to 1h",
            units::show_duration(config.drain_deadline)
        ),
    );
    if !config.insecure_no_auth {
        for (key, address) in [
            ("listen.grpc", config.grpc),
            ("listen.http", config.http),
            ("listen.peer", config.peer),
        ] {
            refuse(
                !address.ip().is_loopback(),
                format!(
                    "{key}: {address} can be reached from other machines, and Tidemill does not encrypt or authenticate yet: use 127.0.0.1, or say insecure_no_auth = true if your network keeps strangers out"
                ),
            );
        }
    }
    if let ClusterStart::Bootstrap(members) = &config.cluster {
        refuse(
            !members.iter().any(|member| member.id == config.node_id),
            format!(
                "cluster.bootstrap: this node ({}) is not in the list; on a node that is added later use join",
                config.node_id
            ),
        );
        for (at, member) in members.iter().enumerate() {
            let twice = members[..at]
                .iter()
                .any(|other| other.id == member.id || other.peer == member.peer);
            refuse(
                twice,
                format!("cluster.bootstrap[{at}]: the id or the peer address is in the list twice"),
            );
        }
    }
    // What is left of the rules on times and names is the replica's; its fields are named as here.
    if let Err(error) = config.replica().check() {
        let field = match error.field {
            "cluster" => "cluster_name".to_owned(),
            "node" => "node_id".to_owned(),
            field => format!("raft.{field}"),
        };
        refuse(true, format!("{field}: is out of range: {}", error.allowed));
    }
    if let Some(endpoint) = &config.otlp_endpoint {
        let http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        refuse(
            !http,
            "telemetry.otlp_endpoint: must begin with http:// or https://".into(),
        );
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log_level) {
        refuse(
            true,
            format!("log.level: {:?} is not allowed: {error}", config.log_level),
        );
    }
}
