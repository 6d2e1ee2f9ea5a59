//! `ReadJournal`.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_proto::v1::{JournalEntry as Entry, ReadJournalRequest, ReadJournalResponse};
use tidemill_rows::{
    Stored,
    journal::{JournalEntry, JournalRecord, journal_key},
    key::{self, Table},
};
use tidemill_types::{
    ExecutionId, FlowId, PartitionId,
    limits::{JOURNAL_BYTES_PER_MESSAGE, JOURNAL_ENTRIES_PER_MESSAGE_MAX},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Reading, rows};
use crate::{
    actor::AskError,
    gateway::{
        Open,
        check::{CheckResult, invalid},
        status,
    },
    node::Node,
    rows::{damaged, prefix_range, scan},
};

/// Messages on their way to the client; more would only use memory.
const QUEUE: usize = 4;

/// What is to be read.
struct Reader {
    partition: PartitionId,
    next: u64,
    execution: Option<ExecutionId>,
    flow: Option<FlowId>,
    /// How many more.
    left: u64,
    follow: bool,
}

pub(super) fn read(open: Arc<Open>, request: ReadJournalRequest) -> Result<Reading, Status> {
    let reader = check(&request, &open.node).map_err(status)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let node = &open.node;
        let gone = sender.clone();
        let ended = tokio::select! {
            ended = reader.run(node, &sender) => ended,
            () = gone.closed() => return,
            () = node.shutdown.cancelled() => Err(AskError::Unavailable("the node is shutting down".into())),
        };
        if let Err(error) = ended {
            let _ = sender.send(Err(status(error))).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

fn check(request: &ReadJournalRequest, node: &Node) -> CheckResult<Reader> {
    let partition = u16::try_from(request.partition)
        .ok()
        .filter(|id| *id <= node.partition_count())
        .map(PartitionId)
        .ok_or_else(|| {
            let last = node.partition_count();
            invalid("partition", format!("must be 0 (the catalog) to {last}"))
        })?;
    let id_error = |field: &str, error: &dyn std::fmt::Display| invalid(field, error.to_string());
    let execution = match request.execution_id.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error| id_error("execution_id", &error))?,
        ),
    };
    let flow = match request.flow_id.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| id_error("flow_id", &error))?),
    };
    Ok(Reader {
        partition,
        next: request.from_seq.max(1),
        execution,
        flow,
        left: match request.limit {
            0 => u64::MAX,
            limit => limit,
        },
        follow: request.follow,
    })
}

impl Reader {
    async fn run(
        mut self,
        node: &Node,
        sender: &mpsc::Sender<Result<ReadJournalResponse, Status>>,
    ) -> CheckResult<()> {
        let unavailable = || AskError::Unavailable("the partition is not open on this node".into());
        let actor_fault = match node.partition(self.partition) {
            Some(partition) => partition.fault(),
            None => node.catalog.fault(),
        };
        if let Some(fault) = actor_fault {
            return Err(AskError::Corrupt(fault));
        }
        let group = node.replica.group(self.partition).ok_or_else(unavailable)?;
        let mut applied = group.applied_changes();
        loop {
            applied.borrow_and_update();
            loop {
                let rows = rows(node, self.partition).ok_or_else(unavailable)?;
                let (entries, is_end) = self.part(&*rows)?;
                drop(rows);
                let answer = ReadJournalResponse { entries };
                if !answer.entries.is_empty() && sender.send(Ok(answer)).await.is_err() {
                    return Ok(());
                }
                if self.left == 0 {
                    return Ok(());
                }
                if is_end {
                    break;
                }
                // A long stretch without a match must not hold the thread.
                tokio::task::yield_now().await;
            }
            if !self.follow {
                return Ok(());
            }
            if applied.changed().await.is_err() {
                return Err(unavailable());
            }
        }
    }

