//! The file that an export writes, and its verification with nothing but the file.
//!
//! One JSON object per line; `docs/journal.md` describes it. The first is a header with the heads that
//! the chains had, so that a cut-off end is found too.

use std::{collections::BTreeMap, io::BufRead};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};
use tidemill_sdk::api::{Head, JournalEntry, JournalRecord};

use super::{
    chain::{Break, Chain},
    record::fields,
};
use crate::views::hex;

/// The version of the file format.
pub const FORMAT: u64 = 1;
/// Longest line: a record holds no payloads, so a longer one is no record.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Most problems of one file that are reported.
const PROBLEMS_MAX: usize = 100;

/// The first line.
pub fn header(cluster: &str, node_id: u64, exported_at: &str, heads: &[Head]) -> Value {
    let heads: Vec<Value> = heads
        .iter()
        .map(|head| json!({"partition": head.partition, "seq": head.seq, "hash": hex(&head.hash)}))
        .collect();
    json!({
        "tidemill_journal": FORMAT,
        "cluster": cluster,
        "node_id": node_id,
        "exported_at": exported_at,
        "heads": heads,
    })
}

/// One record's line.
pub fn line(record: &JournalRecord, entry: &JournalEntry) -> Value {
    let mut line = Map::new();
    line.insert("partition".to_owned(), json!(record.partition));
    line.insert("seq".to_owned(), json!(record.seq));
    line.insert("record".to_owned(), json!(BASE64.encode(&entry.record)));
    line.insert("hash".to_owned(), json!(hex(&entry.hash)));
    if let Value::Object(fields) = fields(record) {
        line.extend(fields);
    }
    Value::Object(line)
}

/// What a file proves.
#[derive(Debug, Default)]
pub struct Verdict {
    pub cluster: String,
    pub exported_at: String,
    /// The chains as far as they are sound.
    pub chains: BTreeMap<u32, Chain>,
    /// Records read, sound or not.
    pub records: u64,
    pub problems: Vec<Problem>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: u64,
    pub message: String,
}

impl Verdict {
    fn problem(&mut self, line: u64, message: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            let message = message.into();
            self.problems.push(Problem { line, message });
        }
    }
}

/// Verifies a file: every record from its bytes, the readable fields against them, and the ends of the
/// chains against the header.
///
/// # Errors
/// When the file cannot be read at all.
pub fn verify(mut file: impl BufRead) -> std::io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut heads = BTreeMap::new();
    // A chain that broke is not followed any further: all after the break would be reported too.
    let mut broken = BTreeMap::new();
    let mut number = 0;
    loop {
        let mut text = Vec::new();
        let read = std::io::Read::take(&mut file, LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
        if read == 0 {
            break;
        }
        number += 1;
        if text.pop_if(|last| *last == b'\n').is_none() && read as u64 == LINE_BYTES_MAX {
            verdict.problem(
                number,
                format!("the line is longer than {LINE_BYTES_MAX} bytes"),
            );
            return Ok(verdict);
        }
        let Ok(line) = serde_json::from_slice::<Value>(&text) else {
            verdict.problem(number, "the line is not JSON (is the file cut off?)");
            continue;
        };
        if number == 1 {
            match read_header(&line, &mut verdict) {
                Ok(found) => heads = found,
                Err(message) => {
                    verdict.problem(number, message);
                    return Ok(verdict);
                }
            }
            continue;
        }
        verdict.records += 1;
        match check(&line, &mut verdict.chains, &broken) {
            Ok(()) => {}
            Err(Wrong::Line(message)) => verdict.problem(number, message),
            Err(Wrong::Chain(found)) => {
                verdict.problem(number, found.to_string());
                broken.insert(found.partition, number);
            }
        }
    }
    if number == 0 {
        verdict.problem(0, "the file is empty");
    }
    for (partition, (seq, hash)) in heads {
        if broken.contains_key(&partition) {
            continue;
        }
        let chain = verdict
            .chains
            .entry(partition)
            .or_insert_with(|| Chain::new(partition));
        if chain.seq() != seq {
            let message = format!(
                "partition {partition} ends at record {}, but had {seq} when it was exported",
                chain.seq()
            );
            verdict.problem(number, message);
        } else if hex(chain.hash()) != hash {
            let message =
                format!("partition {partition} ends in another hash than when it was exported");
            verdict.problem(number, message);
        }
    }
    Ok(verdict)
}

