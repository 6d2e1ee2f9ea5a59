//! Snapshots between nodes: the files of a checkpoint in parts, each file with its checksum.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use openraft::{
    Snapshot,
    alias::{SnapshotOf, VoteOf},
    raft::SnapshotResponse,
};
use tidemill_proto::peer::v1::{self as peer, snapshot_part::Part};
use tidemill_store::CheckpointFile;
use tidemill_types::PartitionId;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::link::Link;
use crate::{
    codec::{
        log_id_from_wire, log_id_to_wire, stored_membership_from_wire, stored_membership_to_wire,
        vote_from_wire, vote_to_wire,
    },
    limits::{NAME_CHARS_MAX, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_FILES_MAX, SNAPSHOT_PART_TIMEOUT},
    raft::{SnapshotMeta, Types},
    snapshot::{SnapshotDir, SnapshotSource},
};

/// Parts read ahead of what the connection takes.
const PARTS_AHEAD: usize = 2;

fn io_status(error: &io::Error) -> Status {
    Status::unavailable(format!("snapshot files: {error}"))
}

fn refused(why: &str) -> Status {
    Status::invalid_argument(format!("snapshot: {why}"))
}

/// Makes the files and sends them; returns when the other node has installed them.
pub(super) async fn send(
    link: &Arc<Link>,
    group: PartitionId,
    vote: VoteOf<Types>,
    snapshot: SnapshotOf<Types, SnapshotSource>,
    dir: &Arc<Path>,
) -> Result<SnapshotResponse<Types>, Status> {
    let SnapshotSource::Live { state, .. } = snapshot.snapshot else {
        return Err(Status::internal("a received snapshot is not passed on"));
    };
    let dir = Arc::clone(dir);
    let (made, files) = spawn_blocking(move || SnapshotSource::checkpoint(&state, &dir))
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| io_status(&error))?;
    tracing::info!(peer = link.target, partition = %group, bytes = files.bytes(), "sending snapshot");
    let header = peer::SnapshotHeader {
        group: group.0.into(),
        vote: Some(vote_to_wire(&vote)),
        last: snapshot.meta.last_log_id.map(log_id_to_wire),
        membership: Some(stored_membership_to_wire(&snapshot.meta.last_membership)),
        files: files
            .files
            .iter()
            .map(|file| peer::SnapshotFile {
                name: file.name.clone(),
                len: file.len,
                checksum: file.crc32c,
            })
            .collect(),
    };
    let (parts, queue) = mpsc::channel(PARTS_AHEAD);
    let mut client = link.client();
    let call = client.install_snapshot(Request::new(ReceiverStream::new(queue)));
    let (fed, answer) = tokio::join!(feed(parts, header, made.path(), &files.files), call);
    // A refusal says more than the broken pipe that it leaves behind.
    let answer = answer?.into_inner();
    fed.map_err(|error| io_status(&error))?;
    let vote = vote_from_wire(answer.vote).map_err(|e| Status::internal(e.to_string()))?;
    Ok(SnapshotResponse::new(vote))
}

async fn feed(
    parts: mpsc::Sender<peer::SnapshotPart>,
    header: peer::SnapshotHeader,
    dir: &Path,
    files: &[CheckpointFile],
) -> Result<(), io::Error> {
    let send = async |part| {
        let part = peer::SnapshotPart { part: Some(part) };
        match timeout(SNAPSHOT_PART_TIMEOUT, parts.send(part)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    };
    send(Part::Header(header)).await?;
    for file in files {
        let mut reader = File::open(dir.join(&file.name)).await?;
        loop {
            let mut buffer = BytesMut::with_capacity(SNAPSHOT_CHUNK_BYTES);
            while buffer.len() < SNAPSHOT_CHUNK_BYTES {
                let room = SNAPSHOT_CHUNK_BYTES - buffer.len();
                let mut limited = bytes::BufMut::limit(&mut buffer, room);
                if reader.read_buf(&mut limited).await? == 0 {
                    break;
                }
            }
            if buffer.is_empty() {
                break;
            }
            send(Part::Bytes(buffer.freeze())).await?;
        }
    }
    Ok(())
}

/// What came with a snapshot.
pub(super) struct Incoming {
    pub group: PartitionId,
    pub vote: VoteOf<Types>,
    meta: SnapshotMeta,
    files: Vec<peer::SnapshotFile>,
    parts: Streaming<peer::SnapshotPart>,
}

impl Incoming {
    /// Reads the header.
    pub async fn open(mut parts: Streaming<peer::SnapshotPart>) -> Result<Self, Status> {
        let Some(Part::Header(header)) = next(&mut parts).await? else {
            return Err(refused("the header is missing"));
        };
        let wrong = |error: crate::codec::CodecError| refused(&error.to_string());
        let group = u16::try_from(header.group).map_err(|_| refused("group is out of range"))?;
        let mut names = BTreeSet::new();
        for file in &header.files {
            let plain = !file.name.is_empty()
                && file.name.len() <= NAME_CHARS_MAX
                && file
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
                && !file.name.starts_with('.');
            if !plain || !names.insert(&file.name) {
                return Err(refused("a file's name is not allowed"));
            }
        }
        if header.files.len() > SNAPSHOT_FILES_MAX {
            return Err(refused("too many files"));
        }
        Ok(Self {
            group: PartitionId(group),
            vote: vote_from_wire(header.vote).map_err(wrong)?,
            meta: SnapshotMeta {
                last_log_id: header.last.map(log_id_from_wire),
                last_membership: stored_membership_from_wire(header.membership.unwrap_or_default())
                    .map_err(wrong)?,
            },
            files: header.files,
            parts,
        })
    }

    /// Receives the files below `dir` and compares their checksums.
    pub async fn receive(
        mut self,
        dir: &Path,
    ) -> Result<SnapshotOf<Types, SnapshotSource>, Status> {
        let made = SnapshotDir::temporary(dir);
        tokio::fs::create_dir_all(made.path())
            .await
            .map_err(|error| io_status(&error))?;
        let mut left = Bytes::new();
        for file in &self.files {
            let path = made.path().join(&file.name);
            let mut writer = File::create_new(&path).await.map_err(|e| io_status(&e))?;
            let mut checksum = 0;
            let mut missing = file.len;
            while missing > 0 {
                if left.is_empty() {
                    let Some(Part::Bytes(bytes)) = next(&mut self.parts).await? else {
                        return Err(refused("the files are cut short"));
                    };
                    left = bytes;
                    continue;
                }
                let take = usize::try_from(missing)
                    .unwrap_or(usize::MAX)
                    .min(left.len());
                let bytes = left.split_to(take);
                checksum = crc32c::crc32c_append(checksum, &bytes);
                writer.write_all(&bytes).await.map_err(|e| io_status(&e))?;
                missing -= take as u64;
            }
            if checksum != file.checksum {
                return Err(refused("a file's checksum does not match"));
            }
            // Installing links the file, so it must be on disk before.
            writer.sync_all().await.map_err(|error| io_status(&error))?;
        }
        if !left.is_empty() || next(&mut self.parts).await?.is_some() {
            return Err(refused("there are more bytes than files"));
        }
        Ok(Snapshot {
            meta: self.meta,
            snapshot: SnapshotSource::Received(made),
        })
    }
}

async fn next(parts: &mut Streaming<peer::SnapshotPart>) -> Result<Option<Part>, Status> {
    match timeout(SNAPSHOT_PART_TIMEOUT, parts.message()).await {
        Ok(Ok(Some(part))) => Ok(Some(part.part.ok_or_else(|| refused("an empty part"))?)),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("snapshot: no part came in time")),
    }
}
