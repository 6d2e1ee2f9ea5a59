//! Waking at a time, more exactly than the runtime's own timers, which go by whole milliseconds: at
//! 1,000 requests a second those would add half a millisecond to each latency.
//!
//! A thread that sleeps, since tokio's way to wait for a timer of the kernel's (`AsyncFd`) needs `unsafe`.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use tokio::{sync::Notify, time::Instant};

/// Something that wakes its caller.
pub trait Alarm: Send {
    /// Returns when the time has come; at once when it is over.
    fn until(&mut self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// A thread of its own that sleeps until the time has come; it ends with this.
#[derive(Debug)]
pub struct ThreadAlarm {
    // One wait at a time; a second place for the one after a wait that was given up.
    times: SyncSender<Instant>,
    rung: Arc<Notify>,
}

impl ThreadAlarm {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        let (times, asked) = sync_channel(1);
        let rung = Arc::new(Notify::new());
        let ring = Arc::clone(&rung);
        thread::Builder::new()
            .name("pace".to_owned())
            .spawn(move || ring_at(&asked, &ring))?;
        Ok(Self { times, rung })
    }
}

fn ring_at(asked: &Receiver<Instant>, ring: &Notify) {
    while let Ok(at) = asked.recv() {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // May return early; so it is looked at again.
            thread::park_timeout(left);
        }
        ring.notify_one();
    }
}

impl Alarm for ThreadAlarm {
    async fn until(&mut self, at: Instant) {
        if self.times.try_send(at).is_err() {
            // It still sleeps for waits that were given up. Coarser, but it wakes.
            tokio::time::sleep_until(at).await;
        }
        // A ring may be that of a wait that was given up.
        while Instant::now() < at {
            self.rung.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn wakes_in_time_and_again() {
        let mut alarm = ThreadAlarm::new().expect("a thread");
        for _ in 0..20 {
            let at = Instant::now() + Duration::from_micros(300);
            alarm.until(at).await;
            assert!(Instant::now() >= at);
        }
        // A wait that was given up leaves nothing behind that wakes the next one early, or never.
        for _ in 0..3 {
            let far = Instant::now() + Duration::from_millis(1);
            let _ = tokio::time::timeout(Duration::ZERO, alarm.until(far)).await;
        }
        let at = Instant::now() + Duration::from_millis(5);
        alarm.until(at).await;
        assert!(Instant::now() >= at);
        alarm.until(at).await;
    }
}
