//! `tidemill journal verify`

use std::{collections::BTreeMap, fs::File, io::BufReader, path::Path};

use clap::Args;
use serde_json::{Value, json};
use tidemill_sdk::{
    Client,
    api::{GetHeadsRequest, GetStatusRequest, Head, ReadJournalRequest},
};
use tokio::task::JoinSet;

use crate::{
    context::Context,
    failure::{Failure, Problem},
    journal::{chain::Chain, file},
    table::{Cell, Style, Table},
    views::hex,
};

/// What is given instead of a file for the cluster itself.
const LIVE: &str = "live";

/// Verify that records are complete, in order and unchanged: those of an exported file, with nothing
/// but the file, or those that every node of the live cluster has.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill journal verify                      every node's chains, from the first record
  tidemill journal verify journal.jsonl        a file; needs no server

docs/journal.md says how the chain is made, to check it with tools of your own.")]
pub struct Verify {
    /// An exported file; `live` is the cluster.
    #[arg(default_value = LIVE, value_name = "FILE")]
    source: String,
    /// Verify the nodes that can be reached, when not all can.
    #[arg(long)]
    reachable_only: bool,
}

impl Verify {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.source == LIVE {
            live(context, self.reachable_only).await
        } else {
            exported(context, Path::new(&self.source))
        }
    }
}

fn exported(context: &Context, path: &Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    let in_file = |error: std::io::Error| Failure::failed("FILE", format!("{name}: {error}"));
    let open = File::open(path).map_err(in_file)?;
    let verdict = file::verify(BufReader::new(open)).map_err(in_file)?;
    let rows = verdict.chains.iter();
    context.output.either(
        || {
            let chains: Vec<Value> = rows
                .clone()
                .map(|(partition, chain)| {
                    json!({"partition": partition, "records": chain.seq(), "hash": hex(chain.hash())})
                })
                .collect();
            json!({
                "file": name,
                "verified": verdict.problems.is_empty(),
                "cluster": verdict.cluster,
                "exported_at": verdict.exported_at,
                "records": verdict.records,
                "partitions": chains,
            })
        },
        || {
            let mut table = Table::new(&["PARTITION", "SOUND RECORDS", "HEAD HASH"], "No records.");
            for (partition, chain) in rows.clone() {
                table.row(vec![
                    partition.to_string().into(),
                    chain.seq().to_string().into(),
                    hex(chain.hash()).into(),
                ]);
            }
            table
        },
    )?;
    if verdict.problems.is_empty() {
        let sound = format!(
            "{name}: verified, {} records, nothing missing or changed",
            verdict.records
        );
        context
            .output
            .note(Style::Green.paint(&sound, context.output.color));
        return Ok(());
    }
    let problems = verdict.problems.into_iter().map(|problem| Problem {
        file: name.clone(),
        pointer: format!("line {}", problem.line),
        code: String::new(),
        message: problem.message,
    });
    let message = format!("{name} does not verify: it was changed, damaged or cut off");
    Err(Failure::invalid(
        "NOT_VERIFIED",
        message,
        problems.collect(),
    ))
}

/// One node of the cluster, and what it has.
#[derive(Debug)]
struct Node {
    id: u64,
    address: String,
    heads: BTreeMap<u32, Head>,
}

async fn live(context: &Context, reachable_only: bool) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut members = client.get_status(GetStatusRequest {}).await?.members;
    members.sort_by_key(|member| member.id);
    let mut nodes = Vec::new();
    let mut problems = Vec::new();
    for member in members {
        match heads(context, &member.grpc).await {
            Ok(heads) => nodes.push(Node {
                id: member.id,
                address: member.grpc,
                heads,
            }),
            Err(failure) if reachable_only => {
                context.output.note(format!(
                    "node {} is left out: {}",
                    member.id,
                    failure.message()
                ));
            }
            Err(failure) => problems.push(problem(member.id, failure.message())),
        }
    }
    // Nodes lag behind each other by what is in flight: what all of them have is compared.
    let mut common: BTreeMap<u32, u64> = BTreeMap::new();
    for head in nodes.iter().flat_map(|node| node.heads.values()) {
        let seq = common.entry(head.partition).or_insert(head.seq);
        *seq = head.seq.min(*seq);
    }
    let chains = walk_all(context, &nodes, &common, &mut problems).await?;
    for (partition, seq) in &common {
        let mut hashes: BTreeMap<[u8; 32], Vec<u64>> = BTreeMap::new();
        for ((node, _), chain) in chains.iter().filter(|((_, p), _)| p == partition) {
            hashes.entry(*chain.hash()).or_default().push(*node);
        }
        if hashes.len() > 1 {
            let groups: Vec<String> = hashes
                .iter()
                .map(|(hash, nodes)| format!("{} on {nodes:?}", &hex(hash)[..16]))
                .collect();
            let message = format!(
                "partition {partition} is not the same on all nodes at record {seq}: {}",
                groups.join(", ")
            );
            problems.push(Problem {
                file: String::new(),
                pointer: String::new(),
                code: String::new(),
                message,
            });
        }
    }
    show(context, &common, &nodes, &chains, problems.is_empty())?;
    if problems.is_empty() {
        return Ok(());
    }
    let message = "the cluster's journal does not verify";
    Err(Failure::invalid("NOT_VERIFIED", message, problems)
        .hint("a node that cannot be reached is left out with --reachable-only"))
}

