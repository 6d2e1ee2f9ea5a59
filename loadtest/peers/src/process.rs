//! A peer's server processes: their start, their end, and what the kernel says that they used.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Clock ticks per second in /proc: 100 on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;
/// How many of a log's last lines are shown when a server ends too early.
const LOG_LINES_SHOWN: usize = 30;
/// How long a server may take until it serves.
pub const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// Between two looks at whether it does.
pub const READY_POLL: Duration = Duration::from_millis(50);

/// A process that ends with this value.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: std::path::PathBuf,
}

impl Server {
    /// Starts it, its output going to a file in `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Fails, with the end of its log, when the process has ended.
    ///
    /// # Errors
    /// See above.
    pub fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            bail!("{} ended with {status}:\n{tail}", self.name);
        }
        Ok(())
    }

    /// What it used until now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn usage(&self) -> Result<Usage> {
        usage_of(&self.child.id().to_string())
    }
}

/// Of a process by its id, or `self`.
fn usage_of(pid: &str) -> Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name may hold spaces: fields are counted from its closing parenthesis.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("a stat line")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |at: usize| -> Result<f64> {
        Ok(fields.get(at).context("a field of stat")?.parse::<f64>()?)
    };
    let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        written_bytes: line(&io, "write_bytes:")?,
        rss_bytes: line(&status, "VmRSS:")? * 1024.0,
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Totals of processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, in seconds.
    pub cpu_seconds: f64,
    /// Bytes that were sent to the block layer.
    pub written_bytes: f64,
    /// Resident memory now.
    pub rss_bytes: f64,
}

impl Usage {
    /// Of this process: the load generator.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of_self() -> Result<Self> {
        usage_of("self")
    }

    /// Of all these together.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(servers: &[Server]) -> Result<Self> {
        let mut total = Self::default();
        for server in servers {
            let one = server.usage()?;
            total.cpu_seconds += one.cpu_seconds;
            total.written_bytes += one.written_bytes;
            total.rss_bytes += one.rss_bytes;
        }
        Ok(total)
    }
}

fn line(text: &str, name: &str) -> Result<f64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no line {name}"))?;
    let number = value
        .split_whitespace()
        .next()
        .with_context(|| format!("nothing after {name}"))?;
    Ok(number.parse()?)
}

/// A port of 127.0.0.1 on which nobody listens now. Two calls give different ones.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    /// Below the ports that the system gives to outgoing connections.
    const LOWEST: u16 = 10_000;
    const SPAN: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % u32::from(SPAN)).expect("below SPAN");
    for _ in 0..SPAN {
        let offset = (u32::from(begin) + u32::from(NEXT.fetch_add(1, Relaxed))) % u32::from(SPAN);
        let port = LOWEST + u16::try_from(offset).expect("below SPAN");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}
