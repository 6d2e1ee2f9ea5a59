//! Reads exported journals (`docs/journal.md`) and verifies each with nothing but the file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidemill_proto::v1::JournalRecord;

use crate::{Rule, Verdict};

/// The version of the export's format that this reads.
const FORMAT: u64 = 1;
/// Longest line: a record holds no payloads.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A partition's chain in one file, as far as it is sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Of each record, from the first.
    pub hashes: Vec<[u8; 32]>,
    /// Time of the last.
    pub at_us: i64,
}

/// An export, verified.
#[derive(Clone, Debug)]
pub struct JournalFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Which node wrote it.
    pub node_id: u64,
    /// By partition.
    pub chains: BTreeMap<u32, Chain>,
}

impl JournalFile {
    /// Reads and verifies a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(path: &Path, verdict: &mut Verdict) -> std::io::Result<Self> {
        let mut file = Self {
            path: path.to_path_buf(),
            node_id: 0,
            chains: BTreeMap::new(),
        };
        let mut broken: BTreeMap<u32, u64> = BTreeMap::new();
        let mut heads: BTreeMap<u32, (u64, String)> = BTreeMap::new();
        let mut wrong = |number: u64, why: &str| {
            verdict.violation(Rule::Chain, format!("{}:{number}: {why}", path.display()));
        };
        lines(path, |number, line| {
            if number == 1 {
                let header: Option<Value> = serde_json::from_slice(line).ok();
                let header = header.unwrap_or_default();
                file.node_id = header["node_id"].as_u64().unwrap_or(0);
                match read_heads(&header) {
                    Some(found) => heads = found,
                    None => wrong(number, "the header is none of format 1 with its heads"),
                }
                return;
            }
            let (partition, record, hash) = match read_line(line) {
                Ok(read) => read,
                Err(why) => return wrong(number, why),
            };
            if broken.contains_key(&partition) {
                return;
            }
            let chain = file.chains.entry(partition).or_default();
            if let Err(why) = chain.take(partition, &record, hash) {
                wrong(number, &format!("partition {partition}: {why}"));
                broken.insert(partition, number);
            }
        })?;
        for (partition, (seq, hash)) in heads {
            let chain = file.chains.entry(partition).or_default();
            let end = chain.hashes.len() as u64;
            let last = chain.hashes.last().copied().unwrap_or_default();
            if !broken.contains_key(&partition) && (end, hex(&last)) != (seq, hash) {
                let why = format!(
                    "partition {partition} ends at record {end}, the header says {seq} or has another hash"
                );
                wrong(0, &why);
            }
        }
        Ok(file)
    }

    /// Reads the file again, for the records of some partitions.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn records(
        &self,
        wanted: &[u32],
        mut each: impl FnMut(JournalRecord),
    ) -> std::io::Result<()> {
        lines(&self.path, |number, line| {
            if number == 1 {
                return;
            }
            // What cannot be read, or lies behind a break, was reported when the file was verified.
            let Ok((partition, record, _)) = read_line(line) else {
                return;
            };
            let sound = |record: &JournalRecord| {
                let chain = self.chains.get(&partition);
                chain.is_some_and(|chain| record.seq <= chain.hashes.len() as u64)
            };
            if wanted.contains(&partition)
                && let Ok(record) = JournalRecord::decode(&record[..])
                && sound(&record)
            {
                each(record);
            }
        })
    }
}

impl Chain {
    fn take(&mut self, partition: u32, bytes: &[u8], hash: [u8; 32]) -> Result<(), String> {
        let record = JournalRecord::decode(bytes).map_err(|e| format!("no record: {e}"))?;
        let expected = self.hashes.len() as u64 + 1;
        if record.seq != expected {
            return Err(format!(
                "record {} stands where {expected} belongs",
                record.seq
            ));
        }
        if record.partition != partition {
            return Err(format!(
                "record {expected} is of partition {}",
                record.partition
            ));
        }
        if record.at_us < self.at_us {
            return Err(format!("record {expected} is older than the one before"));
        }
        let before = self.hashes.last().copied().unwrap_or_default();
        let computed: [u8; 32] = Sha256::new()
            .chain_update(before)
            .chain_update(bytes)
            .finalize()
            .into();
        if computed != hash {
            return Err(format!("the chain breaks at record {expected}"));
        }
        self.hashes.push(hash);
        self.at_us = record.at_us;
        Ok(())
    }
}

fn lines(path: &Path, mut each: impl FnMut(u64, &[u8])) -> std::io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let part = file.by_ref().take(LINE_BYTES_MAX);
        if { part }.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        each(number, &text);
    }
    Ok(())
}

fn read_heads(header: &Value) -> Option<BTreeMap<u32, (u64, String)>> {
    if header["tidemill_journal"].as_u64() != Some(FORMAT) {
        return None;
    }
    let heads = header["heads"].as_array()?.iter();
    heads
        .map(|head| {
            let partition = u32::try_from(head["partition"].as_u64()?).ok()?;
            let hash = head["hash"].as_str()?.to_owned();
            Some((partition, (head["seq"].as_u64()?, hash)))
        })
        .collect()
}

fn read_line(line: &[u8]) -> Result<(u32, Vec<u8>, [u8; 32]), &'static str> {
    let line: Value = serde_json::from_slice(line).map_err(|_| "the line is not JSON")?;
    let partition = line["partition"].as_u64();
    let partition = partition
        .and_then(|partition| u32::try_from(partition).ok())
        .ok_or("`partition` is missing")?;
    let record = line["record"].as_str();
    let record = record
        .and_then(|text| BASE64.decode(text).ok())
        .ok_or("`record` is missing or not base64")?;
    let hash = line["hash"].as_str().and_then(unhex);
    Ok((
        partition,
        record,
        hash.ok_or("`hash` is missing or not 64 hex digits")?,
    ))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}