enum Wrong {
    /// This line says something that its record does not.
    Line(String),
    Chain(Break),
}

fn read_header(
    line: &Value,
    verdict: &mut Verdict,
) -> Result<BTreeMap<u32, (u64, String)>, String> {
    match line["tidemill_journal"].as_u64() {
        Some(FORMAT) => {}
        Some(other) => {
            return Err(format!(
                "format {other} is not known to this version, which reads {FORMAT}"
            ));
        }
        None => {
            return Err(
                "the first line is no header of a journal export ({\"tidemill_journal\": 1, …})"
                    .to_owned(),
            );
        }
    }
    line["cluster"]
        .as_str()
        .unwrap_or_default()
        .clone_into(&mut verdict.cluster);
    line["exported_at"]
        .as_str()
        .unwrap_or_default()
        .clone_into(&mut verdict.exported_at);
    let list = line["heads"]
        .as_array()
        .ok_or("the header has no list `heads`")?;
    list.iter()
        .map(|head| {
            let partition = head["partition"]
                .as_u64()
                .and_then(|p| u32::try_from(p).ok())?;
            Some((
                partition,
                (head["seq"].as_u64()?, head["hash"].as_str()?.to_owned()),
            ))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| "a head in the header lacks partition, seq or hash".to_owned())
}

fn check(
    line: &Value,
    chains: &mut BTreeMap<u32, Chain>,
    broken: &BTreeMap<u32, u64>,
) -> Result<(), Wrong> {
    let wrong = |message: &str| Wrong::Line(message.to_owned());
    let partition = line["partition"]
        .as_u64()
        .and_then(|partition| u32::try_from(partition).ok())
        .ok_or_else(|| wrong("`partition` is missing or no number"))?;
    let record = line["record"]
        .as_str()
        .and_then(|text| BASE64.decode(text).ok())
        .ok_or_else(|| wrong("`record` is missing or not base64"))?;
    let hash = line["hash"]
        .as_str()
        .and_then(unhex)
        .ok_or_else(|| wrong("`hash` is missing or not 64 hex digits"))?;
    if broken.contains_key(&partition) {
        return Ok(());
    }
    let chain = chains
        .entry(partition)
        .or_insert_with(|| Chain::new(partition));
    let decoded = chain.take(&record, &hash).map_err(Wrong::Chain)?;
    let Value::Object(mut expected) = fields(&decoded) else {
        return Err(wrong("the record has no fields"));
    };
    expected.insert("partition".to_owned(), json!(decoded.partition));
    expected.insert("seq".to_owned(), json!(decoded.seq));
    for (key, value) in &expected {
        if line.get(key) != Some(value) {
            return Err(Wrong::Line(format!(
                "partition {partition}, record {}: `{key}` is {}, but the record says {value}",
                decoded.seq,
                line.get(key).unwrap_or(&Value::Null),
            )));
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..64)
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok())
        .collect()
}

/// A sound export of two partitions, for tests.
#[cfg(test)]
pub fn sample_lines() -> Vec<String> {
    use prost::Message as _;

    let mut lines = Vec::new();
    let mut heads = Vec::new();
    for (partition, count) in [(0, 2), (1, 4)] {
        let entries = super::chain::sample(partition, count);
        let (_, hash) = entries.last().expect("entries");
        heads.push(Head {
            partition,
            seq: count,
            hash: hash.to_vec().into(),
        });
        for (record, hash) in entries {
            let decoded = JournalRecord::decode(record.as_slice()).expect("a record");
            let entry = JournalEntry {
                record: record.into(),
                hash: hash.to_vec().into(),
            };
            lines.push(line(&decoded, &entry).to_string());
        }
    }
    lines.insert(
        0,
        header("c", 1, "2026-11-21T03:00:00Z", &heads).to_string(),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[String]) -> Verdict {
        verify(lines.join("\n").as_bytes()).expect("readable")
    }

    /// The one problem of a file.
    fn problem(lines: &[String]) -> Problem {
        let verdict = verdict(lines);
        assert_eq!(verdict.problems.len(), 1, "{:?}", verdict.problems);
        verdict.problems[0].clone()
    }

    fn edit(line: &str, key: &str, value: Value) -> String {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        line[key] = value;
        line.to_string()
    }

    #[test]
    fn a_sound_file_verifies() {
        let verdict = verdict(&sample_lines());
        assert_eq!(verdict.problems, []);
        assert_eq!((verdict.records, verdict.cluster.as_str()), (6, "c"));
        assert_eq!(verdict.chains[&1].seq(), 4);
    }

    #[test]
    fn a_changed_record_is_found() {
        let mut lines = sample_lines();
        let other = sample_lines()[4].clone();
        let other: Value = serde_json::from_str(&other).unwrap();
        let mut record = BASE64.decode(other["record"].as_str().unwrap()).unwrap();
        let last = record.len() - 1;
        record[last] ^= 1;
        lines[4] = edit(&lines[4], "record", json!(BASE64.encode(record)));
        assert_eq!(problem(&lines).line, 5);
    }

    #[test]
    fn a_changed_readable_field_is_found() {
        let mut lines = sample_lines();
        lines[3] = edit(&lines[3], "actor", json!("worker:somebody-else"));
        let problem = problem(&lines);
        assert_eq!(problem.line, 4);
        assert!(
            problem
                .message
                .contains("`actor` is \"worker:somebody-else\""),
            "{problem:?}"
        );
    }

    #[test]
    fn a_gap_a_swap_a_wrong_partition_and_a_cut_are_found() {
        let mut gap = sample_lines();
        gap.remove(4);
        assert!(problem(&gap).message.contains("missing"));

        let mut swapped = sample_lines();
        swapped.swap(4, 5);
        assert!(problem(&swapped).message.contains("missing"));

        let mut moved = sample_lines();
        moved[3] = edit(&moved[3], "partition", json!(0));
        assert!(
            verdict(&moved).problems[0]
                .message
                .contains("one of partition 1")
        );

        let mut cut = sample_lines();
        cut.pop();
        let found = problem(&cut);
        assert!(
            found.message.contains("ends at record 3, but had 4"),
            "{found:?}"
        );

        let mut half = sample_lines();
        let last = half.last_mut().unwrap();
        last.truncate(last.len() / 2);
        let found = verdict(&half).problems;
        assert_eq!(
            found.len(),
            2,
            "the cut line, and the missing end: {found:?}"
        );
    }

    #[test]
    fn what_is_no_export_is_refused() {
        assert!(problem(&[]).message.contains("empty"));
        assert!(problem(&["{}".to_owned()]).message.contains("no header"));
        let newer = edit(&sample_lines()[0], "tidemill_journal", json!(2));
        assert!(problem(&[newer]).message.contains("format 2"));
        let headless = sample_lines()[1..].to_vec();
        assert!(problem(&headless).message.contains("no header"));
    }

    #[test]
    fn partitions_may_be_interleaved() {
        let mut lines = sample_lines();
        let moved = lines.remove(1);
        lines.insert(3, moved);
        // Record 2 of partition 0 now comes before its record 1.
        assert!(!verdict(&lines).problems.is_empty());
        let mut lines = sample_lines();
        let moved = lines.remove(3);
        lines.insert(1, moved);
        assert_eq!(verdict(&lines).problems, []);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let lines = [
            sample_lines()[0].clone(),
            "x".repeat(LINE_BYTES_MAX as usize + 10),
        ];
        assert!(problem(&lines).message.contains("longer than"));
    }
}
