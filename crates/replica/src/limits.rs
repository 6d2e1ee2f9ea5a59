//! What can grow here, and how far.

use std::time::Duration;

/// Bytes of one log entry: a message of 16 MiB, its rows and its journal records.
pub(crate) const ENTRY_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Bytes of entries in one append message, unless a single entry is larger.
pub(crate) const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Entries in one append message.
pub(crate) const APPEND_ENTRIES_MAX: u64 = 512;
/// Bytes of one message between peers: one largest entry, with room for its envelope.
pub(crate) const PEER_MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX + 64 * 1024;
/// Append messages sent and not answered, per follower and group; openraft's own buffer at the
/// receiver holds as many.
pub(crate) const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// Bytes of a part of a snapshot's file.
pub(crate) const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Heartbeats waiting for one peer: one per group, and groups are few.
pub(crate) const HEARTBEATS_WAITING_MAX: usize = 1_024;
/// Connections that the peer port serves at once.
pub(crate) const PEER_STREAMS_MAX: u32 = 4_096;
/// How long a connection to a peer may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Partitions of a cluster; the rest of the 16-bit space is kept.
pub(crate) const PARTITIONS_MAX: u16 = 1_024;
/// Members named in one bootstrap.
pub(crate) const MEMBERS_MAX: usize = 64;
/// Characters of an address or of the cluster's name.
pub(crate) const NAME_CHARS_MAX: usize = 255;
