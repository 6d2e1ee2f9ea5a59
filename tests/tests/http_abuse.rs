//! The HTTP port of a real node under callers that are idle, slow, or write nonsense: others are served
//! meanwhile, and the node lives on.
//!
//! `TIDEMILL_IDLE_CONNECTIONS=10000 TIDEMILL_SLOW_WRITERS=1000` is the long form of the first test,
//! `TIDEMILL_FUZZ_SECONDS=60` that of the second; `TIDEMILL_FUZZ_SEED` repeats one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidemill_tests::{Cluster, http::send, random::Random};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Far more than a webhook takes on a busy machine; far less than slow callers are given.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// Files beside connections, of the test and of the node.
const FILES_SPARE: u64 = 2_000;
/// Calls while the others are idle or slow.
const CALLS: usize = 200;

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn cluster_with_flow() -> Result<Cluster> {
    let cluster = Cluster::start(1).await?;
    let client = cluster.client().await?;
    client
        .apply("name: orders\ngraph: {nodes: [{id: a, componentId: log, function: write}]}")
        .await?;
    client.publish("orders").await?;
    client.start_flow_by_name("orders").await?;
    Ok(cluster)
}

/// Sees to it that this process, and the node that it starts, may open so many files.
fn allow_files(wanted: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        now.maximum.is_none_or(|most| most >= wanted),
        "{wanted} open files are needed, and the hard limit is {:?}: raise it (ulimit -Hn)",
        now.maximum
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            maximum: now.maximum,
        },
    )
    .context("cannot raise the limit of open files")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_callers_do_not_stop_others() -> Result<()> {
    let idle = setting("TIDEMILL_IDLE_CONNECTIONS", 1_000);
    let slow = setting("TIDEMILL_SLOW_WRITERS", 100);
    // The node first: it raises its own limit.
    let cluster = cluster_with_flow().await?;
    allow_files(idle + slow + FILES_SPARE)?;
    let node = cluster.nodes[0].http.clone();

    let mut held = Vec::new();
    for _ in 0..idle {
        held.push(TcpStream::connect(&node).await?);
    }
    let mut writers = Vec::new();
    for number in 0..slow {
        let mut stream = TcpStream::connect(&node).await?;
        // Half of them are slow with their headers, half with their body.
        let begin: &[u8] = if number % 2 == 0 {
            b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nX-Slow: "
        } else {
            b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        };
        stream.write_all(begin).await?;
        writers.push(tokio::spawn(async move {
            // Until the server has had enough, or the test has.
            while stream.write_all(b" ").await.is_ok() {
                sleep(Duration::from_millis(500)).await;
            }
        }));
    }
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let begun = Instant::now();
        let answer = send(&node, "POST /hook/orders", &[JSON], b"{}").await?;
        ensure!(answer.status == 200, "{answer:?}");
        times.push(begun.elapsed());
        ensure!(
            begun.elapsed() < SERVED_WITHIN,
            "took {:?}",
            begun.elapsed()
        );
    }
    ensure!(send(&node, "GET /ready", &[], b"").await?.status == 200);
    times.sort();
    println!(
        "{{\"idle\": {idle}, \"slow\": {slow}, \"calls\": {CALLS}, \"p50_ms\": {:.1}, \"p99_ms\": {:.1}}}",
        times[CALLS / 2].as_secs_f64() * 1e3,
        times[CALLS * 99 / 100].as_secs_f64() * 1e3,
    );
    for writer in writers {
        writer.abort();
    }
    drop(held);
    Ok(())
}

const REQUESTS: &[&[u8]] = &[
    b"GET /hook/orders?a[b]=1&c=2&c=3 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /hook/orders/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"a\":[1,2,3]}",
    b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\nContent-Length: 28\r\n\r\n<a b='1'><n:c>&lt;</n:c></a>",
    b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n\r\na[][b]=1&%C3%BC=",
    b"POST /hook/orders HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\nTrailer: 1\r\n\r\n",
    b"POST /hook/orders/%2e%2e HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Encoding: gzip\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n--b-",
    b"GET /flows?page[size]=5&filter[status]=1&sort=-name&search=%F0%9F%98%80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /flows HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 48\r\n\r\n[{\"name\":\"f\",\"graph\":{\"nodes\":[{\"id\":\"a\"}]}},{}]",
    b"PATCH /flows/000000000000000000000000 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /executions?filter[flowId]=000000000000000000000000 HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
];

/// A request, or several, with some of it changed.
fn nonsense(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(2) {
        bytes.extend_from_slice(REQUESTS[random.below(REQUESTS.len())]);
    }
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len());
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.draw() as u8,
            1 => drop(bytes.drain(at..end)),
            2 => bytes.truncate(at),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let noise: Vec<u8> = (0..random.below(64)).map(|_| random.draw() as u8).collect();
                bytes.splice(at..at, noise);
            }
            5 => {
                let parts: [&[u8]; 7] = [
                    b"\r\n",
                    b"\0",
                    b"Content-Length: 18446744073709551616\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"ffffffffffffffff\r\n",
                    b"Content-Length: 3\r\n",
                    b"%00%ff",
                ];
                let part = parts[random.below(parts.len())];
                bytes.splice(at..at, part.iter().copied());
            }
            _ => {
                let long = vec![b"a/ \r["[random.below(5)]; random.below(100_000)];
                bytes.splice(at..at, long);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}

/// Sends nonsense, whole or in pieces, and reads for a moment what comes.
async fn disturb(node: &str, random: &mut Random) -> Result<()> {
    let bytes = nonsense(random);
    let mut stream = TcpStream::connect(node).await?;
    let pieces = 1 + random.below(3);
    for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
        if stream.write_all(piece).await.is_err() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    if random.below(4) == 0 {
        // Gone without a word.
        return Ok(());
    }
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(1), stream.read_to_end(&mut answer)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_harms_nobody() -> Result<()> {
    let seconds = setting("TIDEMILL_FUZZ_SECONDS", 3);
    let seed = setting("TIDEMILL_FUZZ_SEED", rand_seed());
    println!("TIDEMILL_FUZZ_SEED={seed}");
    let mut cluster = cluster_with_flow().await?;
    let node: Arc<str> = cluster.nodes[0].http.clone().into();
    let end = Instant::now() + Duration::from_secs(seconds);
    let callers = (0..8_u64).map(|caller| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let mut random = Random::new(seed, caller);
            let mut sent = 0_usize;
            while Instant::now() < end {
                disturb(&node, &mut random).await?;
                sent += 1;
            }
            anyhow::Ok(sent)
        })
    });
    let mut sent = 0;
    for caller in join_all(callers).await {
        sent += caller??;
    }
    println!("{{\"requests\": {sent}, \"seconds\": {seconds}}}");
    ensure!(sent > 0, "nothing was sent");
    let answer = send(&node, "POST /hook/orders", &[JSON], b"{}").await?;
    ensure!(answer.status == 200, "{answer:?}");
    ensure!(send(&node, "GET /ready", &[], b"").await?.status == 200);
    let log = std::fs::read_to_string(&cluster.nodes[0].log)?;
    ensure!(!log.contains("panicked"), "seed {seed}: {log}");
    ensure!(cluster.nodes[0].terminate().await?.success());
    Ok(())
}

/// Another one each time, from the addresses that the system chooses.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
