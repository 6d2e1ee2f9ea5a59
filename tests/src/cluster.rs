//! A cluster of real processes.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tidemill_sdk::{
    Client,
    api::{GetStatusRequest, GetStatusResponse},
};

use crate::{
    Cli, Node,
    binary::tidemill_binary,
    journal::Chain,
    node::Launcher,
    ports::free_port,
    wait::{until, within},
};

/// How long a new leader may take, on a machine that compiles at the same time.
const LEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// How a [`Cluster`] is made.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    nodes: usize,
    partitions: u32,
    settings: String,
    data_roots: BTreeMap<u64, PathBuf>,
    binary: Option<PathBuf>,
    name: String,
    launcher: Launcher,
}

impl ClusterBuilder {
    /// The cores that the nodes run on, as `taskset -c` takes them.
    #[must_use]
    pub fn on_cores(mut self, cores: &str) -> Self {
        self.launcher.before = ["taskset", "-c", cores].map(str::to_owned).to_vec();
        self
    }

    /// A variable of the nodes' environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        let variable = (name.to_owned(), value.to_owned());
        self.launcher.variables.push(variable);
        self
    }

    /// Raft groups besides the catalog. Default: 1 for one node, else 2.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// TOML sections that end each node's file, such as `[storage]`.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.settings);
        self
    }

    /// Where a node's data lies, instead of in the cluster's own folder.
    #[must_use]
    pub fn data_root(mut self, id: u64, folder: impl Into<PathBuf>) -> Self {
        self.data_roots.insert(id, folder.into());
        self
    }

    /// The binary, instead of the usual one.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Writes the nodes' files; starts nothing.
    ///
    /// # Errors
    /// When there is no binary, or no room.
    pub fn prepare(self) -> Result<Cluster> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => tidemill_binary()?,
        };
        let folder = tempfile::Builder::new()
            .prefix("tidemill-test-")
            .tempdir()?;
        let mut cluster = Cluster {
            nodes: Vec::new(),
            folder: Some(folder),
            binary,
            options: self.clone(),
        };
        for id in 1..=self.nodes as u64 {
            let node = cluster.place(id)?;
            cluster.nodes.push(node);
        }
        let mut members = "bootstrap = [\n".to_owned();
        for node in &cluster.nodes {
            let _ = writeln!(
                members,
                "  {{ id = {}, peer = \"{}\", grpc = \"{}\", http = \"{}\" }},",
                node.id, node.peer, node.grpc, node.http
            );
        }
        members.push(']');
        for node in &cluster.nodes {
            cluster.write_config(node, &members)?;
        }
        Ok(cluster)
    }

    /// Starts the nodes and waits until all are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub async fn start(self) -> Result<Cluster> {
        let mut cluster = self.prepare()?;
        for node in &mut cluster.nodes {
            node.launch()?;
        }
        for node in &mut cluster.nodes {
            node.await_ready().await?;
        }
        Ok(cluster)
    }
}

/// Nodes that run on this machine until this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their ids, which begin at 1.
    pub nodes: Vec<Node>,
    folder: Option<TempDir>,
    binary: PathBuf,
    options: ClusterBuilder,
}

impl Cluster {
    /// Begins a cluster of so many nodes.
    #[must_use]
    pub fn builder(nodes: usize) -> ClusterBuilder {
        ClusterBuilder {
            nodes,
            partitions: if nodes == 1 { 1 } else { 2 },
            settings: String::new(),
            data_roots: BTreeMap::new(),
            binary: None,
            name: "test".to_owned(),
            launcher: Launcher::default(),
        }
    }

