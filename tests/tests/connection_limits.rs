//! Limits of one connection, each reached: by frames that no client library would send.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use tidemill_tests::Cluster;
use tidemill_types::limits::STREAMS_PER_CONNECTION_MAX;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// HTTP/2, as in RFC 9113: types of frames, a flag, and codes of errors.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let head = [kind, flags];
    [
        &length.to_be_bytes()[1..],
        &head,
        &stream.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// A call that goes on for as long as its caller says nothing.
fn call(stream: u32) -> Vec<u8> {
    // HPACK: POST and http are in its static table; the others are literals with names from there.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x01][..], "localhost"),
        (&[0x04], "/tidemill.v1.ExecutionService/StartExecutions"),
        // Names from 15 on take a second byte.
        (&[0x0f, 31 - 15], "application/grpc"),
        (&[0x00, 0x02, b't', b'e'], "trailers"),
    ] {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).expect("shorter than 127"));
        block.extend_from_slice(value.as_bytes());
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// A connection, and what became of its streams.
struct Connection {
    stream: TcpStream,
    answered: BTreeSet<u32>,
    ended: Vec<(u32, u32)>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        Ok(Self {
            stream,
            answered: BTreeSet::new(),
            ended: Vec::new(),
        })
    }

    /// Reads until something has become of so many streams.
    async fn read_until(&mut self, streams: usize) -> Result<()> {
        while self.answered.len() + self.ended.len() < streams {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await?;
            match head[3] {
                HEADERS => {
                    self.answered.insert(stream);
                }
                RST_STREAM => {
                    let code = payload.as_slice().try_into().context("a code")?;
                    self.ended.push((stream, u32::from_be_bytes(code)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn one_connection_has_so_many_calls_at_once() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let address = cluster.endpoints().first().context("a node")?.clone();
    let address = address.trim_start_matches("http://");
    let mut connection = Connection::open(address).await?;
    let most = STREAMS_PER_CONNECTION_MAX;
    let ids: Vec<u32> = (0..=most).map(|number| 2 * number + 1).collect();
    for id in &ids {
        connection.stream.write_all(&call(*id)).await?;
    }
    connection.read_until(ids.len()).await?;
    let (last, first) = ids.split_last().context("many")?;
    ensure!(
        connection.answered == first.iter().copied().collect(),
        "{} were answered",
        connection.answered.len()
    );
    ensure!(
        connection.ended == [(*last, REFUSED_STREAM)],
        "{:?}",
        connection.ended
    );
    // One is given up, and another takes its place.
    let reset = frame(RST_STREAM, 0, ids[0], &CANCEL.to_be_bytes());
    connection.stream.write_all(&reset).await?;
    connection.stream.write_all(&call(last + 2)).await?;
    connection.read_until(ids.len() + 1).await?;
    ensure!(connection.answered.contains(&(last + 2)));
    Ok(())
}
