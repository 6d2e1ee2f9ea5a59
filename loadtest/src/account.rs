//! The account at the end of a run: what clients were told against what the journals say.
//!
//! Every acknowledged execution must be in the journal exactly once, end as it should exactly once, and
//! have exactly one effective completion for each step; nothing else may have been started. All nodes
//! must have the same chains. Records are read as a stream and folded, so a million executions fit.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tidemill_sdk::{
    Client,
    api::{GetHeadsRequest, Head, JournalRecord, ReadJournalRequest},
};
use tidemill_types::{ExecutionId, FlowId};
use tokio::time::{Instant, sleep, timeout};

use crate::servers::Servers;

/// How long nothing may come while executions have not ended yet.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a node may take to have what the first one has.
const LAG_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a head.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Where each partition's chain stood before the run.
pub type Marks = BTreeMap<u32, Head>;

/// What is right for each execution of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It succeeded, with so many steps, each completed once.
    Succeeded {
        /// Steps.
        steps: u32,
    },
    /// It was started, and has not ended.
    Running,
}

/// What a flow's records say of one execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Story {
    starts: u32,
    succeeded: u32,
    ended_otherwise: u32,
    completions: u32,
    /// A bit for each step that was completed.
    completed: Vec<u64>,
    completed_twice: bool,
}

/// A verified account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Executions of the flow.
    pub executions: u64,
    /// Journal records read, on all nodes.
    pub records: u64,
}

/// Where the chains stand now.
///
/// # Errors
/// When no node answers.
pub async fn marks(servers: &Servers) -> Result<Marks> {
    heads(&servers.client().await?).await
}

async fn heads(client: &Client) -> Result<Marks> {
    let answer = client.get_heads(GetHeadsRequest {}).await?;
    Ok(answer
        .heads
        .into_iter()
        .map(|head| (head.partition, head))
        .collect())
}

/// A reader of one chain that checks every record.
struct ChainReader {
    partition: u32,
    seq: u64,
    hash: Vec<u8>,
    records: u64,
}

impl ChainReader {
    fn from(partition: u32, mark: Option<&Head>) -> Self {
        let (seq, hash) = mark.map_or((0, Vec::new()), |head| (head.seq, head.hash.to_vec()));
        Self {
            partition,
            seq,
            hash: if seq == 0 { vec![0; 32] } else { hash },
            records: 0,
        }
    }

    /// Reads on until the chain has `to` records, and gives each of them to `see`.
    async fn read_to(
        &mut self,
        client: &Client,
        to: u64,
        mut see: impl FnMut(&JournalRecord) -> Result<()>,
    ) -> Result<()> {
        if self.seq >= to {
            return Ok(());
        }
        let mut reader = client.read_journal(ReadJournalRequest {
            partition: self.partition,
            from_seq: self.seq + 1,
            limit: to - self.seq,
            ..ReadJournalRequest::default()
        });
        while self.seq < to {
            let Some(entries) = timeout(PATIENCE, reader.next())
                .await
                .with_context(|| format!("partition {}: no record comes", self.partition))??
            else {
                bail!(
                    "partition {}: the journal ends at {}, before {to}",
                    self.partition,
                    self.seq
                );
            };
            for entry in entries {
                let record = JournalRecord::decode(entry.record.clone())?;
                ensure!(
                    record.seq == self.seq + 1 && record.partition == self.partition,
                    "partition {}: record {} of partition {} stands where {} belongs",
                    self.partition,
                    record.seq,
                    record.partition,
                    self.seq + 1
                );
                let hash = Sha256::new()
                    .chain_update(&self.hash)
                    .chain_update(&entry.record)
                    .finalize();
                ensure!(
                    hash[..] == entry.hash[..],
                    "partition {}: the chain breaks at {}",
                    self.partition,
                    record.seq
                );
                self.hash = hash.to_vec();
                self.seq = record.seq;
                self.records += 1;
                see(&record)?;
            }
        }
        Ok(())
    }
}

