//! The nodes of a campaign: each a process on a host of its own, with a disk of its own, where this machine can
//! give it these.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    disk::Disk,
    network::{Network, address},
    tools::{Switches, Sync, Tools},
};
use crate::{Node, binary::tidemill_binary, node::Launcher, ports::free_port};

/// Hosts for nodes that join.
pub const SPARE_HOSTS: u64 = 1;
const PARTITIONS: u32 = 2;
/// A snapshot every few seconds, so that a node that was away for a few is sent one.
const SNAPSHOTS: [(&str, &str); 2] = [
    ("TIDEMILL_RAFT_SNAPSHOT_ENTRIES", "200"),
    ("TIDEMILL_RAFT_SNAPSHOT_KEEP", "50"),
];
const PORTS: [u16; 3] = [7_450, 7_480, 7_470];

/// What this machine gives a campaign, and what it does not.
#[derive(Debug)]
pub struct Machine {
    /// Hosts of their own; without it the nodes share loopback, and no link can be cut.
    pub network: Option<Network>,
    /// Disks of their own.
    pub has_disks: bool,
    /// The C programs.
    pub tools: Option<Tools>,
    /// What is not to be had, and why, for people.
    pub missing: Vec<String>,
}

impl Machine {
    /// Finds out by trying.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(folder: &Path, nodes: u64) -> Result<Self> {
        let mut missing = Vec::new();
        let mut or_missing = |what: &str, error: anyhow::Error| {
            missing.push(format!("{what}: {error:#}"));
        };
        let network = Network::create(nodes + SPARE_HOSTS)
            .map_err(|error| or_missing("network faults (nodes share loopback)", error))
            .ok();
        if network.as_ref().is_some_and(|network| !network.can_lose()) {
            or_missing(
                "lossy links",
                anyhow::anyhow!("there is no nft, or this kernel refuses it"),
            );
        }
        let tools = Tools::build(folder)
            .map_err(|error| or_missing("clock skew, fsync errors, power cuts", error))
            .ok();
        let probe = Disk::create(&folder.join("probe"));
        let has_disks = probe
            .map_err(|error| or_missing("full disks and power cuts", error))
            .is_ok();
        Ok(Self {
            network,
            has_disks,
            tools,
            missing,
        })
    }
}

/// One of them.
#[derive(Debug)]
pub struct Member {
    /// Its process, ports and files.
    pub node: Node,
    /// Its disk, if it has one of its own.
    pub disk: Option<Disk>,
    /// Its clock and its fsync, if they can be changed.
    pub switches: Option<Switches>,
    /// The host that it runs on.
    pub host: u64,
    /// It was stopped by a signal, not ended.
    pub is_paused: bool,
    /// It should run: when it does not, it has ended by itself.
    pub should_run: bool,
    /// What strikes it now may well end it.
    pub may_end: bool,
    /// It runs the previous release's binary.
    pub is_previous: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Fleet {
    /// By id.
    pub members: BTreeMap<u64, Member>,
    /// What the machine gives.
    pub machine: Machine,
    folder: PathBuf,
    binary: PathBuf,
    previous: Option<PathBuf>,
    first: u64,
    /// What fsync does when no fault strikes it.
    pub(super) sync: Sync,
}

impl Fleet {
    /// Writes the configurations of so many nodes; starts nothing.
    ///
    /// # Errors
    /// When there is no binary, or no room.
    pub fn prepare(folder: &Path, nodes: u64, machine: Machine, sync: Sync) -> Result<Self> {
        let mut fleet = Self {
            members: BTreeMap::new(),
            machine,
            folder: folder.to_path_buf(),
            binary: tidemill_binary()?,
            previous: std::env::var_os("TIDEMILL_PREVIOUS_BINARY")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            first: nodes,
            sync,
        };
        for id in 1..=nodes {
            let member = fleet.place(id, id)?;
            fleet.members.insert(id, member);
        }
        let mut list = "bootstrap = [\n".to_owned();
        for (id, Member { node, .. }) in &fleet.members {
            let (peer, grpc, http) = (&node.peer, &node.grpc, &node.http);
            let _ = writeln!(
                list,
                "  {{ id = {id}, peer = \"{peer}\", grpc = \"{grpc}\", http = \"{http}\" }},"
            );
        }
        list.push(']');
        for member in fleet.members.values() {
            write_config(&member.node, &list)?;
        }
        Ok(fleet)
    }

