//! Hosts in network namespaces around one switch, whose links can be cut, slowed and made lossy.
//!
//! Needs root and iproute2; lossy links need nft too. Every namespace has a name of its own and is removed
//! when this is dropped. Nothing is reachable from outside: the switch lies in a namespace as well.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, ensure};

/// The host on which clients and workers run.
pub const CLIENTS: u64 = 0;
/// No host has this address: what is sent to it is lost without a word, as in a cut.
const NOBODY: &str = "02:00:00:00:00:01";

/// Where the system lists namespaces.
const SPACES: &str = "/run/netns";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What all our namespaces' names begin with; the owner's process id follows.
const PREFIX: &str = "tidemill-";

/// True when no process has this id.
#[must_use]
pub fn is_gone(pid: &str) -> bool {
    pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists()
}

/// The switch and its hosts.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    hosts: Vec<u64>,
    /// How many faults cut this direction.
    cuts: BTreeMap<(u64, u64), u32>,
    has_nft: bool,
}

fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().context("a command")?;
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "`{command}`: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

impl Network {
    /// Ends what campaigns left behind whose process is gone (somebody killed it): the servers in their
    /// namespaces, and these.
    pub fn sweep() {
        let spaces = std::fs::read_dir(SPACES).into_iter().flatten().flatten();
        for space in spaces.filter_map(|entry| entry.file_name().into_string().ok()) {
            let owner = space
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('-').next());
            if !owner.is_some_and(is_gone) {
                continue;
            }
            let inside = Command::new("ip").args(["netns", "pids", &space]).output();
            for pid in inside
                .iter()
                .flat_map(|output| output.stdout.split(|b| *b == b'\n'))
            {
                if let Ok(pid) = String::from_utf8_lossy(pid).parse::<u32>() {
                    let _ = run(&format!("kill -9 {pid}"));
                }
            }
            let _ = run(&format!("ip netns del {space}"));
        }
    }

    /// Makes hosts [`CLIENTS`] to `last`.
    ///
    /// # Errors
    /// Where namespaces are not to be had (no root, no iproute2).
    pub fn create(last: u64) -> Result<Self> {
        let number = NEXT.fetch_add(1, Relaxed);
        let mut network = Self {
            prefix: format!("{PREFIX}{}-{number}", std::process::id()),
            hosts: Vec::new(),
            cuts: BTreeMap::new(),
            has_nft: false,
        };
        let switch = network.switch();
        run(&format!("ip netns add {switch}"))?;
        run(&format!("ip -n {switch} link add br0 type bridge"))?;
        run(&format!("ip -n {switch} link set br0 up"))?;
        for host in CLIENTS..=last {
            let space = network.space(host);
            run(&format!("ip netns add {space}"))?;
            network.hosts.push(host);
            run(&format!(
                "ip -n {switch} link add p{host} type veth peer name eth0 netns {space}"
            ))?;
            run(&format!("ip -n {switch} link set p{host} master br0 up"))?;
            run(&format!(
                "ip -n {space} addr add {}/24 dev eth0",
                address(host)
            ))?;
            run(&format!("ip -n {space} link set lo up"))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
        }
        network.has_nft = network.prepare_loss().is_ok();
        Ok(network)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    /// A host's namespace.
    #[must_use]
    pub fn space(&self, host: u64) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// The file by which a process enters a host.
    #[must_use]
    pub fn door(&self, host: u64) -> PathBuf {
        PathBuf::from(SPACES).join(self.space(host))
    }

    /// Whether links can be made lossy.
    #[must_use]
    pub fn can_lose(&self) -> bool {
        self.has_nft
    }

    fn nft(&self, script: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.switch(), "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes())?;
        }
        ensure!(child.wait()?.success(), "nft refused {script:?}");
        Ok(())
    }

    fn prepare_loss(&self) -> Result<()> {
        self.nft("table bridge tm {\n chain f {\n type filter hook forward priority 0\n }\n}\n")
    }

    /// Cuts these directions, besides those that other faults cut.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&mut self, pairs: &[(u64, u64)]) -> Result<()> {
        for pair in pairs {
            let count = self.cuts.entry(*pair).or_default();
            *count += 1;
            if *count == 1 {
                let (from, to) = *pair;
                run(&format!(
                    "ip -n {} neigh replace {} lladdr {NOBODY} dev eth0 nud permanent",
                    self.space(from),
                    address(to)
                ))?;
            }
        }
        Ok(())
    }

    /// The end of a [`Self::cut`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn join(&mut self, pairs: &[(u64, u64)]) -> Result<()> {
        for pair in pairs {
            let Some(count) = self.cuts.get_mut(pair) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(pair);
                let (from, to) = *pair;
                let (space, to) = (self.space(from), address(to));
                run(&format!("ip -n {space} neigh del {to} dev eth0"))?;
            }
        }
        Ok(())
    }

    /// A host sends 1 Mbit/s at most, and what waits longer than 400 ms is dropped.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn slow(&self, host: u64, is_slow: bool) -> Result<()> {
        let space = self.space(host);
        run(&if is_slow {
            format!("tc -n {space} qdisc add dev eth0 root tbf rate 1mbit burst 16kb latency 400ms")
        } else {
            format!("tc -n {space} qdisc del dev eth0 root")
        })
    }

    /// So many packets of a hundred to and from these hosts are lost; of no others any.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lose(&self, hosts: &BTreeMap<u64, u64>) -> Result<()> {
        let mut script = "flush chain bridge tm f\n".to_owned();
        for (host, percent) in hosts {
            for end in ["iifname", "oifname"] {
                script.push_str(&format!(
                    "add rule bridge tm f {end} \"p{host}\" ether type ip numgen random mod 100 < {percent} drop\n"
                ));
            }
        }
        self.nft(&script)
    }

    /// Moves the calling thread, and all that it starts, to a host.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn enter(door: &std::path::Path) -> Result<()> {
        let door = File::open(door)?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&door), Some(kind))?;
        Ok(())
    }
}

/// A host's address.
#[must_use]
pub fn address(host: u64) -> String {
    format!("10.99.0.{}", host + 1)
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = run(&format!("ip netns del {}", self.space(*host)));
        }
        let _ = run(&format!("ip netns del {}", self.switch()));
    }
}
