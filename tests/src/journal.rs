//! Reads and verifies a journal with nothing but the public API and SHA-256: the test must not take
//! the engine's word for its own chain.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tidemill_sdk::{
    Client,
    api::{GetHeadsRequest, Head, JournalRecord, ReadJournalRequest},
};

/// The records of one partition, all of them, verified.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The partition.
    pub partition: u32,
    /// From the first to the last.
    pub records: Vec<JournalRecord>,
    /// As the node gave it.
    pub head: Head,
}

impl Chain {
    /// Reads a partition's journal up to the head that the node names, and verifies it.
    ///
    /// # Errors
    /// When a record is missing, altered or out of order.
    pub async fn read(client: &Client, partition: u32) -> Result<Self> {
        let heads = client.get_heads(GetHeadsRequest {}).await?.heads;
        let head = heads
            .into_iter()
            .find(|head| head.partition == partition)
            .with_context(|| format!("no head of partition {partition}"))?;
        let mut records = Vec::new();
        let mut hash: Vec<u8> = vec![0; 32];
        if head.seq > 0 {
            let mut reader = client.read_journal(ReadJournalRequest {
                partition,
                limit: head.seq,
                ..ReadJournalRequest::default()
            });
            while let Some(entries) = reader.next().await? {
                for entry in entries {
                    let record = JournalRecord::decode(entry.record.clone())?;
                    let expected = records.len() as u64 + 1;
                    ensure!(
                        record.seq == expected,
                        "partition {partition}: record {} stands where {expected} belongs",
                        record.seq
                    );
                    ensure!(
                        record.partition == partition,
                        "a record of partition {}",
                        record.partition
                    );
                    hash = Sha256::new()
                        .chain_update(&hash)
                        .chain_update(&entry.record)
                        .finalize()
                        .to_vec();
                    ensure!(
                        hash[..] == entry.hash[..],
                        "partition {partition}: the chain breaks at {expected}"
                    );
                    records.push(record);
                }
            }
        }
        ensure!(
            records.len() as u64 == head.seq,
            "partition {partition}: {} records, but the head says {}",
            records.len(),
            head.seq
        );
        ensure!(
            hash[..] == head.hash[..],
            "partition {partition}: the head has another hash"
        );
        Ok(Self {
            partition,
            records,
            head,
        })
    }
}

/// What an execution's records tell of it.
#[derive(Clone, Debug, Default)]
pub struct ExecutionStory {
    /// How often it started.
    pub starts: u32,
    /// The records that ended it, in order.
    pub ends: Vec<String>,
    /// Effective completions by step number plus 1.
    pub completions: BTreeMap<u32, u32>,
    /// The request id of its start.
    pub request_id: String,
    /// Leases that ran out.
    pub expired: u32,
    /// Leases that were freed because the worker did not hold them.
    pub freed: u32,
}

/// The records that end an execution.
const ENDS: &[&str] = &[
    "execution.succeeded",
    "execution.failed",
    "execution.cancelled",
    "execution.timed_out",
];
/// The records of a step's one effective end.
const COMPLETIONS: &[&str] = &[
    "step.succeeded",
    "step.failed",
    "step.dead",
    "step.cancelled",
];

/// Every execution in these chains, by its 16 bytes.
///
/// # Errors
/// When a record of an execution or a step comes without its beginning.
pub fn executions(chains: &[Chain]) -> Result<BTreeMap<Vec<u8>, ExecutionStory>> {
    let mut stories: BTreeMap<Vec<u8>, ExecutionStory> = BTreeMap::new();
    let mut scheduled = BTreeSet::new();
    for record in chains.iter().flat_map(|chain| &chain.records) {
        if record.execution_id.is_empty() {
            continue;
        }
        let story = stories.entry(record.execution_id.to_vec()).or_default();
        let step = (record.execution_id.to_vec(), record.step);
        match record.kind.as_str() {
            "execution.started" => {
                story.starts += 1;
                record.request_id.clone_into(&mut story.request_id);
            }
            "step.lease_expired" => story.expired += 1,
            "step.lease_freed" => story.freed += 1,
            end if ENDS.contains(&end) => story.ends.push(end.to_owned()),
            "step.scheduled" => {
                let is_new = scheduled.insert(step);
                ensure!(
                    is_new,
                    "record {}: step {} is scheduled twice",
                    record.seq,
                    record.step
                );
            }
            completion if COMPLETIONS.contains(&completion) => {
                ensure!(
                    scheduled.contains(&step),
                    "record {}: {completion} of a step that was never scheduled",
                    record.seq
                );
                *story.completions.entry(record.step).or_default() += 1;
            }
            _ => {}
        }
    }
    Ok(stories)
}
