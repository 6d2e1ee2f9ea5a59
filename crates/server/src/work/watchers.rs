//! Who waits for changes of what: a bounded number of waiting calls, woken without blocking anybody.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidemill_types::limits::WATCHERS_MAX;
use tokio::sync::watch;

struct Entries<K> {
    senders: HashMap<K, watch::Sender<()>>,
    waiting: usize,
}

/// Calls that wait for changes, by what they wait for.
pub(crate) struct Watchers<K> {
    entries: Arc<Mutex<Entries<K>>>,
}

impl<K> Default for Watchers<K> {
    fn default() -> Self {
        Self {
            entries: Arc::new(Mutex::new(Entries {
                senders: HashMap::new(),
                waiting: 0,
            })),
        }
    }
}

fn lock<K>(entries: &Mutex<Entries<K>>) -> MutexGuard<'_, Entries<K>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Copy + Eq + Hash> Watchers<K> {
    /// Tells of changes of `key` from now on; none when too many wait.
    pub fn watch(&self, key: K) -> Option<Watch<K>> {
        let mut entries = lock(&self.entries);
        if entries.waiting >= WATCHERS_MAX {
            return None;
        }
        entries.waiting += 1;
        let sender = entries
            .senders
            .entry(key)
            .or_insert_with(|| watch::Sender::new(()));
        Some(Watch {
            receiver: sender.subscribe(),
            key,
            entries: Arc::clone(&self.entries),
        })
    }

    /// It has changed.
    pub fn notify(&self, key: K) {
        if let Some(sender) = lock(&self.entries).senders.get(&key) {
            sender.send_replace(());
        }
    }

    /// Anything may have changed.
    pub fn notify_all(&self) {
        for sender in lock(&self.entries).senders.values() {
            sender.send_replace(());
        }
    }
}

/// A call that waits for changes of one thing.
pub(crate) struct Watch<K: Eq + Hash> {
    receiver: watch::Receiver<()>,
    key: K,
    entries: Arc<Mutex<Entries<K>>>,
}

impl<K: Eq + Hash> Watch<K> {
    /// What changed until now is about to be read.
    pub fn seen(&mut self) {
        self.receiver.mark_unchanged();
    }

    #[cfg(test)]
    pub fn has_news(&self) -> bool {
        self.receiver.has_changed().expect("the sender lives")
    }

    /// Waits for a change that was not seen.
    pub async fn changed(&mut self) {
        // The sender lives in the map as long as there is a receiver.
        let _ = self.receiver.changed().await;
    }
}

impl<K: Eq + Hash> Drop for Watch<K> {
    fn drop(&mut self) {
        let mut entries = lock(&self.entries);
        entries.waiting -= 1;
        // This receiver is still counted.
        if entries
            .senders
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            entries.senders.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_only_those_that_watch_it() {
        let watchers = Watchers::default();
        let mut one = watchers.watch(1).expect("room");
        let mut same = watchers.watch(1).expect("room");
        let other = watchers.watch(2).expect("room");
        watchers.notify(1);
        watchers.notify(3);
        one.changed().await;
        same.changed().await;
        assert!(!other.has_news());
        watchers.notify_all();
        assert!(other.has_news());
    }

    #[tokio::test]
    async fn what_was_seen_is_no_news() {
        let watchers = Watchers::default();
        let mut watch = watchers.watch(1).expect("room");
        watchers.notify(1);
        watch.seen();
        assert!(!watch.has_news());
    }

    #[test]
    fn nothing_is_left_of_those_that_went() {
        let watchers = Watchers::default();
        let one = watchers.watch(1).expect("room");
        let same = watchers.watch(1).expect("room");
        drop(one);
        assert_eq!(lock(&watchers.entries).senders.len(), 1);
        drop(same);
        assert!(lock(&watchers.entries).senders.is_empty());
    }

    #[test]
    fn there_is_a_limit() {
        let watchers = Watchers::default();
        let held: Vec<_> = (0..WATCHERS_MAX).map_while(|k| watchers.watch(k)).collect();
        assert_eq!(held.len(), WATCHERS_MAX);
        assert!(watchers.watch(0).is_none());
    }
}
