//! The commands that made a group's logic panic more than once: refused from then on, by every leader.

use std::collections::BTreeSet;

use tidemill_rows::{
    Hash, Stored,
    journal::{NewRecord, kind},
    key::{self, Table},
    table::{QuarantineRow, quarantine_key},
};

use crate::{
    command::Restarted,
    ledger::{Damage, Ledger, Rows},
};

/// The journal's word for what nobody asked for.
const SYSTEM: &str = "system";

/// Digests of the refused commands, as the rows have them.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(BTreeSet<Hash>);

impl Quarantine {
    pub(crate) fn recover(ledger: &Ledger, rows: &dyn Rows) -> Result<Self, Damage> {
        let prefix = key::prefix(ledger.partition(), Table::Quarantine);
        let mut digests = BTreeSet::new();
        for (key, _) in ledger.scan_prefix(rows, &prefix)? {
            if let Some(digest) = key.get(key::PREFIX_LEN..).and_then(|d| d.try_into().ok()) {
                digests.insert(Hash(digest));
            }
        }
        Ok(Self(digests))
    }

    pub(crate) fn contains(&self, digest: Hash) -> bool {
        self.0.contains(&digest)
    }

    /// Records that the logic was restarted, and refuses the command if that is asked for.
    pub(crate) fn note(&mut self, ledger: &mut Ledger, panic: Restarted) {
        let Restarted {
            digest,
            command,
            reason,
            quarantine,
        } = panic;
        if quarantine && self.0.insert(digest) {
            let row = QuarantineRow {
                at: ledger.now(),
                command: command.clone(),
                reason,
            };
            ledger.put(quarantine_key(ledger.partition(), digest), row.to_bytes());
        }
        ledger.record(&NewRecord {
            kind: if quarantine {
                kind::COMMAND_QUARANTINED
            } else {
                kind::PARTITION_RESTARTED
            },
            actor: SYSTEM,
            detail: &command,
            payload_hash: Some(digest),
            ..NewRecord::default()
        });
    }
}
