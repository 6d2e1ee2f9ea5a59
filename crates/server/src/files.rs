//! How many files this process may open: every connection is one, and so is every file of the store.
//!
//! Owns the share of each. Must never leave connections so many that the store finds none: it would stop.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidemill_types::limits::{CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX};

/// For the store, peers, logs and the like.
const FILES_SPARE: u64 = 4_096;

/// How many connections the ports may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    pub grpc: usize,
    pub http: usize,
}

impl Connections {
    /// As many as the limits say, unless that is more than the files that may be opened.
    fn within(files: u64) -> Self {
        let spare = FILES_SPARE.min(files / 5);
        let all = usize::try_from(files - spare).unwrap_or(usize::MAX);
        Self {
            grpc: CONNECTIONS_MAX.min(all / 4),
            http: HTTP_CONNECTIONS_MAX.min(all - all / 4),
        }
    }
}

/// Raises the limit of open files to what all connections need, as far as the system lets it, and says how
/// many there may be. Shells begin with 1,024.
pub(crate) fn allow_connections() -> Connections {
    // A quarter of all for gRPC must be enough for all of its connections.
    let wanted = (HTTP_CONNECTIONS_MAX.max(CONNECTIONS_MAX * 3) + CONNECTIONS_MAX) as u64;
    let wanted = wanted + FILES_SPARE;
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(wanted, |most| most.min(wanted));
    if now.current.is_some_and(|current| current < most) {
        let raised = Rlimit {
            current: Some(most),
            maximum: now.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = Connections::within(allowed);
    if allowed < wanted {
        let Connections { grpc, http } = connections;
        tracing::warn!(
            allowed,
            wanted,
            grpc,
            http,
            "few files may be opened, so there may be fewer connections: raise the hard limit (LimitNOFILE, ulimit -Hn)"
        );
    }
    connections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        for files in [0, 100, 1_024, 20_000, 65_536, 1 << 40] {
            let Connections { grpc, http } = Connections::within(files);
            let left = files - (grpc + http) as u64;
            assert!(left >= FILES_SPARE.min(files / 5), "{files}: {left}");
        }
        let all = Connections::within(1 << 20);
        assert_eq!(
            (all.grpc, all.http),
            (CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX)
        );
        assert!(Connections::within(20_000).http >= 11_000);
    }

    #[test]
    fn as_many_as_the_system_lets() {
        let connections = allow_connections();
        let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert_eq!(connections, Connections::within(now));
    }
}
