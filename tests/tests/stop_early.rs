//! A node that is told to stop before it is part of its cluster ends as one that is: by itself, with
//! nothing broken.

use anyhow::{Result, ensure};
use tidemill_tests::{Cluster, http, until};

/// The signal comes at another moment each time.
const TRIES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_peers_stops_when_told() -> Result<()> {
    let mut cluster = Cluster::builder(3).prepare()?;
    let node = cluster.node_mut(1);
    for _ in 0..TRIES {
        node.launch()?;
        let address = node.http.clone();
        until("the node answers", || async {
            http::get(&address, "/live").await.ok()
        })
        .await?;
        let status = node.terminate().await?;
        ensure!(
            status.success(),
            "it ended with {status}:\n{}",
            node.log_tail()
        );
    }
    Ok(())
}
