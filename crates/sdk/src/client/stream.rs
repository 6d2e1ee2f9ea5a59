//! A stream of answers that is opened again, at another node, when its node is lost.

use std::{future::Future, sync::Arc};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{Call, Client, outcome, retry_pause, timed_out};
use crate::{
    backoff::Backoff,
    error::{ClientError, Reached, read_status},
};

/// One logical stream over as many calls as it takes.
#[derive(Debug)]
pub(super) struct Resuming<T> {
    open: Option<(Arc<str>, Streaming<T>)>,
}

impl<T> Resuming<T> {
    pub(super) const fn new() -> Self {
        Self { open: None }
    }

    /// The next answer; nothing when the server ended the stream in order. `open` must ask for what
    /// comes after the answers that were taken so far.
    pub(super) async fn next<F, Fut>(
        &mut self,
        client: &Client,
        name: &'static str,
        open: F,
    ) -> Result<Option<T>, ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let mut backoff = Backoff::default();
        // Set by the first failure: a quiet stream may be quiet for ever, a lost one not.
        let mut deadline = None;
        loop {
            let (reached, error) = match &mut self.open {
                Some((address, stream)) => match stream.message().await {
                    Ok(answer) => return Ok(answer),
                    Err(status) => read_status(&status, address),
                },
                None => {
                    let node = client.node();
                    let until = Instant::now() + client.shared.attempt_timeout;
                    match timeout_at(until, open(node.channel)).await {
                        Ok(Ok(response)) => {
                            self.open = Some((node.address, response.into_inner()));
                            continue;
                        }
                        Ok(Err(status)) => read_status(&status, &node.address),
                        Err(_) => (Reached::Perhaps, timed_out(name, &node.address)),
                    }
                }
            };
            self.open = None;
            let deadline =
                *deadline.get_or_insert_with(|| Instant::now() + client.shared.call_timeout);
            let pause = retry_pause(&error, &mut backoff)
                .filter(|pause| client.shared.retry && Instant::now() + *pause < deadline);
            let Some(pause) = pause else {
                return Err(outcome(error, Call::read(name), false));
            };
            tracing::debug!(rpc = name, ?reached, error = %error, "stream is opened again");
            client.leave(&error.endpoint);
            sleep(pause).await;
        }
    }
}
