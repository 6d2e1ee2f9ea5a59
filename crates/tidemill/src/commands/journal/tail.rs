//! `tidemill journal tail`

use clap::Args;
use prost::Message as _;
use serde_json::{Value, json};
use tidemill_sdk::{
    Client, ClientError,
    api::{GetHeadsRequest, Head, JournalRecord, ReadJournalRequest},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    context::Context,
    failure::Failure,
    journal::record::{fields, line},
};

/// Batches of records read ahead of the printing: enough to keep all partitions' streams busy.
const AHEAD_MAX: usize = 16;

/// Records of each partition that are shown when nothing says otherwise.
const LAST_DEFAULT: u64 = 20;

/// Show the last records of all partitions, in the order of their time, and go on with new ones.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tidemill journal tail --follow
  tidemill journal tail --execution exe_01k…      all about one execution
  tidemill journal tail --partition 1 --from 1000 --output json")]
pub struct Tail {
    /// Only this partition; 0 is the catalog.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// How many of the last records of each partition; 0 means all, which is the default when only
    /// those of an execution or a flow are asked for, and 20 otherwise.
    #[arg(long, value_name = "COUNT")]
    last: Option<u64>,
    /// Begin at this sequence number instead.
    #[arg(long, value_name = "SEQ", conflicts_with = "last")]
    from: Option<u64>,
    /// Go on with new records as they come.
    #[arg(long, short)]
    follow: bool,
    /// Only records about this execution.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    execution: String,
    /// Only records about this flow.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    flow: String,
}

impl Tail {
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let heads = client.get_heads(GetHeadsRequest {}).await?.heads;
        let wanted: Vec<Head> = heads
            .into_iter()
            .filter(|head| self.partition.is_none_or(|only| only == head.partition))
            .collect();
        if wanted.is_empty() {
            return Err(match self.partition {
                Some(partition) => {
                    Failure::failed("NO_PARTITION", format!("there is no partition {partition}"))
                        .hint("`tidemill cluster status` shows the partitions")
                }
                None => Failure::failed("NO_PARTITION", "the cluster has no partitions yet"),
            });
        }
        let mut old = Vec::new();
        for head in &wanted {
            old.extend(self.old(&client, head).await?);
        }
        old.sort_by_key(|record| (record.at_us, record.partition, record.seq));
        for record in &old {
            print(context, record)?;
        }
        if self.follow {
            self.follow(context, &client, &wanted).await
        } else {
            Ok(())
        }
    }

    fn request(&self, partition: u32, from_seq: u64) -> ReadJournalRequest {
        ReadJournalRequest {
            partition,
            from_seq,
            follow: false,
            execution_id: self.execution.clone(),
            flow_id: self.flow.clone(),
            limit: 0,
        }
    }

    /// What there is of one partition, up to its head.
    async fn old(&self, client: &Client, head: &Head) -> Result<Vec<JournalRecord>, Failure> {
        let everything = !self.execution.is_empty() || !self.flow.is_empty();
        let last = self
            .last
            .unwrap_or(if everything { 0 } else { LAST_DEFAULT });
        let from = match (self.from, last) {
            (Some(from), _) => from,
            (None, 0) => 1,
            (None, last) => head.seq.saturating_sub(last) + 1,
        };
        let mut records = Vec::new();
        if from > head.seq {
            return Ok(records);
        }
        let mut reader = client.read_journal(self.request(head.partition, from));
        while let Some(entries) = reader.next().await? {
            for entry in entries {
                let record = decode(&entry.record)?;
                if record.seq <= head.seq {
                    records.push(record);
                }
            }
        }
        Ok(records)
    }

    async fn follow(
        &self,
        context: &Context,
        client: &Client,
        heads: &[Head],
    ) -> Result<(), Failure> {
        let (sender, mut receiver) = mpsc::channel(AHEAD_MAX);
        let mut readers = JoinSet::new();
        for head in heads {
            let request = ReadJournalRequest {
                follow: true,
                ..self.request(head.partition, head.seq + 1)
            };
            let (client, sender) = (client.clone(), sender.clone());
            readers.spawn(async move {
                let mut reader = client.read_journal(request);
                loop {
                    let next = reader.next().await;
                    let over = !matches!(next, Ok(Some(_)));
                    if sender.send(next).await.is_err() || over {
                        return;
                    }
                }
            });
        }
        drop(sender);
        while let Some(next) = receiver.recv().await {
            let next: Result<_, ClientError> = next;
            for entry in next?.unwrap_or_default() {
                print(context, &decode(&entry.record)?)?;
            }
        }
        Ok(())
    }
}

fn decode(record: &[u8]) -> Result<JournalRecord, Failure> {
    JournalRecord::decode(record)
        .map_err(|error| Failure::failed("DATA_LOSS", format!("a record cannot be read: {error}")))
}

fn print(context: &Context, record: &JournalRecord) -> Result<(), Failure> {
    if !context.output.is_json() {
        return context.output.line(line(record, context.output.color));
    }
    let mut value = json!({ "partition": record.partition, "seq": record.seq });
    if let (Value::Object(value), Value::Object(fields)) = (&mut value, fields(record)) {
        value.extend(fields);
    }
    context.output.stream(&value)
}
