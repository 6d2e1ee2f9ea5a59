//! Serves the HTTP port: HTTP/1.1, with a time-out for headers and graceful shutdown.

use std::{pin::pin, time::Duration};

use axum::Router;
use futures::StreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::listen;

/// Serves at most so many connections at once until `close`, then ends what is under way. A connection on which the headers of the next
/// request do not come in time is closed.
///
/// HTTP/1.1 only: with both, the first bytes of a connection decide which it is, and those would be
/// awaited without a time-out.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    headers_timeout: Duration,
    most: usize,
    close: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_timeout);
    let service = TowerToHyperService::new(router);
    let graceful = GracefulShutdown::new();
    {
        let mut connections = pin!(listen::connections(listener, most));
        while let Some(Some(Ok(connection))) = close.run_until_cancelled(connections.next()).await {
            let connection = builder
                .serve_connection(TokioIo::new(connection), service.clone())
                .into_owned();
            let watched = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = watched.await {
                    // Of the caller: gone, slow, or no HTTP.
                    tracing::debug!(error, "HTTP connection ended");
                }
            });
        }
    }
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn callers_that_are_idle_or_slow_are_shown_out_and_others_served() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", get(|| async { "hello" }));
        let close = CancellationToken::new();
        let port = tokio::spawn(serve(
            listener,
            router,
            Duration::from_millis(200),
            10,
            close.clone(),
        ));
        let idle = TcpStream::connect(address).await.expect("connected");
        let mut slow = TcpStream::connect(address).await.expect("connected");
        slow.write_all(b"GET / HTTP/1.1\r\nHost: ")
            .await
            .expect("sent");
        let mut quick = TcpStream::connect(address).await.expect("connected");
        quick
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("sent");
        for (mut stream, answer) in [(quick, "HTTP/1.1 200"), (idle, ""), (slow, "")] {
            let mut text = String::new();
            timeout(WAIT, stream.read_to_string(&mut text))
                .await
                .expect("closed in time")
                .expect("an end");
            assert!(text.starts_with(answer), "{text}");
        }
        close.cancel();
        timeout(WAIT, port).await.expect("ends").expect("no panic");
    }
}
