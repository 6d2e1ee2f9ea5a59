//! `tidemill journal export`

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use prost::Message as _;
use serde_json::json;
use tidemill_sdk::{
    Client,
    api::{GetHeadsRequest, GetStatusRequest, Head, JournalRecord, ReadJournalRequest},
};
use tidemill_types::Timestamp;

use crate::{context::Context, failure::Failure, journal::file};

/// Write all records, up to now, to a file that proves itself: `journal verify FILE` needs nothing else.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill journal export --out journal.jsonl
  tidemill journal export | gzip > journal.jsonl.gz")]
pub struct Export {
    /// Where to; stdout when it is not given. A file that exists is replaced when all is written.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Export {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let Some(out) = &self.out else {
            let mut stdout = BufWriter::new(std::io::stdout().lock());
            export(&client, &mut stdout).await?;
            return Ok(stdout.flush()?);
        };
        let unfinished = partial(out);
        let records = write(&client, &unfinished).await.inspect_err(|_| {
            // The error is what counts; a leftover is only untidy.
            let _ = std::fs::remove_file(&unfinished);
        })?;
        std::fs::rename(&unfinished, out).map_err(|error| in_file(out, &error))?;
        if context.output.is_json() {
            return context
                .output
                .document(&json!({ "file": out, "records": records }));
        }
        context
            .output
            .line(format!("{}: {records} records", out.display()))
    }
}

fn partial(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn in_file(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed("FILE", format!("{}: {error}", path.display()))
}

async fn write(client: &Client, path: &Path) -> Result<u64, Failure> {
    let file = File::create(path).map_err(|error| in_file(path, &error))?;
    let mut writer = BufWriter::new(file);
    let records = export(client, &mut writer).await?;
    let file = writer
        .into_inner()
        .map_err(|error| in_file(path, error.error()))?;
    // Somebody may delete the cluster because this file exists.
    file.sync_all().map_err(|error| in_file(path, &error))?;
    Ok(records)
}

async fn export(client: &Client, out: &mut impl Write) -> Result<u64, Failure> {
    let status = client.get_status(GetStatusRequest {}).await?;
    let heads = client.get_heads(GetHeadsRequest {}).await?;
    let header = file::header(&status.cluster, heads.node_id, &now(), &heads.heads);
    writeln!(out, "{header}")?;
    let mut records = 0;
    for head in &heads.heads {
        records += partition(client, head, out).await?;
    }
    out.flush()?;
    Ok(records)
}

/// One partition's records, up to the head that the header names.
async fn partition(client: &Client, head: &Head, out: &mut impl Write) -> Result<u64, Failure> {
    if head.seq == 0 {
        return Ok(0);
    }
    let mut reader = client.read_journal(ReadJournalRequest {
        partition: head.partition,
        from_seq: 1,
        limit: head.seq,
        ..ReadJournalRequest::default()
    });
    let mut records = 0;
    while let Some(entries) = reader.next().await? {
        for entry in entries {
            let record = JournalRecord::decode(entry.record.clone()).map_err(|error| {
                let partition = head.partition;
                let message = format!("a record of partition {partition} cannot be read: {error}");
                Failure::failed("DATA_LOSS", message)
            })?;
            writeln!(out, "{}", file::line(&record, &entry))?;
            records += 1;
        }
    }
    if records != head.seq {
        return Err(Failure::failed(
            "INCOMPLETE",
            format!(
                "partition {} gave {records} records of {}",
                head.partition, head.seq
            ),
        )
        .hint("the node that was asked may be catching up: try again, or another --endpoint"));
    }
    Ok(records)
}

/// The one place of the command line that reads the wall clock: when a file was made is for people.
#[allow(clippy::disallowed_methods)]
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Timestamp(micros.unwrap_or_default()).to_string()
}
