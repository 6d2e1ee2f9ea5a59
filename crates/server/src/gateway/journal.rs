//! `JournalService`: read from this node's own replica, whether or not it leads.

mod heads;
mod read;

use std::{pin::Pin, sync::Arc};

use tidemill_core::Rows;
use tidemill_proto::v1::{
    GetHeadsRequest, GetHeadsResponse, ReadJournalRequest, ReadJournalResponse,
    journal_service_server::JournalService,
};
use tidemill_types::PartitionId;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::Gateway;
use crate::node::Node;

type Reading = Pin<Box<dyn Stream<Item = Result<ReadJournalResponse, Status>> + Send>>;

#[tonic::async_trait]
impl JournalService for Gateway {
    type ReadJournalStream = Reading;

    async fn read_journal(
        &self,
        request: Request<ReadJournalRequest>,
    ) -> Result<Response<Self::ReadJournalStream>, Status> {
        read::read(Arc::clone(&self.open), request.into_inner()).map(Response::new)
    }

    async fn get_heads(
        &self,
        _: Request<GetHeadsRequest>,
    ) -> Result<Response<GetHeadsResponse>, Status> {
        heads::heads(&self.open.node).map(Response::new)
    }
}

/// This node's rows of a partition or of the catalog.
fn rows(node: &Node, partition: PartitionId) -> Option<Box<dyn Rows + Send + Sync>> {
    if partition.is_catalog() {
        return Some(Box::new(node.catalog.stale()));
    }
    let group = node.partition(partition)?;
    Some(Box::new(group.stale()))
}
