//! Keep-alive HTTP connections: of one caller by HTTP/1.1, or shared by several by HTTP/2.

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A caller's end of a connection, with one request at a time.
#[derive(Debug)]
pub struct Connection {
    address: String,
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Own(http1::SendRequest<Full<Bytes>>),
    Shared(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(address: &str) -> Result<Self> {
        let (sender, connection) = http1::handshake(connect(address).await?).await?;
        // It ends with its sender; an error of its own shows in the next request.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            address: address.to_owned(),
            sender: Sender::Own(sender),
        })
    }

    /// The ends of so many callers of one HTTP/2 connection to `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody listens, or does not speak HTTP/2.
    pub async fn open_shared(address: &str, callers: usize) -> Result<Vec<Self>> {
        let stream = connect(address).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(async move { drop(connection.await) });
        let caller = |_| Self {
            address: address.to_owned(),
            sender: Sender::Shared(sender.clone()),
        };
        Ok((0..callers).map(caller).collect())
    }

    /// Sends one request and reads the whole answer: status and body.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, method: Method, path: &str, body: String) -> Result<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .header(CONTENT_TYPE, "application/json");
        let body = Full::new(Bytes::from(body));
        let response = match &mut self.sender {
            Sender::Own(sender) => {
                sender.ready().await?;
                let request = request.uri(path).header(HOST, &self.address);
                sender.send_request(request.body(body)?).await?
            }
            Sender::Shared(sender) => {
                sender.ready().await?;
                let request = request.uri(format!("http://{}{path}", self.address));
                sender.send_request(request.body(body)?).await?
            }
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }
}

async fn connect(address: &str) -> Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}