    /// Starts so many nodes and waits until all are ready.
    ///
    /// # Errors
    /// As [`ClusterBuilder::start`].
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::builder(nodes).start().await
    }

    fn root(&self) -> PathBuf {
        self.folder
            .as_ref()
            .expect("the folder is there until the drop")
            .path()
            .to_path_buf()
    }

    fn place(&self, id: u64) -> Result<Node> {
        let folder = self.root().join(format!("node-{id}"));
        std::fs::create_dir_all(&folder)?;
        let address = || free_port().map(|port| format!("127.0.0.1:{port}"));
        let data_root = self
            .options
            .data_roots
            .get(&id)
            .cloned()
            .unwrap_or_else(|| folder.clone());
        Ok(Node {
            id,
            grpc: address()?,
            http: address()?,
            peer: address()?,
            data_dir: data_root.join("data"),
            config: folder.join("node.toml"),
            log: folder.join("log"),
            binary: self.binary.clone(),
            launcher: self.options.launcher.clone(),
            process: None,
        })
    }

    fn write_config(&self, node: &Node, cluster: &str) -> Result<()> {
        let text = format!(
            "cluster_name = \"{}\"\nnode_id = {}\ndata_dir = \"{}\"\npartitions = {}\n\n\
             [listen]\ngrpc = \"{}\"\nhttp = \"{}\"\npeer = \"{}\"\n\n[cluster]\n{cluster}\n\n{}\n",
            self.options.name,
            node.id,
            node.data_dir.display(),
            self.options.partitions,
            node.grpc,
            node.http,
            node.peer,
            self.options.settings
        );
        std::fs::write(&node.config, text)?;
        Ok(())
    }

    /// A node by its id.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn node(&self, id: u64) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .expect("the test names nodes that exist")
    }

    /// A node by its id.
    ///
    /// # Panics
    /// When there is none.
    pub fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .expect("the test names nodes that exist")
    }

    /// The endpoints of all nodes.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// A client that knows all nodes.
    ///
    /// # Errors
    /// When none answers.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.endpoints()).await?)
    }

    /// A client that asks this node and no other.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn client_of(&self, id: u64) -> Result<Client> {
        let client = Client::builder([self.node(id).endpoint()])
            .discover(false)
            .connect()
            .await?;
        Ok(client)
    }

    /// The command line, aimed at this cluster.
    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::new(self.binary.clone(), self.endpoints())
    }

    /// The status as one node sees it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status_of(&self, id: u64) -> Result<GetStatusResponse> {
        Ok(self
            .client_of(id)
            .await?
            .get_status(GetStatusRequest {})
            .await?)
    }

    /// The nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|node| node.pid().is_some())
            .map(|node| node.id)
            .collect()
    }

    /// The leader of a group, once a node that runs names one that runs too and says itself that it
    /// leads.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn leader_of(&self, partition: u32) -> Result<u64> {
        within(
            LEADER_TIMEOUT,
            &format!("a leader of partition {partition}"),
            async || {
                for id in self.running() {
                    let named = self.leader_by(id, partition).await;
                    let Some(leader) = named.filter(|leader| self.running().contains(leader))
                    else {
                        continue;
                    };
                    if leader == id || self.leader_by(leader, partition).await == Some(leader) {
                        return Some(leader);
                    }
                }
                None
            },
        )
        .await
    }

    async fn leader_by(&self, id: u64, partition: u32) -> Option<u64> {
        let status = self.status_of(id).await.ok()?;
        let group = status
            .partitions
            .iter()
            .find(|group| group.id == partition)?;
        (group.leader != 0).then_some(group.leader)
    }

    /// Starts a stopped node and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn restart(&mut self, id: u64) -> Result<()> {
        let node = self.node_mut(id);
        node.launch()?;
        node.await_ready().await
    }

    /// Makes one more node, which joins by way of one that runs: its process runs, but it is no member
    /// until it is added. Gives its id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_joining(&mut self) -> Result<u64> {
        let id = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let mut node = self.place(id)?;
        let by = self
            .nodes
            .iter()
            .find(|node| node.pid().is_some())
            .context("no node runs")?
            .peer
            .clone();
        self.write_config(&node, &format!("join = \"{by}\""))?;
        node.launch()?;
        self.nodes.push(node);
        Ok(id)
    }

    /// The catalog and the partitions.
    #[must_use]
    pub fn groups(&self) -> Vec<u32> {
        (0..=self.options.partitions).collect()
    }

    /// Reads every chain of every running node, verifies each, and checks that all nodes have the
    /// same ones. Nodes may lag behind: waits until their heads are equal. Gives the chains by group.
    ///
    /// # Errors
    /// When a chain is broken, or nodes differ for good.
    pub async fn verified_journal(&self) -> Result<Vec<Chain>> {
        let nodes = self.running();
        until("equal journal heads on all nodes", async || {
            let mut all = Vec::new();
            for id in &nodes {
                let answer = self
                    .client_of(*id)
                    .await
                    .ok()?
                    .get_heads(Default::default())
                    .await
                    .ok()?;
                all.push(answer.heads);
            }
            all.windows(2).all(|pair| pair[0] == pair[1]).then_some(())
        })
        .await?;
        let mut chains: Vec<Chain> = Vec::new();
        for (position, id) in nodes.iter().enumerate() {
            let client = self.client_of(*id).await?;
            for group in self.groups() {
                let chain = Chain::read(&client, group)
                    .await
                    .with_context(|| format!("node {id}"))?;
                if position == 0 {
                    chains.push(chain);
                } else {
                    let first = &chains[group as usize];
                    ensure!(
                        first.head == chain.head && first.records.len() == chain.records.len(),
                        "nodes {} and {id} have different journals of partition {group}",
                        nodes[0]
                    );
                }
            }
        }
        Ok(chains)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        // A test that ends with an error does not panic; nextest shows what is printed only then.
        let show = failed || std::env::var_os("NEXTEST").is_some();
        for node in &mut self.nodes {
            if show {
                eprintln!(
                    "--- the end of node {}'s log ---\n{}",
                    node.id,
                    node.log_tail()
                );
            }
            if node.process.is_some() {
                let _ = node.kill();
            }
        }
        if let Some(folder) = self.folder.take()
            && failed
        {
            eprintln!(
                "--- logs and data are kept in {} ---",
                folder.keep().display()
            );
        }
    }
}
