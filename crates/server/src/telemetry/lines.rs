//! Where log lines are written: by a thread of their own, so that whoever logs never waits for the one who
//! reads standard error. A reader that stops costs lines, which are counted, and never a leader's time.

use std::{
    io::{BufWriter, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use tidemill_types::limits::LOG_LINES_WAITING_MAX;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Writes what waits when it is dropped. One for the process, since whoever ends the process at once
/// has nothing else in hand.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// For the process's log layer: writes to standard error.
pub(super) fn writer() -> NonBlocking {
    let (writer, guard) = to(std::io::stderr());
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    // A second logger of the process is refused, so the first one's count stays.
    let _ = DROPPED.set(writer.error_counter());
    writer
}

fn to(output: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    // What waits is written together: one call of the system, not one for each line.
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_WAITING_MAX)
        .thread_name("log-lines")
        .finish(BufWriter::new(output))
}

/// Writes what waits, and nothing after it: for when the process ends. Waits for a second at most.
pub(crate) fn finish() {
    let guard = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    drop(guard);
}

/// Lines that were not written, since too many waited.
pub(crate) fn dropped() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc};

    use super::*;

    /// A reader that takes nothing until it is told to, and then gives back what it got.
    struct Stalled {
        go_on: mpsc::Receiver<()>,
        got: mpsc::SyncSender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Its end is a sign as good as any.
            let _ = self.go_on.recv();
            self.got.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_waits_for_nobody_and_what_is_lost_is_counted() {
        let (go_on, told) = mpsc::sync_channel(0);
        let (got, taken) = mpsc::sync_channel(2 * LOG_LINES_WAITING_MAX);
        let (mut writer, guard) = to(Stalled { go_on: told, got });
        let line = [b'x'; 9_000]; // longer than the buffer, so that the first one stalls
        for _ in 0..LOG_LINES_WAITING_MAX + 10 {
            writer.write_all(&line).expect("it never fails");
        }
        let dropped = writer.error_counter().dropped_lines();
        // The first one may be on its way out of the queue, or not yet.
        assert!((9..=10).contains(&dropped), "{dropped}");
        drop(go_on);
        drop((writer, guard));
        let bytes: usize = taken.iter().map(|part| part.len()).sum();
        assert_eq!(
            bytes,
            (LOG_LINES_WAITING_MAX + 10 - dropped) * line.len(),
            "what was not dropped is written"
        );
    }
}
