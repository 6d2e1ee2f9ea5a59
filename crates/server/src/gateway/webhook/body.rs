//! The body of a request, read with a limit on bytes, on time and on memory.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::Refusal,
    places::{Places, Room},
};

/// From one part of a body to the next.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// For all of it: a caller that sends one byte now and then must end too.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body, and the room that it takes in the node's memory until the request is answered.
#[derive(Debug)]
pub(super) struct Body {
    pub bytes: Bytes,
    _room: Room,
}

impl Body {
    /// Reads a body. One that says that it is too large is not read at all.
    pub async fn read(body: HttpBody, bytes_max: usize, places: &Places) -> Result<Self, Refusal> {
        let said = axum::body::HttpBody::size_hint(&body).lower();
        if said > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
            return Err(Refusal::too_large(bytes_max));
        }
        let mut room = Room::default();
        let mut bytes = BytesMut::new();
        let mut parts = body.into_data_stream();
        let end = Instant::now() + BODY_TIMEOUT;
        loop {
            let soon = Instant::now() + PART_TIMEOUT;
            let Ok(part) = timeout_at(end.min(soon), parts.next()).await else {
                return Err(Refusal::too_slow());
            };
            let Some(part) = part else { break };
            let part =
                part.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
            if bytes.len() + part.len() > bytes_max {
                return Err(Refusal::too_large(bytes_max));
            }
            places.take_room(&mut room, bytes.len() + part.len())?;
            bytes.extend_from_slice(&part);
        }
        Ok(Self {
            bytes: bytes.freeze(),
            _room: room,
        })
    }
}
