//! Tables 0x10 to 0x14 and 0x24, 0x25 of the catalog: flows, versions, request ids.

use bytes::{Buf, Bytes};
use tidemill_types::{FlowId, PartitionId, Timestamp};

use crate::{
    key::{self, Key, KeyWriter, Table},
    wire::{Hash, stored, stored_enum},
};

stored_enum! {
    /// OIH's machine: `inactive → starting → active → stopping → inactive`.
    pub enum FlowStatus {
        Inactive = 1 "inactive",
        Starting = 2 "starting",
        Active = 3 "active",
        Stopping = 4 "stopping",
    }
}

stored! {
    /// A flow with its draft.
    pub struct FlowRow {
        /// Unique in the cluster.
        name: String = 1,
        /// Where it stands.
        status: FlowStatus = 2,
        /// Why it went back to inactive.
        reason: String = 3,
        /// Counts edits of the draft, from 1.
        revision: u64 = 4,
        /// Newest published version; 0 for none.
        latest_version: u32 = 5,
        /// Version that is starting, active or stopping; 0 when inactive.
        active_version: u32 = 6,
        /// When it was created.
        created_at: Timestamp = 7,
        /// When its draft or status last changed.
        updated_at: Timestamp = 8,
        /// The draft: canonical JSON.
        document: Bytes = 9,
        /// Counts starts: the hand-over with the home partition names it.
        activation: u64 = 10,
        /// When starting gives up.
        deadline: Option<Timestamp> = 11,
        /// Stopping: running executions are cancelled.
        cancel_running: bool = 12,
        /// Starting: workers need not be there.
        without_workers: bool = 13,
    }
}

stored! {
    /// A published version; never changes.
    pub struct FlowVersionRow {
        /// Canonical JSON.
        document: Bytes = 1,
        /// Its SHA-256.
        content_hash: Hash = 2,
        /// When it was published.
        published_at: Timestamp = 3,
    }
}

stored! {
    /// What a request id led to, in the catalog.
    pub struct CatalogRequestRow {
        /// SHA-256 of the request's meaning.
        fingerprint: Hash = 1,
        /// The flow.
        flow: FlowId = 2,
        /// The version, where there is one.
        version: u32 = 3,
        /// Whether anything was created.
        created: bool = 4,
        /// Whether anything was changed.
        changed: bool = 5,
        /// When it is forgotten.
        expires_at: Timestamp = 6,
    }
}

fn of_flow(flow: FlowId, table: Table) -> KeyWriter {
    let mut key = key::start(PartitionId::CATALOG, table);
    key.put_slice(&flow.0);
    key
}

/// The key of a flow.
#[must_use]
pub fn flow_key(flow: FlowId) -> Key {
    of_flow(flow, Table::Flow).freeze()
}

/// The flow in a key that begins with one.
#[must_use]
pub fn flow_of_key(key: &[u8]) -> Option<FlowId> {
    key.get(key::PREFIX_LEN..key::PREFIX_LEN + 16)?
        .try_into()
        .ok()
        .map(FlowId)
}

/// The key of a name. Value: the flow's id, 16 bytes.
#[must_use]
pub fn flow_by_name_key(name: &str) -> Key {
    let mut key = key::start(PartitionId::CATALOG, Table::FlowByName);
    key.put_slice(name.as_bytes());
    key.freeze()
}

/// The key of a version.
#[must_use]
pub fn flow_version_key(flow: FlowId, version: u32) -> Key {
    let mut key = of_flow(flow, Table::FlowVersion);
    key.put_u32(version);
    key.freeze()
}

/// First bytes of the keys of a flow's versions.
#[must_use]
pub fn flow_versions_prefix(flow: FlowId) -> Key {
    of_flow(flow, Table::FlowVersion).freeze()
}

/// The version in a key of the version table.
#[must_use]
pub fn version_of_key(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(
        key.get(key::PREFIX_LEN + 16..)?.try_into().ok()?,
    ))
}

/// The key of a content hash. Value: the version, 4 bytes, big-endian.
#[must_use]
pub fn flow_version_by_hash_key(flow: FlowId, hash: Hash) -> Key {
    let mut key = of_flow(flow, Table::FlowVersionByHash);
    key.put_slice(&hash.0);
    key.freeze()
}

/// First bytes of the keys of a flow's content hashes.
#[must_use]
pub fn flow_version_by_hash_prefix(flow: FlowId) -> Key {
    of_flow(flow, Table::FlowVersionByHash).freeze()
}

/// The key of a flow that is starting or stopping. Value: empty.
#[must_use]
pub fn flow_transition_key(flow: FlowId) -> Key {
    of_flow(flow, Table::FlowTransition).freeze()
}

/// The key of a deleted flow whose home partition was not told yet. Value: empty.
#[must_use]
pub fn flow_deletion_key(flow: FlowId) -> Key {
    of_flow(flow, Table::FlowDeletion).freeze()
}

/// The key of a request id.
#[must_use]
pub fn catalog_request_key(request_id: &str) -> Key {
    let mut key = key::start(PartitionId::CATALOG, Table::Request);
    key.put_slice(request_id.as_bytes());
    key.freeze()
}

/// The key by which a request id is forgotten: expiry in microseconds, then the id. Value: empty.
#[must_use]
pub fn catalog_request_expiry_key(at: Timestamp, request_id: &str) -> Key {
    let mut key = key::start(PartitionId::CATALOG, Table::RequestExpiry);
    key.put_u64(at.0.max(0) as u64);
    key.put_slice(request_id.as_bytes());
    key.freeze()
}

/// The expiry and the request id in a key.
#[must_use]
pub fn catalog_request_expiry_of_key(key: &[u8]) -> Option<(Timestamp, String)> {
    let mut rest = key.get(key::PREFIX_LEN..).filter(|rest| rest.len() >= 8)?;
    let at = i64::try_from(rest.get_u64()).ok()?;
    Some((Timestamp(at), String::from_utf8(rest.to_vec()).ok()?))
}
