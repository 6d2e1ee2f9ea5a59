//! The servers that are measured: started here with fresh data, or somebody else's by their endpoints.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tidemill_sdk::{Client, api::GetStatusRequest};
use tidemill_tests::Cluster;

use crate::options::Options;

/// One server.
#[derive(Clone, Debug)]
pub struct ServerNode {
    /// Its id in the cluster.
    pub id: u64,
    /// Where clients connect: `http://HOST:PORT`.
    pub endpoint: String,
    /// `HOST:PORT` of the HTTP port.
    pub http: String,
    /// Its process, when it was started here and runs.
    pub pid: Option<u32>,
}

/// All servers of a run.
#[derive(Debug)]
pub enum Servers {
    /// Started here; ended when this is dropped.
    Own(Box<Cluster>),
    /// Found by their endpoints; their data is there before and after.
    Others {
        /// The members.
        nodes: Vec<ServerNode>,
        /// The catalog and the partitions.
        groups: Vec<u32>,
    },
}

impl Servers {
    /// Starts them, or finds them.
    ///
    /// # Errors
    /// When they do not become ready, or do not answer.
    pub async fn begin(options: &Options) -> Result<Self> {
        if options.endpoint.is_empty() {
            let mut builder = Cluster::builder(usize::try_from(options.nodes)?).name("loadtest");
            if let Some(binary) = &options.binary {
                builder = builder.binary(binary);
            }
            if let Some(partitions) = options.partitions {
                builder = builder.partitions(partitions);
            }
            return Ok(Self::Own(Box::new(builder.start().await?)));
        }
        let client = Client::connect(&options.endpoint).await?;
        let status = client.get_status(GetStatusRequest {}).await?;
        let nodes: Vec<ServerNode> = status
            .members
            .into_iter()
            .filter(|member| !member.grpc.is_empty())
            .map(|member| ServerNode {
                id: member.id,
                endpoint: format!("http://{}", member.grpc),
                http: member.http,
                pid: None,
            })
            .collect();
        ensure!(
            !nodes.is_empty() && nodes.iter().all(|node| !node.http.is_empty()),
            "the servers do not name the gRPC and HTTP addresses of all members"
        );
        Ok(Self::Others {
            nodes,
            groups: status.partitions.iter().map(|group| group.id).collect(),
        })
    }

    /// All servers.
    pub fn nodes(&self) -> Vec<ServerNode> {
        match self {
            Self::Own(cluster) => cluster
                .nodes
                .iter()
                .map(|node| ServerNode {
                    id: node.id,
                    endpoint: node.endpoint(),
                    http: node.http.clone(),
                    pid: node.pid(),
                })
                .collect(),
            Self::Others { nodes, .. } => nodes.clone(),
        }
    }

    /// Whether a node runs, as far as is known here.
    pub fn runs(&self, node: &ServerNode) -> bool {
        matches!(self, Self::Others { .. }) || node.pid.is_some()
    }

    /// The catalog and the partitions.
    pub fn groups(&self) -> Vec<u32> {
        match self {
            Self::Own(cluster) => cluster.groups(),
            Self::Others { groups, .. } => groups.clone(),
        }
    }

    /// Where clients connect: all nodes, beginning with another one for each client.
    pub fn endpoints_for(&self, client: usize) -> Vec<String> {
        let mut endpoints: Vec<String> =
            self.nodes().into_iter().map(|node| node.endpoint).collect();
        let count = endpoints.len().max(1);
        endpoints.rotate_left(client % count);
        endpoints
    }

    /// A client that begins with the first node.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn client(&self) -> Result<Client> {
        self.client_number(0).await
    }

    /// One of many clients, with a connection of its own.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn client_number(&self, client: usize) -> Result<Client> {
        Ok(Client::connect(self.endpoints_for(client)).await?)
    }

    /// A client that asks this node and no other.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn client_of(&self, node: &ServerNode) -> Result<Client> {
        let client = Client::builder([&node.endpoint]).discover(false);
        Ok(client.connect().await?)
    }

    /// The processes that were started here, to be killed and started again.
    ///
    /// # Errors
    /// When they are somebody else's.
    pub fn own(&mut self) -> Result<&mut Cluster> {
        match self {
            Self::Own(cluster) => Ok(cluster),
            Self::Others { .. } => anyhow::bail!("the servers at --endpoint are left alone"),
        }
    }

    /// What all data folders take on disk, without the reserve for a full disk.
    ///
    /// # Errors
    /// When the servers are somebody else's, or a folder cannot be read.
    pub fn disk_bytes(&self) -> Result<u64> {
        match self {
            Self::Own(cluster) => cluster
                .nodes
                .iter()
                .map(|node| folder_bytes(&node.data_dir))
                .sum(),
            Self::Others { .. } => {
                anyhow::bail!("the folders of the servers at --endpoint are not known")
            }
        }
    }
}

/// What a folder takes. Files come and go meanwhile: what is gone counts nothing.
///
/// # Errors
/// When it cannot be read.
fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    for entry in entries {
        let entry = entry?;
        // The reserve for a full disk is there whatever is stored.
        if entry.file_name() == "BALLAST" {
            continue;
        }
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path())?,
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(bytes)
}

/// The binary that a run starts.
///
/// # Errors
/// When there is none.
pub fn binary(options: &Options) -> Result<PathBuf> {
    match &options.binary {
        Some(binary) => Ok(binary.clone()),
        None => tidemill_tests::tidemill_binary(),
    }
}