    fn place(&self, id: u64, host: u64) -> Result<Member> {
        let folder = self.folder.join(format!("node-{id}"));
        std::fs::create_dir_all(&folder)?;
        let disk = match self.machine.has_disks {
            true => Some(Disk::create(&folder)?),
            false => None,
        };
        let mut launcher = Launcher {
            // By environment, since the previous release's configuration may not know these.
            variables: SNAPSHOTS
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Launcher::default()
        };
        let addresses: Vec<String> = match &self.machine.network {
            Some(network) => {
                let door = network.door(host).display().to_string();
                launcher.before = vec!["nsenter".to_owned(), format!("--net={door}")];
                PORTS
                    .map(|port| format!("{}:{port}", address(host)))
                    .to_vec()
            }
            None => {
                let ports: Result<Vec<u16>> = PORTS.iter().map(|_| free_port()).collect();
                ports?
                    .into_iter()
                    .map(|port| format!("127.0.0.1:{port}"))
                    .collect()
            }
        };
        let switches = match &self.machine.tools {
            Some(tools) => {
                let switches = Switches::create(folder.join("switches"))?;
                switches.sync(self.sync)?;
                let text = |path: &Path| path.display().to_string();
                launcher.variables.extend([
                    ("LD_PRELOAD".to_owned(), text(&tools.faults)),
                    ("TM_FAULTS".to_owned(), text(switches.path())),
                ]);
                Some(switches)
            }
            None => None,
        };
        let root = disk.as_ref().map_or(&*folder, Disk::path);
        Ok(Member {
            node: Node {
                id,
                grpc: addresses[0].clone(),
                http: addresses[1].clone(),
                peer: addresses[2].clone(),
                data_dir: root.join("data"),
                config: folder.join("node.toml"),
                log: folder.join("log"),
                binary: self.binary.clone(),
                launcher,
                process: None,
            },
            disk,
            switches,
            host,
            is_paused: false,
            should_run: false,
            may_end: false,
            is_previous: false,
        })
    }

    /// The ids of the first members.
    #[must_use]
    pub fn first(&self) -> Vec<u64> {
        (1..=self.first).collect()
    }

    /// The gRPC endpoints of the first members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let first = self.members.range(1..=self.first);
        first.map(|(_, member)| member.node.endpoint()).collect()
    }

    /// The HTTP addresses of the first members.
    #[must_use]
    pub fn http(&self) -> Vec<String> {
        let first = self.members.range(1..=self.first);
        first.map(|(_, member)| member.node.http.clone()).collect()
    }

    /// A member.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn member(&mut self, id: u64) -> Result<&mut Member> {
        self.members
            .get_mut(&id)
            .with_context(|| format!("no node {id}"))
    }

    /// Starts one more node, with an id that was never used and an empty disk. Gives its id.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_joining(&mut self, id: u64) -> Result<()> {
        let host = self.first + 1;
        let member = self.place(id, host)?;
        let by = self.members.values().next().context("a node")?;
        write_config(&member.node, &format!("join = \"{}\"", by.node.peer))?;
        self.members.insert(id, member);
        self.member(id)?.launch()
    }

    /// The binary of a member's next life: the previous release's and this one's in turn.
    pub fn change_binary(&mut self, id: u64) {
        let (Some(previous), Some(member)) = (&self.previous, self.members.get_mut(&id)) else {
            return;
        };
        member.is_previous = !member.is_previous;
        member.node.binary = if member.is_previous {
            previous
        } else {
            &self.binary
        }
        .clone();
    }

    /// Whether there is a previous release to restart with.
    #[must_use]
    pub fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Members whose process should run and does not: with how they ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Vec<(u64, ExitStatus)>> {
        let mut ended = Vec::new();
        for (id, member) in &mut self.members {
            if member.should_run
                && let Some(status) = member.node.ended()?
            {
                member.node.process = None;
                ended.push((*id, status));
            }
        }
        Ok(ended)
    }
}

impl Member {
    /// Starts its process, if it does not run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        self.should_run = true;
        if self.node.ended()?.is_some() {
            self.node.process = None;
        }
        match self.node.pid() {
            Some(_) => Ok(()),
            None => self.node.launch(),
        }
    }

    /// Changes its clock or disk. False when that cannot be done on this machine.
    ///
    /// # Errors
    /// When the switch cannot be written.
    pub fn switch(&self, change: impl FnOnce(&Switches) -> Result<()>) -> Result<bool> {
        self.switches.as_ref().map_or(Ok(false), |switches| {
            change(switches)?;
            Ok(true)
        })
    }

    /// Kills it, mends what struck it, and starts it again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn restart(&mut self, mend: impl FnOnce(&Switches) -> Result<()>) -> Result<()> {
        self.kill()?;
        self.switch(mend)?;
        self.may_end = false;
        self.launch()
    }

    /// SIGKILL, if it runs.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.should_run = false;
        self.is_paused = false;
        match self.node.pid() {
            Some(_) => self.node.kill(),
            None => Ok(()),
        }
    }

    /// SIGSTOP or SIGCONT, if it runs.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&mut self, is_paused: bool) -> Result<()> {
        if self.node.pid().is_some() {
            self.node.signal(if is_paused {
                Signal::STOP
            } else {
                Signal::CONT
            })?;
        }
        self.is_paused = is_paused;
        Ok(())
    }
}

fn write_config(node: &Node, cluster: &str) -> Result<()> {
    let (id, grpc, http, peer) = (node.id, &node.grpc, &node.http, &node.peer);
    let text = format!(
        "cluster_name = \"campaign\"\nnode_id = {id}\ndata_dir = \"{}\"\npartitions = {PARTITIONS}\n\
         insecure_no_auth = true\n\n[listen]\ngrpc = \"{grpc}\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n\n\
         [cluster]\n{cluster}\n\n[storage]\nreserve = \"32MiB\"\n\n[drain]\ndeadline = \"5s\"\n",
        node.data_dir.display(),
    );
    std::fs::write(&node.config, text)?;
    Ok(())
}
