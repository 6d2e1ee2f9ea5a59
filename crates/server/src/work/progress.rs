//! The last progress that each running step's worker reported. For people, volatile, bounded.

use std::collections::{HashMap, VecDeque};

use tidemill_types::{StepId, limits::PROGRESS_STEPS_MAX};

/// Progress by step; when it is full the step that has been there longest goes.
#[derive(Default)]
pub(super) struct Progress {
    texts: HashMap<StepId, String>,
    order: VecDeque<StepId>,
}

impl Progress {
    pub fn set(&mut self, step: StepId, text: String) {
        if self.texts.insert(step, text).is_some() {
            return;
        }
        self.order.push_back(step);
        // Steps that were removed are still in the order: it is cleared of them here, in passing.
        while self.order.len() > PROGRESS_STEPS_MAX {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.texts.remove(&oldest);
        }
    }

    pub fn get(&self, step: StepId) -> Option<&String> {
        self.texts.get(&step)
    }

    pub fn remove(&mut self, step: StepId) {
        self.texts.remove(&step);
    }

    pub fn clear(&mut self) {
        self.texts.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let step = |step| StepId {
            step,
            ..StepId::default()
        };
        let mut progress = Progress::default();
        for number in 0..=u32::try_from(PROGRESS_STEPS_MAX).expect("fits") {
            progress.set(step(number), "half".into());
        }
        assert_eq!(progress.get(step(0)), None);
        assert_eq!(progress.texts.len(), PROGRESS_STEPS_MAX);
        progress.set(step(1), "done".into());
        assert_eq!(progress.get(step(1)), Some(&"done".into()));
        progress.remove(step(1));
        assert_eq!(progress.get(step(1)), None);
    }
}