    /// What fits one message, and whether there is no more for now.
    fn part(&mut self, rows: &dyn tidemill_core::Rows) -> CheckResult<(Vec<Entry>, bool)> {
        let from = journal_key(self.partition, self.next);
        let (_, to) = prefix_range(&key::prefix(self.partition, Table::Journal));
        let found = scan(rows, &from, &to, JOURNAL_ENTRIES_PER_MESSAGE_MAX, false)?;
        let is_end = found.len() < JOURNAL_ENTRIES_PER_MESSAGE_MAX;
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (_, value) in found {
            let len = value.len();
            let entry = JournalEntry::from_bytes(value).map_err(damaged)?;
            let record = JournalRecord::from_bytes(entry.record.clone()).map_err(damaged)?;
            if record.seq != self.next && self.next > 1 {
                return Err(damaged(format!(
                    "record {} of partition {} is missing",
                    self.next, self.partition
                )));
            }
            self.next = record.seq + 1;
            let is_meant = (self.execution.is_none() || record.execution == self.execution)
                && (self.flow.is_none() || record.flow == self.flow);
            if !is_meant {
                continue;
            }
            bytes += len;
            entries.push(Entry {
                record: entry.record,
                hash: Bytes::copy_from_slice(&entry.hash.0),
            });
            self.left -= 1;
            if self.left == 0 {
                return Ok((entries, true));
            }
            if bytes >= JOURNAL_BYTES_PER_MESSAGE {
                return Ok((entries, false));
            }
        }
        Ok((entries, is_end))
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::memory::MemoryRows;
    use tidemill_rows::{
        Mutation,
        journal::{JournalHead, NewRecord},
    };
    use tidemill_types::Timestamp;

    use super::*;

    const PARTITION: PartitionId = PartitionId(3);

    fn rows(count: u64) -> MemoryRows {
        let mut rows = MemoryRows::default();
        let mut head = JournalHead::default();
        for number in 1..=count {
            let record = NewRecord {
                execution: Some(execution(number % 2)),
                ..NewRecord::default()
            };
            let (key, value, next) = head.append(&record, Timestamp(0), PARTITION);
            rows.apply(&[Mutation::Put { key, value }]);
            head = next;
        }
        rows
    }

    fn execution(number: u64) -> ExecutionId {
        ExecutionId::new(0, PARTITION, number)
    }

    fn reader(next: u64, left: u64) -> Reader {
        Reader {
            partition: PARTITION,
            next,
            execution: None,
            flow: None,
            left,
            follow: false,
        }
    }

    fn sequences(reader: &mut Reader, rows: &MemoryRows) -> Vec<u64> {
        let mut found = Vec::new();
        loop {
            let (entries, is_end) = reader.part(rows).expect("no damage");
            assert!(entries.len() <= JOURNAL_ENTRIES_PER_MESSAGE_MAX);
            found.extend(entries.into_iter().map(|entry| {
                JournalRecord::from_bytes(entry.record)
                    .expect("a record")
                    .seq
            }));
            if is_end {
                return found;
            }
        }
    }

    #[test]
    fn reads_all_in_parts_and_goes_on_from_there() {
        let count = JOURNAL_ENTRIES_PER_MESSAGE_MAX as u64 * 2 + 3;
        let mut reader = reader(1, u64::MAX);
        let all = sequences(&mut reader, &rows(count));
        assert_eq!(all, (1..=count).collect::<Vec<_>>());
        assert_eq!(
            sequences(&mut reader, &rows(count + 2)),
            [count + 1, count + 2]
        );
    }

    #[test]
    fn filters_and_stops_at_the_limit() {
        let rows = rows(10);
        let mut filtered = reader(2, 3);
        filtered.execution = Some(execution(1));
        assert_eq!(sequences(&mut filtered, &rows), [3, 5, 7]);
        assert_eq!(filtered.left, 0);
    }

    #[test]
    fn a_message_gets_no_more_records_once_it_has_so_many_bytes() {
        let mut rows = MemoryRows::default();
        let mut head = JournalHead::default();
        let detail = "d".repeat(JOURNAL_BYTES_PER_MESSAGE / 4);
        for _ in 0..6 {
            let record = NewRecord {
                detail: &detail,
                ..NewRecord::default()
            };
            let (key, value, next) = head.append(&record, Timestamp(0), PARTITION);
            rows.apply(&[Mutation::Put { key, value }]);
            head = next;
        }
        let mut reader = reader(1, u64::MAX);
        let mut part = || {
            let (entries, is_end) = reader.part(&rows).expect("no damage");
            (entries.len(), is_end)
        };
        assert_eq!([part(), part()], [(4, false), (2, true)]);
    }

    #[test]
    fn a_gap_is_damage() {
        let mut rows = rows(5);
        rows.apply(&[Mutation::Delete {
            key: journal_key(PARTITION, 3),
        }]);
        assert!(reader(1, u64::MAX).part(&rows).is_err());
    }
}
