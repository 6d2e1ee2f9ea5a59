//! `JournalService`: the journal's records and the heads of its chains.

use prost::Message as _;
use tidemill_proto::v1::{
    GetHeadsRequest, GetHeadsResponse, JournalEntry, JournalRecord, ReadJournalRequest,
    journal_service_client::JournalServiceClient,
};
use tonic::transport::Channel;

use super::{Call, Client, stream::Resuming};
use crate::{
    error::{ClientError, ErrorKind},
    limits::ANSWER_BYTES_MAX,
};

fn service(channel: Channel) -> JournalServiceClient<Channel> {
    JournalServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

impl Client {
    /// The end of every partition's chain, as the node that is asked has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_heads(
        &self,
        request: GetHeadsRequest,
    ) -> Result<GetHeadsResponse, ClientError> {
        self.call(
            Call::read("GetHeads"),
            request,
            |channel, request| async move { service(channel).get_heads(request).await },
        )
        .await
    }

    /// Reads the journal of one partition. When a node is lost, another one is asked for what comes
    /// after the last record that was given.
    #[must_use]
    pub fn read_journal(&self, request: ReadJournalRequest) -> JournalReader {
        let left = (request.limit > 0).then_some(request.limit);
        JournalReader {
            client: self.clone(),
            request,
            left,
            stream: Resuming::new(),
        }
    }
}

/// The records of one partition's journal, in order.
#[derive(Debug)]
pub struct JournalReader {
    client: Client,
    /// What is to be asked for from now on.
    request: ReadJournalRequest,
    left: Option<u64>,
    stream: Resuming<tidemill_proto::v1::ReadJournalResponse>,
}

impl JournalReader {
    /// The next records, several at a time; nothing at the end.
    ///
    /// # Errors
    /// [`ClientError`]; `Broken` when a record cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<JournalEntry>>, ClientError> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            let request = self.request.clone();
            let answer = self
                .stream
                .next(&self.client, "ReadJournal", |channel| {
                    let request = request.clone();
                    async move { service(channel).read_journal(request).await }
                })
                .await?;
            let Some(answer) = answer else {
                return Ok(None);
            };
            let Some(last) = answer.entries.last() else {
                continue;
            };
            let record =
                JournalRecord::decode(last.record.clone()).map_err(|error| ClientError {
                    kind: ErrorKind::Broken,
                    code: "DATA_LOSS".to_owned(),
                    message: format!(
                        "a journal record after sequence number {} cannot be read: {error}",
                        self.request.from_seq
                    ),
                    request_id: String::new(),
                    endpoint: self.client.endpoint(),
                })?;
            self.request.from_seq = record.seq.saturating_add(1);
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(answer.entries.len() as u64);
                self.request.limit = *left;
            }
            return Ok(Some(answer.entries));
        }
    }
}
