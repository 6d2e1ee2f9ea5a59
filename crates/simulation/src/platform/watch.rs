//! A watch channel that wakes those who wait in the order in which they came.

use std::{
    ops::Deref,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use openraft::{
    OptionalSend, OptionalSync,
    async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender},
};
use tokio::sync::Notify;

/// See the module.
pub(crate) struct SimulatedWatch;

struct Channel<T> {
    value: RwLock<T>,
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    changed: Notify,
}

impl<T> Channel<T> {
    fn read(&self) -> Ref<'_, T> {
        Ref(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self) {
        self.version.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }
}

/// A borrowed value.
pub(crate) struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, SeqCst) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

pub(crate) struct Receiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> Receiver<T> {
    fn of(channel: &Arc<Channel<T>>, seen: u64) -> Self {
        channel.receivers.fetch_add(1, SeqCst);
        Self {
            channel: Arc::clone(channel),
            seen,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::of(&self.channel, self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.receivers.fetch_sub(1, SeqCst);
    }
}

impl Watch for SimulatedWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Channel {
            value: RwLock::new(init),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let receiver = Receiver::of(&channel, 0);
        (Sender(channel), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<SimulatedWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(SeqCst) == 0 {
            return Err(SendError(value));
        }
        *self.0.value.write().unwrap_or_else(PoisonError::into_inner) = value;
        self.0.tell();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = modify(&mut self.0.value.write().unwrap_or_else(PoisonError::into_inner));
        if modified {
            self.0.tell();
        }
        modified
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver::of(&self.0, self.0.version.load(SeqCst))
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<SimulatedWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let channel = Arc::clone(&self.channel);
            let changed = channel.changed.notified();
            let version = channel.version.load(SeqCst);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if channel.senders.load(SeqCst) == 0 {
                return Err(RecvError(()));
            }
            changed.await;
        }
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        self.channel.read()
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.seen = self.channel.version.load(SeqCst);
        self.channel.read()
    }
}