fn problem(node: u64, message: &str) -> Problem {
    Problem {
        file: format!("node {node}"),
        pointer: String::new(),
        code: String::new(),
        message: message.to_owned(),
    }
}

async fn heads(context: &Context, address: &str) -> Result<BTreeMap<u32, Head>, Failure> {
    let client = context.client_of(address).await?;
    let heads = client.get_heads(GetHeadsRequest {}).await?.heads;
    Ok(heads
        .into_iter()
        .map(|head| (head.partition, head))
        .collect())
}

/// Walks every chain of every node, all nodes at once.
async fn walk_all(
    context: &Context,
    nodes: &[Node],
    common: &BTreeMap<u32, u64>,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<(u64, u32), Chain>, Failure> {
    let mut walks = JoinSet::new();
    for node in nodes {
        let client = context.client_of(&node.address).await?;
        for (&partition, &seq) in common {
            if !node.heads.contains_key(&partition) {
                problems.push(problem(node.id, &format!("has no partition {partition}")));
                continue;
            }
            let (client, id) = (client.clone(), node.id);
            walks.spawn(async move { (id, partition, walk(&client, partition, seq).await) });
        }
    }
    let mut chains = BTreeMap::new();
    while let Some(walk) = walks.join_next().await {
        let (node, partition, chain) = walk.map_err(|error| {
            Failure::failed("WALK", format!("a verification broke off: {error}"))
        })?;
        match chain {
            Ok(chain) => {
                chains.insert((node, partition), chain);
            }
            Err(failure) => problems.push(problem(node, failure.message())),
        }
    }
    problems.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(chains)
}

/// Follows one chain from its first record to the given one.
async fn walk(client: &Client, partition: u32, seq: u64) -> Result<Chain, Failure> {
    let mut chain = Chain::new(partition);
    if seq == 0 {
        return Ok(chain);
    }
    let mut reader = client.read_journal(ReadJournalRequest {
        partition,
        from_seq: 1,
        limit: seq,
        ..ReadJournalRequest::default()
    });
    while let Some(entries) = reader.next().await? {
        for entry in entries {
            chain
                .take(&entry.record, &entry.hash)
                .map_err(|broken| Failure::failed("BROKEN", broken.to_string()))?;
        }
    }
    if chain.seq() != seq {
        let message = format!(
            "partition {partition} ends at record {} of {seq}",
            chain.seq()
        );
        return Err(Failure::failed("BROKEN", message));
    }
    Ok(chain)
}

fn show(
    context: &Context,
    common: &BTreeMap<u32, u64>,
    nodes: &[Node],
    chains: &BTreeMap<(u64, u32), Chain>,
    verified: bool,
) -> Result<(), Failure> {
    let output = &context.output;
    let rows: Vec<(u32, u64, u64, u64, Option<&Chain>)> = common
        .iter()
        .flat_map(|(&partition, &seq)| {
            nodes.iter().filter_map(move |node| {
                let head = node.heads.get(&partition)?;
                Some((
                    partition,
                    node.id,
                    seq,
                    head.seq,
                    chains.get(&(node.id, partition)),
                ))
            })
        })
        .collect();
    if output.is_json() {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(partition, node, seq, head, chain)| {
                json!({
                    "partition": partition,
                    "node": node,
                    "records": seq,
                    "head": head,
                    "hash": chain.map(|chain| hex(chain.hash())),
                    "sound": chain.is_some(),
                })
            })
            .collect();
        let nodes: Vec<u64> = nodes.iter().map(|node| node.id).collect();
        return output.document(&json!({ "verified": verified, "nodes": nodes, "chains": rows }));
    }
    let header = ["PARTITION", "NODE", "RECORDS", "HEAD HASH", "CHAIN"];
    let mut table = Table::new(&header, "No records yet.");
    for (partition, node, seq, _, chain) in rows {
        let (hash, sound) = match chain {
            Some(chain) => (hex(chain.hash()), Cell::styled("sound", Style::Green)),
            None => (String::new(), Cell::styled("broken", Style::Red)),
        };
        table.row(vec![
            partition.to_string().into(),
            node.to_string().into(),
            seq.to_string().into(),
            hash.into(),
            sound,
        ]);
    }
    output.table(&table)?;
    if verified {
        let text = match nodes.len() {
            1 => "verified: every chain is unbroken (there is one node)".to_owned(),
            count => format!("verified: every chain is unbroken, and the same on {count} nodes"),
        };
        output.note(Style::Green.paint(&text, output.color));
    }
    Ok(())
}
