//! `Publish`: a draft becomes an immutable version. The same content gives the same version again.

use bytes::Bytes;
use tidemill_rows::{
    Hash, Stored,
    journal::{NewRecord, kind},
    table::{FlowVersionRow, flow_version_by_hash_key, flow_version_key},
};

use super::{CLIENT, Catalog, fingerprint};
use crate::{
    Rejection,
    command::CatalogReply,
    flow,
    ledger::{Damage, Rows},
};

impl Catalog {
    pub(super) fn publish(
        &mut self,
        flow: &str,
        request_id: &str,
        rows: &dyn Rows,
    ) -> Result<Result<CatalogReply, Rejection>, Damage> {
        let fingerprint = fingerprint("publish", &[flow.as_bytes()]);
        if let Some(reply) = self.repeated(request_id, fingerprint, rows)? {
            return Ok(reply);
        }
        let (id, mut row) = match self.find(flow, rows)? {
            Ok(found) => found,
            Err(rejection) => return Ok(Err(rejection)),
        };
        // The draft was valid when it was applied; what a newer version checks in addition counts now.
        let document = serde_json::from_slice(&row.document)
            .map_err(|e| Damage::Missing(format!("the draft of {id}: {e}")))?;
        let document = match flow::parse_value(&document) {
            Ok(document) => document,
            Err(problems) => return Ok(Err(Rejection::InvalidDocument(problems))),
        };
        if let Err(problems) = flow::compile(&document) {
            return Ok(Err(Rejection::InvalidDocument(problems)));
        }
        let hash = Hash(flow::content_hash(&document));
        let by_hash = flow_version_by_hash_key(id, hash);
        let known = self.ledger.get(rows, &by_hash)?;
        let (version, created) = match known.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(version)) => (u32::from_be_bytes(version), false),
            Some(Err(_)) => {
                return Err(Damage::Missing(format!(
                    "the version of {id} with hash {hash}"
                )));
            }
            None => {
                row.latest_version += 1;
                row.updated_at = self.ledger.now();
                let version = FlowVersionRow {
                    document: row.document.clone(),
                    content_hash: hash,
                    published_at: self.ledger.now(),
                };
                self.ledger
                    .put(flow_version_key(id, row.latest_version), version.to_bytes());
                self.ledger.put(
                    by_hash,
                    Bytes::copy_from_slice(&row.latest_version.to_be_bytes()),
                );
                self.put_flow(id, &row);
                let number = row.latest_version;
                self.record(
                    id,
                    NewRecord {
                        request_id,
                        version: number,
                        payload_hash: Some(hash),
                        ..NewRecord::of(kind::FLOW_PUBLISHED, CLIENT)
                    },
                );
                (row.latest_version, true)
            }
        };
        let reply = CatalogReply {
            flow: id,
            version,
            created,
            changed: created,
        };
        self.remember(request_id, fingerprint, &reply);
        Ok(Ok(reply))
    }
}
