//! What can grow here, and how far.

use std::time::Duration;

/// Bytes of one log entry: a message of 16 MiB, its rows and its journal records.
pub(crate) const ENTRY_BYTES_MAX: usize = 20 * 1024 * 1024;
/// Bytes of entries in one append message, unless a single entry is larger.
pub(crate) const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Entries in one append message.
pub(crate) const APPEND_ENTRIES_MAX: u64 = 512;
/// Bytes of entries that are read from the log at once to be applied, unless a single one is larger.
pub(crate) const APPLY_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of batches that go into one write of the state.
pub(crate) const APPLY_WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries whose effects go into one write of the state.
pub(crate) const APPLY_WRITE_ENTRIES_MAX: usize = 1_024;
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
/// Messages that wait for openraft's core of one group. Reached only when it has stalled.
pub(crate) const ENGINE_MESSAGES_MAX: u64 = 8_192;
/// Commands that wait for one group's state machine.
pub(crate) const STATE_MACHINE_COMMANDS_MAX: u64 = 1_024;
/// How long a commit waits for entries to travel with, so that a follower learns of it so much later where
/// there are none. Long enough for who starts one thing after the other to have started the next.
pub(crate) const COMMIT_WAIT: Duration = Duration::from_millis(2);
/// How long a snapshot may take to be sent and installed.
pub(crate) const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a follower may take to answer one append, its fsync included.
pub(crate) const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the parts of a snapshot may stop coming.
pub(crate) const SNAPSHOT_PART_TIMEOUT: Duration = Duration::from_secs(30);
/// Files of a snapshot.
pub(crate) const SNAPSHOT_FILES_MAX: usize = 100_000;
/// How long one membership call to another node may take.
pub(crate) const MEMBER_CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change of the members may take before it is given up.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before a membership call is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A silent connection is asked for life so often; a peer that does not answer for as long again is
/// disconnected.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long a stopping node waits for open calls to its peer port.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries to write state to a disk that is full.
pub(crate) const SPACE_PAUSE: Duration = Duration::from_millis(500);