/// Holds what clients were told against the journals, and the journals of all nodes against each other.
///
/// # Errors
/// Names the first thing that does not fit.
pub async fn settle(
    servers: &Servers,
    marks: &Marks,
    flow: FlowId,
    acknowledged: &[ExecutionId],
    expected: Expected,
) -> Result<Account> {
    let home = u32::from(flow.partition().0);
    let mut clients = Vec::new();
    for node in servers.nodes() {
        if servers.runs(&node) {
            clients.push((node.id, servers.client_of(&node).await?));
        }
    }
    let (_, client) = clients.first().context("no node runs")?;
    let mut account = Account::default();
    let mut stories = stories_of(acknowledged)?;
    let mut chains = BTreeMap::new();
    for group in servers.groups() {
        let mut chain = ChainReader::from(group, marks.get(&group));
        let mut quiet_since = Instant::now();
        loop {
            // Up to the furthest head of all nodes: what the first one does not have yet must come.
            let (mut here, mut furthest) = (0, 0);
            for (at, (_, client)) in clients.iter().enumerate() {
                let seq = heads(client).await?.get(&group).map_or(0, |head| head.seq);
                furthest = furthest.max(seq);
                if at == 0 {
                    here = seq;
                }
            }
            if here > chain.seq {
                quiet_since = Instant::now();
            }
            chain
                .read_to(client, here, |record| fold(&mut stories, flow, record))
                .await?;
            let complete = group != home || all_there(&stories, expected);
            if complete && here >= furthest {
                break;
            }
            ensure!(
                quiet_since.elapsed() < PATIENCE,
                "partition {group}: record {here} of {furthest}; {}",
                first_open(&stories, expected)
            );
            sleep(LOOK_INTERVAL).await;
        }
        account.records += chain.records;
        chains.insert(group, chain);
    }
    for (id, story) in &stories {
        check(ExecutionId(*id), story, expected)?;
    }
    account.executions = stories.len() as u64;
    for (id, client) in &clients[1..] {
        account.records += same_chains(client, &chains, marks)
            .await
            .with_context(|| format!("node {id}"))?;
    }
    Ok(account)
}

/// Checks the chains of one node by itself, up to where those of the first were read.
async fn same_chains(
    client: &Client,
    chains: &BTreeMap<u32, ChainReader>,
    marks: &Marks,
) -> Result<u64> {
    let mut records = 0;
    for (group, first) in chains {
        let deadline = Instant::now() + LAG_PATIENCE;
        while heads(client).await?.get(group).map_or(0, |head| head.seq) < first.seq {
            ensure!(
                Instant::now() < deadline,
                "partition {group} does not catch up with record {}",
                first.seq
            );
            sleep(LOOK_INTERVAL).await;
        }
        let mut chain = ChainReader::from(*group, marks.get(group));
        chain.read_to(client, first.seq, |_| Ok(())).await?;
        ensure!(
            chain.hash == first.hash,
            "partition {group}: another chain than the other nodes have"
        );
        records += chain.records;
    }
    Ok(records)
}

/// What was acknowledged, each with an empty story.
fn stories_of(acknowledged: &[ExecutionId]) -> Result<HashMap<[u8; 16], Story>> {
    let mut stories = HashMap::with_capacity(acknowledged.len());
    for id in acknowledged {
        let earlier = stories.insert(id.0, Story::default());
        ensure!(
            earlier.is_none(),
            "{id} was the answer to two different request ids"
        );
    }
    Ok(stories)
}

fn fold(
    stories: &mut HashMap<[u8; 16], Story>,
    flow: FlowId,
    record: &JournalRecord,
) -> Result<()> {
    let Ok(id) = <[u8; 16]>::try_from(&record.execution_id[..]) else {
        return Ok(());
    };
    let Some(story) = stories.get_mut(&id) else {
        // Records of steps name no flow; those of an execution's start do. Other flows may run beside.
        ensure!(
            record.kind != "execution.started" || record.flow_id[..] != flow.0[..],
            "{} is in the journal (record {}, request id {:?}), and no client knows of it",
            ExecutionId(id),
            record.seq,
            record.request_id
        );
        return Ok(());
    };
    match record.kind.as_str() {
        "execution.started" => story.starts += 1,
        "execution.succeeded" => story.succeeded += 1,
        "execution.failed" | "execution.cancelled" | "execution.timed_out" => {
            story.ended_otherwise += 1;
        }
        "step.succeeded" | "step.failed" | "step.dead" | "step.cancelled" => {
            story.complete(record.step);
        }
        _ => {}
    }
    Ok(())
}

impl Story {
    fn complete(&mut self, step: u32) {
        let (word, bit) = (step as usize / 64, 1_u64 << (step % 64));
        if self.completed.len() <= word {
            self.completed.resize(word + 1, 0);
        }
        self.completed_twice |= self.completed[word] & bit != 0;
        self.completed[word] |= bit;
        self.completions += 1;
    }

