//! What every command is given: where the cluster is, how long to try, how to print.

use std::time::Duration;

use tidemill_sdk::Client;

use crate::{cli::Global, failure::Failure, output::Output};

/// One connection attempt; nodes on other machines may need this long.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Context {
    pub endpoints: Vec<String>,
    pub timeout: Duration,
    pub output: Output,
}

impl Context {
    pub fn new(global: &Global, output: Output) -> Self {
        Self {
            endpoints: global.endpoint.clone(),
            timeout: global.timeout,
            output,
        }
    }

    /// A client of the cluster.
    pub async fn client(&self) -> Result<Client, Failure> {
        let client = Client::builder(&self.endpoints)
            .timeout(self.timeout)
            .connect_timeout(self.timeout.min(CONNECT_TIMEOUT_MAX))
            .connect()
            .await?;
        Ok(client)
    }

    /// A client of one node and no other.
    pub async fn client_of(&self, address: &str) -> Result<Client, Failure> {
        let client = Client::builder([address])
            .discover(false)
            .timeout(self.timeout)
            .connect_timeout(self.timeout.min(CONNECT_TIMEOUT_MAX))
            .connect()
            .await?;
        Ok(client)
    }
}
