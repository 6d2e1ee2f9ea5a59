//! Which rows of a state lie together: tables whose keys come in ascending order have column families of their own.
//!
//! All in one, each flushed file spans all tables, so each compaction rewrites all of the level below it, and ever more of
//! the time that finished executions pile up: at half a million it was 28 % of a node's processor time. A family
//! in which keys ascend has files that hardly overlap: they are merged once at the most, and then only moved.

use tidemill_rows::{
    Key, Table,
    key::{self, PREFIX_LEN},
};
use tidemill_types::PartitionId;

/// A column family of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Family {
    /// Whatever has no family of its own.
    Others = 0,
    /// Executions: their ids ascend.
    Executions = 1,
    /// Steps, by execution.
    Steps = 2,
    /// Messages, by execution.
    Messages = 3,
    /// Request ids: those that the server and its SDKs make begin with the time.
    Requests = 4,
    /// Timers: most are due as long after what they are of as the others.
    Timers = 5,
    /// Executions of a flow.
    ByFlow = 6,
    /// The journal: its numbers ascend, and no record ever changes.
    Journal = 7,
}

impl Family {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Others,
        Self::Executions,
        Self::Steps,
        Self::Messages,
        Self::Requests,
        Self::Timers,
        Self::ByFlow,
        Self::Journal,
    ];

    /// Its name in RocksDB: kept for ever.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Others => "default",
            Self::Executions => "executions",
            Self::Steps => "steps",
            Self::Messages => "messages",
            Self::Requests => "requests",
            Self::Timers => "timers",
            Self::ByFlow => "by-flow",
            Self::Journal => "journal",
        }
    }

    /// Whether rows come in the order of their keys, nearly, and what has come hardly changes.
    pub const fn ascends(self) -> bool {
        !matches!(self, Self::Others)
    }

    /// The table that it is for; none for that of the others.
    const fn table(self) -> Option<Table> {
        match self {
            Self::Others => None,
            Self::Executions => Some(Table::Execution),
            Self::Steps => Some(Table::Step),
            Self::Messages => Some(Table::Message),
            Self::Requests => Some(Table::Request),
            Self::Timers => Some(Table::Timer),
            Self::ByFlow => Some(Table::ExecutionByFlow),
            Self::Journal => Some(Table::Journal),
        }
    }

    const fn of_table(tag: u8) -> Self {
        // A look into a table: this is asked for each row that is read or written.
        const BY_TAG: [Family; 256] = {
            let mut by_tag = [Family::Others; 256];
            let mut place = 0;
            while place < Family::ALL.len() {
                let family = Family::ALL[place];
                if let Some(table) = family.table() {
                    by_tag[table as usize] = family;
                }
                place += 1;
            }
            by_tag
        };
        BY_TAG[tag as usize]
    }
}

/// The families of one group's state.
#[derive(Clone, Copy, Debug)]
pub struct Families {
    group: PartitionId,
}

/// Keys from the first up to, without, the second, all of one family.
pub type Part = (Family, Key, Key);

impl Families {
    pub fn new(group: PartitionId) -> Self {
        Self { group }
    }

    /// Where the row with this key is.
    pub fn of(self, key: &[u8]) -> Family {
        match key.split_first_chunk::<2>() {
            Some((group, [tag, ..])) if *group == self.group.0.to_be_bytes() => {
                Family::of_table(*tag)
            }
            // No key of this group, or none at all: only tests have such.
            _ => Family::Others,
        }
    }

    /// A range of keys, in order, by families.
    pub fn parts(self, from: &[u8], to: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        // Most are of rows of one table.
        if from < to
            && let (Some(first), Some(last)) = (from.get(..PREFIX_LEN), to.get(..PREFIX_LEN))
            && first == last
        {
            parts.push((self.of(from), from.into(), to.into()));
            return parts;
        }
        let mut add = |family, begin: &[u8], end: &[u8]| {
            let (begin, end) = (begin.max(from), end.min(to));
            if begin < end {
                parts.push((family, Key::from(begin), Key::from(end)));
            }
        };
        let mut begin = Key::default();
        for family in Family::ALL {
            let Some((own, end)) = self.range(family) else {
                continue;
            };
            add(Family::Others, &begin, &own);
            add(family, &own, &end);
            begin = end;
        }
        add(Family::Others, &begin, to);
        parts
    }

    /// The range of keys of a family that is not that of the others.
    pub fn range(self, family: Family) -> Option<(Key, Key)> {
        let own = key::prefix(self.group, family.table()?);
        let end = key::after_prefix(&own).expect("a table's prefix is not all 0xff");
        Some((Key::from(&own), end.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const FAMILIES: Families = Families {
        group: PartitionId(1),
    };

    fn some_key() -> impl Strategy<Value = Vec<u8>> {
        let group = prop_oneof![4 => Just(1_u8), 1 => 0..3_u8];
        let tag = prop_oneof![
            Just(Table::Lease as u8),
            Just(Table::Journal as u8),
            Table::Execution as u8 - 1..=Table::Message as u8 + 1,
        ];
        let whole = (group, tag, vec(0..3_u8, 0..3))
            .prop_map(|(group, tag, rest)| [vec![0, group, tag], rest].concat());
        prop_oneof![8 => whole, 1 => vec(any::<u8>(), 0..3)]
    }

    proptest! {
        #[test]
        fn parts_are_the_range(from in some_key(), to in some_key(), key in some_key()) {
            let parts = FAMILIES.parts(&from, &to);
            let mut last = from.clone();
            for (_, begin, end) in &parts {
                prop_assert_eq!(&**begin, &*last);
                prop_assert!(begin < end);
                last = end.to_vec();
            }
            prop_assert!(parts.is_empty() || last == to);
            let holds = |part: &&Part| *part.1 <= *key && *key < *part.2;
            let found: Vec<_> = parts.iter().filter(holds).map(|part| part.0).collect();
            if from <= key && key < to {
                prop_assert_eq!(found, vec![FAMILIES.of(&key)]);
            } else {
                prop_assert!(found.is_empty());
            }
        }
    }

    #[test]
    fn a_familys_number_is_its_place() {
        for (place, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, place);
            if let Some((from, to)) = FAMILIES.range(family) {
                assert_eq!(FAMILIES.of(&from), family);
                assert_eq!(FAMILIES.parts(&from, &to), [(family, from, to)]);
            }
        }
    }
}
