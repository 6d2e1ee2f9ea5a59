//! Which commands made the logic panic, and how long to wait before the next start.

use std::{collections::BTreeMap, time::Duration};

use tidemill_rows::Hash;
use tidemill_types::limits::{PANICKED_COMMANDS_MAX, PANICS_BEFORE_QUARANTINE};
use tokio::time::Instant;

/// A panic that was caught: where it came from, for the journal and for the next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panic {
    /// The command's digest; none when a tick or the making of a batch panicked.
    pub(super) digest: Option<Hash>,
    pub(super) command: &'static str,
    pub(super) reason: String,
}

/// What an actor remembers of panics, across epochs. Lost with the process: a command that panics on
/// every node is found out anew by each leader, which costs two restarts.
#[derive(Debug, Default)]
pub(super) struct Poison {
    commands: BTreeMap<Hash, Suspect>,
    in_a_row: u32,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Suspect {
    command: &'static str,
    panics: u32,
    reason: String,
}

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After this time without a panic the pauses begin anew.
const CALM: Duration = Duration::from_secs(60);

impl Poison {
    /// Takes note of a panic; true when its command is refused from now on.
    pub(super) fn note(&mut self, panic: &Panic, now: Instant) -> bool {
        if self.last.is_some_and(|last| now - last > CALM) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some(now);
        let Some(digest) = panic.digest else {
            return false;
        };
        if self.commands.len() >= PANICKED_COMMANDS_MAX && !self.commands.contains_key(&digest) {
            // Any: with so many the fault is not in the commands.
            self.commands.pop_first();
        }
        let suspect = self.commands.entry(digest).or_insert(Suspect {
            command: panic.command,
            panics: 0,
            reason: String::new(),
        });
        suspect.panics += 1;
        suspect.reason.clone_from(&panic.reason);
        suspect.panics >= PANICS_BEFORE_QUARANTINE
    }

    /// How long to wait before the next start.
    pub(super) fn pause(&self) -> Duration {
        // The first restart is free: most panics are of one command, which is asked once.
        match self.in_a_row {
            0 | 1 => Duration::ZERO,
            n => (PAUSE_MIN * 2_u32.saturating_pow((n - 2).min(16))).min(PAUSE_MAX),
        }
    }

    /// Names of the commands that panicked: those are looked up before they are decided.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.values().map(|suspect| suspect.command)
    }

    /// Why the command is refused, if it is.
    pub(super) fn refusal(&self, digest: Hash) -> Option<&str> {
        self.commands
            .get(&digest)
            .filter(|suspect| suspect.panics >= PANICS_BEFORE_QUARANTINE)
            .map(|suspect| suspect.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panic(digest: u8) -> Panic {
        Panic {
            digest: Some(Hash([digest; 32])),
            command: "start",
            reason: "why".into(),
        }
    }

    #[test]
    fn refuses_a_command_that_panicked_twice() {
        let (mut poison, now) = (Poison::default(), Instant::now());
        assert!(!poison.note(&panic(1), now));
        assert!(!poison.note(&panic(2), now));
        assert_eq!(poison.refusal(Hash([1; 32])), None);
        assert!(poison.note(&panic(1), now));
        assert_eq!(poison.refusal(Hash([1; 32])), Some("why"));
        assert_eq!(poison.refusal(Hash([2; 32])), None);
    }

    #[test]
    fn pauses_grow_and_begin_anew() {
        let (mut poison, mut now) = (Poison::default(), Instant::now());
        poison.note(&panic(1), now);
        assert_eq!(poison.pause(), Duration::ZERO);
        for _ in 0..40 {
            poison.note(&panic(1), now);
        }
        assert_eq!(poison.pause(), PAUSE_MAX);
        now += CALM + Duration::from_secs(1);
        poison.note(&panic(1), now);
        assert_eq!(poison.pause(), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut poison, now) = (Poison::default(), Instant::now());
        for n in 0..PANICKED_COMMANDS_MAX as u32 + 10 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_be_bytes());
            poison.note(
                &Panic {
                    digest: Some(Hash(digest)),
                    ..panic(0)
                },
                now,
            );
        }
        assert_eq!(poison.commands.len(), PANICKED_COMMANDS_MAX);
    }
}
