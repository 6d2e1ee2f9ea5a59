//! The rule of the chain: `hash = SHA-256(hash before ‖ record)`, sequence numbers from 1 without gaps.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tidemill_sdk::api::JournalRecord;

/// What one partition's chain has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    partition: u32,
    seq: u64,
    hash: [u8; 32],
    at_us: i64,
}

/// The chain breaks at a record. What comes after it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    pub partition: u32,
    /// The sequence number that was expected.
    pub seq: u64,
    pub reason: String,
}

impl std::fmt::Display for Break {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "partition {}, record {}: {}",
            self.partition, self.seq, self.reason
        )
    }
}

impl Chain {
    /// Before the first record.
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            seq: 0,
            hash: [0; 32],
            at_us: i64::MIN,
        }
    }

    /// The last record's sequence number; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The last record's hash; zeros before the first.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Takes the next record, or says what is wrong with it.
    pub fn take(&mut self, record: &[u8], hash: &[u8]) -> Result<JournalRecord, Break> {
        let expected = self.seq + 1;
        let broken = |reason: String| Break {
            partition: self.partition,
            seq: expected,
            reason,
        };
        let decoded = JournalRecord::decode(record)
            .map_err(|error| broken(format!("the record's bytes cannot be read: {error}")))?;
        if decoded.partition != self.partition {
            let other = decoded.partition;
            return Err(broken(format!("the record is one of partition {other}")));
        }
        if decoded.seq != expected {
            let found = decoded.seq;
            let kind = if found > expected {
                "records are missing"
            } else {
                "a record is repeated or out of order"
            };
            return Err(broken(format!("{kind}: found sequence number {found}")));
        }
        let computed: [u8; 32] = Sha256::new()
            .chain_update(self.hash)
            .chain_update(record)
            .finalize()
            .into();
        if computed != hash {
            return Err(broken(
                "the hash does not follow from the record and the hash before: one of them was changed"
                    .to_owned(),
            ));
        }
        if decoded.at_us < self.at_us {
            return Err(broken(
                "its time is before that of the record before".to_owned(),
            ));
        }
        self.seq = expected;
        self.hash = computed;
        self.at_us = decoded.at_us;
        Ok(decoded)
    }
}

/// A chain of records for tests, as a server makes it.
#[cfg(test)]
pub fn sample(partition: u32, count: u64) -> Vec<(Vec<u8>, [u8; 32])> {
    let mut hash = [0_u8; 32];
    (1..=count)
        .map(|seq| {
            let record = JournalRecord {
                seq,
                at_us: 1_795_229_999_000_000 + seq as i64,
                partition,
                kind: "step.succeeded".to_owned(),
                actor: "worker:w".to_owned(),
                node: format!("n{seq}"),
                execution_id: vec![7; 16].into(),
                step: 1,
                ..JournalRecord::default()
            }
            .encode_to_vec();
            hash = Sha256::new()
                .chain_update(hash)
                .chain_update(&record)
                .finalize()
                .into();
            (record, hash)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(partition: u32, entries: &[(Vec<u8>, [u8; 32])]) -> Result<Chain, Break> {
        let mut chain = Chain::new(partition);
        for (record, hash) in entries {
            chain.take(record, hash)?;
        }
        Ok(chain)
    }

    #[test]
    fn a_sound_chain_ends_in_its_last_hash() {
        let entries = sample(1, 5);
        let chain = verify(1, &entries).expect("sound");
        assert_eq!((chain.seq(), chain.hash()), (5, &entries[4].1));
    }

    #[test]
    fn every_damage_is_found_where_it_is() {
        let sound = sample(1, 5);
        let mut tampered = sound.clone();
        *tampered[2].0.last_mut().unwrap() ^= 1;
        let mut rehashed = tampered.clone();
        // Whoever changes a record and computes its hash anew is found at the next one.
        rehashed[2].1 = Sha256::new()
            .chain_update(sound[1].1)
            .chain_update(&rehashed[2].0)
            .finalize()
            .into();
        let mut gap = sound.clone();
        gap.remove(2);
        let mut swapped = sound.clone();
        swapped.swap(2, 3);
        let mut headless = sound.clone();
        headless.remove(0);
        let mut repeated = sound.clone();
        repeated.insert(2, sound[1].clone());
        let mut garbage = sound.clone();
        garbage[2].0 = vec![0xff; 9];
        for (name, entries, seq, word) in [
            ("tampered", tampered, 3, ""),
            ("rehashed", rehashed, 4, "hash"),
            ("gap", gap, 3, "missing"),
            ("swapped", swapped, 3, "missing"),
            ("headless", headless, 1, "missing"),
            ("repeated", repeated, 3, "repeated"),
            ("garbage", garbage, 3, "cannot be read"),
        ] {
            let broken = verify(1, &entries).expect_err(name);
            assert_eq!(broken.seq, seq, "{name}: {broken}");
            assert!(broken.reason.contains(word), "{name}: {broken}");
        }
        let other = verify(2, &sound).expect_err("wrong partition");
        assert!(other.reason.contains("partition 1"), "{other}");
    }
}
