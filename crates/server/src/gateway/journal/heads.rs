//! `GetHeads`.

use bytes::Bytes;
use tidemill_proto::v1::{GetHeadsResponse, Head};
use tidemill_rows::{
    Hash, Stored,
    journal::JournalEntry,
    key::{self, Table},
};
use tidemill_types::PartitionId;
use tonic::Status;

use super::rows;
use crate::{
    actor::AskError,
    gateway::status,
    node::Node,
    rows::{damaged, prefix_range, scan},
};

pub(super) fn heads(node: &Node) -> Result<GetHeadsResponse, Status> {
    let heads = (0..=node.partition_count())
        .map(|partition| head(node, PartitionId(partition)))
        .collect::<Result<_, _>>()
        .map_err(status)?;
    Ok(GetHeadsResponse {
        node_id: node.replica.node().0,
        heads,
    })
}

fn head(node: &Node, partition: PartitionId) -> Result<Head, AskError> {
    let mut head = Head {
        partition: partition.0.into(),
        seq: 0,
        hash: Bytes::copy_from_slice(&Hash::default().0),
    };
    let Some(rows) = rows(node, partition) else {
        return Ok(head);
    };
    let (from, to) = prefix_range(&key::prefix(partition, Table::Journal));
    if let Some((key, value)) = scan(&*rows, &from, &to, 1, true)?.pop() {
        let seq = key
            .get(key::PREFIX_LEN..)
            .and_then(|seq| seq.try_into().ok());
        let seq = seq.ok_or_else(|| damaged("a key of the journal is damaged"))?;
        head.seq = u64::from_be_bytes(seq);
        let entry = JournalEntry::from_bytes(value).map_err(damaged)?;
        head.hash = Bytes::copy_from_slice(&entry.hash.0);
    }
    Ok(head)
}