    fn is_there(&self, expected: Expected) -> bool {
        match expected {
            Expected::Succeeded { .. } => self.succeeded + self.ended_otherwise > 0,
            Expected::Running => self.starts > 0,
        }
    }
}

fn all_there(stories: &HashMap<[u8; 16], Story>, expected: Expected) -> bool {
    stories.values().all(|story| story.is_there(expected))
}

fn first_open(stories: &HashMap<[u8; 16], Story>, expected: Expected) -> String {
    let open: Vec<_> = stories
        .iter()
        .filter(|(_, story)| !story.is_there(expected))
        .collect();
    let Some((id, story)) = open.first() else {
        return "all executions are as expected".to_owned();
    };
    format!(
        "{} acknowledged executions are not as expected ({expected:?}), and nothing has come for {PATIENCE:?}; one is {}: {story:?}",
        open.len(),
        ExecutionId(**id)
    )
}

fn check(id: ExecutionId, story: &Story, expected: Expected) -> Result<()> {
    ensure!(
        story.starts == 1,
        "{id} was acknowledged, and started {} times in the journal",
        story.starts
    );
    ensure!(
        !story.completed_twice,
        "{id}: a step was completed twice: {story:?}"
    );
    match expected {
        Expected::Succeeded { steps } => ensure!(
            story.succeeded == 1 && story.ended_otherwise == 0 && story.completions == steps,
            "{id} did not succeed exactly once with {steps} steps: {story:?}"
        ),
        Expected::Running => ensure!(
            story.succeeded + story.ended_otherwise == 0,
            "{id} has ended, which it should not: {story:?}"
        ),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = [7; 16];
    const FLOW: FlowId = FlowId([3; 16]);
    const ONE_STEP: Expected = Expected::Succeeded { steps: 1 };

    fn record(kind: &str, step: u32) -> JournalRecord {
        JournalRecord {
            kind: kind.to_owned(),
            flow_id: FLOW.0.to_vec().into(),
            execution_id: ID.to_vec().into(),
            step,
            ..JournalRecord::default()
        }
    }

    fn verdict(kinds: &[(&str, u32)], expected: Expected) -> Result<()> {
        let mut stories = stories_of(&[ExecutionId(ID)])?;
        for (kind, step) in kinds {
            fold(&mut stories, FLOW, &record(kind, *step))?;
        }
        check(ExecutionId(ID), &stories[&ID], expected)
    }

    #[test]
    fn what_is_right_passes() {
        let whole = [
            ("execution.started", 0),
            ("step.scheduled", 1),
            ("step.succeeded", 1),
            ("execution.succeeded", 0),
        ];
        verdict(&whole, ONE_STEP).expect("it fits");
        verdict(&whole[..2], Expected::Running).expect("it fits");
    }

    #[test]
    fn what_is_lost_doubled_or_unasked_fails() {
        let fails = |kinds: &[(&str, u32)], expected| {
            verdict(kinds, expected)
                .expect_err("must not pass")
                .to_string()
        };
        assert!(fails(&[], ONE_STEP).contains("started 0 times"));
        let twice = [("execution.started", 0), ("execution.started", 0)];
        assert!(fails(&twice, ONE_STEP).contains("started 2 times"));
        let step_twice = [
            ("execution.started", 0),
            ("step.succeeded", 70),
            ("step.succeeded", 70),
        ];
        assert!(fails(&step_twice, ONE_STEP).contains("completed twice"));
        let failed = [("execution.started", 0), ("execution.failed", 0)];
        assert!(fails(&failed, ONE_STEP).contains("did not succeed"));
        assert!(fails(&failed, Expected::Running).contains("has ended"));
        let ended_twice = [
            ("execution.started", 0),
            ("step.succeeded", 1),
            ("execution.succeeded", 0),
            ("execution.succeeded", 0),
        ];
        assert!(fails(&ended_twice, ONE_STEP).contains("did not succeed exactly once"));
        let mut none = stories_of(&[]).expect("none is fine");
        let unknown =
            fold(&mut none, FLOW, &record("execution.started", 0)).expect_err("nobody asked");
        assert!(unknown.to_string().contains("no client knows"));
        let same = stories_of(&[ExecutionId(ID), ExecutionId(ID)]).expect_err("one answer twice");
        assert!(same.to_string().contains("two different request ids"));
    }
}
