//! A queue whose owners take turns: each has a line of its own, and the one with a thousand items waits
//! as long for its next as the one with a single item.

use std::collections::{BTreeMap, VecDeque};

/// An emptied line with room for more than this is not kept for the next owner.
const SPARE_CAPACITY_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Turns<K, T> {
    /// No line is empty.
    lines: BTreeMap<K, VecDeque<T>>,
    /// The owners of lines, in the order of their turns.
    order: VecDeque<K>,
    len: usize,
    /// A line that became empty: most lines have one item, and need no memory of their own each time.
    spare: VecDeque<T>,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self {
            lines: BTreeMap::new(),
            order: VecDeque::new(),
            len: 0,
            spare: VecDeque::new(),
        }
    }
}

impl<K: Copy + Ord, T> Turns<K, T> {
    /// Puts an item at the end of its owner's line.
    pub fn push(&mut self, owner: K, item: T) {
        let spare = &mut self.spare;
        let line = self.lines.entry(owner).or_insert_with(|| {
            self.order.push_back(owner);
            std::mem::take(spare)
        });
        line.push_back(item);
        self.len += 1;
    }

    /// The first item of the owner whose turn it is, who goes to the end of the turns.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let owner = self.order.pop_front()?;
        let line = self.lines.get_mut(&owner)?;
        let item = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            let line = self.lines.remove(&owner).unwrap_or_default();
            if line.capacity() <= SPARE_CAPACITY_MAX {
                self.spare = line;
            }
        } else {
            self.order.push_back(owner);
        }
        Some((owner, item))
    }

    /// How many items wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True when nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many items of one owner wait.
    #[must_use]
    pub fn len_of(&self, owner: &K) -> usize {
        self.lines.get(owner).map_or(0, VecDeque::len)
    }

    /// How many owners wait.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.order.len()
    }

    /// The first item of each owner.
    pub fn fronts(&self) -> impl Iterator<Item = &T> {
        self.lines.values().filter_map(VecDeque::front)
    }

    /// Keeps only some items.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.len = 0;
        self.lines.retain(|_, line| {
            line.retain(&mut keep);
            self.len += line.len();
            !line.is_empty()
        });
        let lines = &self.lines;
        self.order.retain(|owner| lines.contains_key(owner));
    }

    /// Takes out the first item that is meant, wherever it is: a search among all.
    pub fn remove(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        for (owner, line) in &mut self.lines {
            let Some(at) = line.iter().position(&is_meant) else {
                continue;
            };
            let owner = *owner;
            let item = line.remove(at)?;
            self.len -= 1;
            if line.is_empty() {
                self.lines.remove(&owner);
                self.order.retain(|other| *other != owner);
            }
            return Some(item);
        }
        None
    }

    /// Everything, in the order of turns.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.pop().map(|(_, item)| item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns<u8, u32>) -> Vec<u32> {
        turns.drain().collect()
    }

    #[test]
    fn owners_take_turns_however_much_one_has() {
        let mut turns = Turns::default();
        (0..1_000).for_each(|n| turns.push(1, n));
        turns.push(2, 2_000);
        turns.push(3, 3_000);
        turns.push(3, 3_001);
        assert_eq!((turns.len(), turns.owners()), (1_003, 3));
        assert_eq!((turns.len_of(&1), turns.len_of(&9)), (1_000, 0));
        let first: Vec<u32> = (0..6).filter_map(|_| turns.pop()).map(|(_, n)| n).collect();
        assert_eq!(first, [0, 2_000, 3_000, 1, 3_001, 2]);
        assert_eq!((turns.len(), turns.owners()), (997, 1));
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_no_trace() {
        let mut turns = Turns::default();
        for (owner, n) in [(1, 10), (2, 20), (1, 11), (3, 30)] {
            turns.push(owner, n);
        }
        assert_eq!(turns.remove(|n| *n == 20), Some(20));
        assert_eq!(turns.remove(|n| *n == 20), None);
        turns.retain(|n| *n != 30);
        assert_eq!((turns.len(), turns.owners()), (2, 1));
        assert_eq!(turns.fronts().copied().collect::<Vec<_>>(), [10]);
        // An owner that was gone comes back at the end of the turns.
        turns.push(2, 21);
        assert_eq!(all(&mut turns), [10, 21, 11]);
        assert!(turns.is_empty());
    }

    #[test]
    fn an_emptied_line_is_used_again_without_its_items() {
        let mut turns = Turns::default();
        for n in 0..100 {
            turns.push(n as u8 % 3, n);
            assert_eq!(turns.pop(), Some((n as u8 % 3, n)));
        }
        assert!(turns.is_empty());
        assert_eq!(turns.owners(), 0);
    }
}
