//! Completions that were not answered yet.
//!
//! Each stays here until the server's result for it arrives; whatever happens to streams, it is sent
//! again.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use prost::Message as _;
use tidemill_proto::v1::Completion;
use tokio::time::Instant;

use crate::limits::{
    COMPLETION_BYTES_PER_MESSAGE, COMPLETIONS_PER_MESSAGE_MAX, RESEND_AFTER, RETRY_PAUSE,
};

#[derive(Debug)]
struct Kept {
    completion: Completion,
    /// Nothing while it stands in the queue, else when it goes there again.
    due: Option<Instant>,
}

/// All unanswered completions.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    kept: HashMap<String, Kept>,
    /// What is to be sent now. May name completions that were answered meanwhile.
    queue: VecDeque<String>,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What the completions are of.
    pub(super) fn task_ids(&self) -> impl Iterator<Item = &String> {
        self.kept.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether there is something to send now.
    pub(super) fn is_ready(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Keeps a completion and queues it.
    pub(super) fn put(&mut self, completion: Completion) {
        let task_id = completion.task_id.clone();
        let due = None;
        let old = self.kept.insert(task_id.clone(), Kept { completion, due });
        if old.is_none_or(|old| old.due.is_some()) {
            self.queue.push_back(task_id);
        }
    }

    /// Takes what is queued into one message, within its bounds; each is due again if no answer comes.
    pub(super) fn batch(&mut self, now: Instant) -> Vec<Completion> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(task_id) = self.queue.front() {
            // Only what still waits in the queue: the name of an answered one is passed over.
            let waiting = self.kept.get_mut(task_id).filter(|kept| kept.due.is_none());
            if let Some(kept) = waiting {
                let len = kept.completion.encoded_len();
                let full = bytes + len > COMPLETION_BYTES_PER_MESSAGE && !batch.is_empty();
                if full || batch.len() == COMPLETIONS_PER_MESSAGE_MAX {
                    break;
                }
                bytes += len;
                kept.due = Some(now + RESEND_AFTER);
                batch.push(kept.completion.clone());
            }
            self.queue.pop_front();
        }
        batch
    }

    /// Queues again what got no answer for too long, or was to be sent again after a pause.
    pub(super) fn queue_due(&mut self, now: Instant) {
        for (task_id, kept) in &mut self.kept {
            if kept.due.is_some_and(|due| due <= now) {
                kept.due = None;
                self.queue.push_back(task_id.clone());
            }
        }
    }

    /// A new stream: nothing of what the old one took is certain to have arrived.
    pub(super) fn resend_all(&mut self) {
        for (task_id, kept) in &mut self.kept {
            if kept.due.take().is_some() {
                self.queue.push_back(task_id.clone());
            }
        }
    }

    /// The task was pushed again though it was completed: the completion did not arrive. False when
    /// there is none for it.
    pub(super) fn resend(&mut self, task_id: &str) -> bool {
        self.postpone(task_id, Duration::ZERO)
    }

    /// The server answered `RETRY`.
    pub(super) fn retry(&mut self, task_id: &str) {
        self.postpone(task_id, RETRY_PAUSE);
    }

    fn postpone(&mut self, task_id: &str, pause: Duration) -> bool {
        let kept = self.kept.get_mut(task_id);
        if let Some(due) = kept.map(|kept| &mut kept.due) {
            // One that stands in the queue will be sent anyway.
            if due.is_some() {
                *due = Some(Instant::now() + pause);
            }
            return true;
        }
        false
    }

    /// The server answered for good. False when nothing was waiting for that answer.
    pub(super) fn answered(&mut self, task_id: &str) -> bool {
        self.kept.remove(task_id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::worker::{Outcome, outcome::completion};

    fn done(task_id: &str) -> Completion {
        completion(
            task_id.to_owned(),
            Ok(Outcome::json(json!("x".repeat(1000)))),
        )
    }

    #[test]
    fn sends_each_once_until_it_is_due_again() {
        let mut outbox = Outbox::default();
        for i in 0..300 {
            outbox.put(done(&i.to_string()));
        }
        let now = Instant::now();
        assert_eq!(outbox.batch(now).len(), 256);
        assert_eq!(outbox.batch(now).len(), 44);
        assert!(outbox.batch(now).is_empty());
        assert!(outbox.answered("7"));
        assert!(!outbox.answered("7"));
        outbox.resend_all();
        let again = outbox.batch(Instant::now());
        assert_eq!(again.len(), 256);
        assert!(again.iter().all(|completion| completion.task_id != "7"));
        assert_eq!(outbox.len(), 299);
    }

    #[test]
    fn a_message_is_bounded_in_bytes_but_never_empty() {
        let mut outbox = Outbox::default();
        for i in 0..3 {
            let big = "x".repeat(COMPLETION_BYTES_PER_MESSAGE);
            outbox.put(completion(i.to_string(), Ok(Outcome::json(json!(big)))));
        }
        assert_eq!(outbox.batch(Instant::now()).len(), 1);
        assert_eq!(outbox.batch(Instant::now()).len(), 1);
    }

    #[test]
    fn a_retry_is_due_after_a_pause() {
        let mut outbox = Outbox::default();
        outbox.put(done("a"));
        let now = Instant::now();
        assert_eq!(outbox.batch(now).len(), 1);
        outbox.retry("a");
        outbox.queue_due(now);
        assert!(outbox.batch(now).is_empty());
        outbox.queue_due(Instant::now() + RETRY_PAUSE);
        assert_eq!(outbox.batch(now).len(), 1);
    }
}
