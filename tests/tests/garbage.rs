//! Callers that speak nonsense, or nothing at all, to each of a node's ports. The node lives, serves
//! others meanwhile, and its memory stays bounded.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidemill_tests::{Cluster, Load, http};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What a node may need more than before, for all that is below.
const GROWTH_BYTES_MAX: f64 = 96e6;
const CALLERS: usize = 200;
const STARTERS: usize = 2;
/// How long a node may take to hang up, or not.
const HANG_UP: Duration = Duration::from_millis(200);
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn random(seed: u32, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// A frame of HTTP/2: its type, flags and stream, and so many bytes.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let mut tls_hello = vec![
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    tls_hello.extend(random(1, 508));
    let header = format!("x-large: {}\r\n", "a".repeat(1 << 20));
    let many: String = (0..20_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    // A header block that never ends: HEADERS without END_HEADERS, then CONTINUATION frames.
    let mut continued = [HTTP2_PREFACE, &frame(4, 0, 0, &[])].concat();
    continued.extend(frame(1, 0, 1, &[0x00; 1_000]));
    for _ in 0..2_000 {
        continued.extend(frame(9, 0, 1, &[0x00; 1_000]));
    }
    // Streams that are opened and reset at once.
    let mut resets = [HTTP2_PREFACE, &frame(4, 0, 0, &[])].concat();
    for stream in (1..4_000).step_by(2) {
        resets.extend(frame(1, 4, stream, &[0x82, 0x84, 0x86]));
        resets.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    vec![
        ("random bytes", random(2, 64 << 10)),
        ("a TLS hello", tls_hello),
        (
            "HTTP/1",
            b"GET /tidemill.v1.FlowService/ListFlows HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        ),
        (
            "a large header",
            format!("GET /live HTTP/1.1\r\nHost: x\r\n{header}\r\n").into_bytes(),
        ),
        (
            "many headers",
            format!("GET /live HTTP/1.1\r\nHost: x\r\n{many}\r\n").into_bytes(),
        ),
        ("a length that lies", frame(0, 0, 1, &[0xff; 5])),
        (
            "random HTTP/2",
            [HTTP2_PREFACE, &random(3, 64 << 10)].concat(),
        ),
        ("a header block without an end", continued),
        ("streams that are reset at once", resets),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_every_port_harms_nobody() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let load = Load::start(&cluster, STARTERS).await?;
    load.goes_on().await?;
    let node = cluster.node(1);
    let ports = [node.grpc.clone(), node.peer.clone(), node.http.clone()];
    let before = resident(node.pid().context("it runs")?)?;
    for port in &ports {
        for (what, bytes) in nonsense() {
            let mut stream = TcpStream::connect(port.as_str()).await?;
            // The node may hang up in the middle of it; it may also say what it thinks of it.
            let _ = timeout(HANG_UP * 10, stream.write_all(&bytes)).await;
            let mut answer = Vec::new();
            let _ = timeout(HANG_UP, stream.read_to_end(&mut answer)).await;
            ensure!(
                answer.len() < 1 << 20,
                "{} bytes of answer to {what} on {port}",
                answer.len()
            );
        }
    }

    // Callers that stay and say nothing more.
    let mut open = Vec::new();
    for port in &ports {
        for caller in 0..CALLERS {
            let mut stream = TcpStream::connect(port.as_str()).await?;
            let begin: &[u8] = match caller % 4 {
                0 => b"",
                1 => HTTP2_PREFACE,
                2 => b"GET /live HTTP/1.1\r\nHo",
                _ => b"POST /hook/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n{",
            };
            stream.write_all(begin).await?;
            open.push(stream);
        }
    }
    load.goes_on().await?;
    cluster.cli().run(&["cluster", "status"]).await?.success()?;
    let (code, _) = http::get(&cluster.node(1).http, "/ready").await?;
    ensure!(code == 200);
    let node = cluster.node_mut(1);
    ensure!(node.ended()?.is_none(), "{}", node.log_tail());
    let grown = resident(node.pid().context("it runs")?)? - before;
    ensure!(
        grown < GROWTH_BYTES_MAX,
        "{grown} bytes more than before, {} callers are open",
        open.len()
    );
    ensure!(!node.log_text().contains("panicked"), "{}", node.log_tail());
    drop(open);
    ensure!(load.given_up().is_empty(), "{:?}", load.given_up());
    load.finish(&cluster).await?;
    Ok(())
}

/// A process's resident memory, in bytes.
fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}
