//! Which step a `%` means. Each `%` is a slot that looks leftwards through the path (and out of filters,
//! blocks and constructors) for the step whose context it stands for; that step then binds it.

use crate::ast::{Kind, Node, Slot};
use crate::error::ParseError;

#[derive(Debug)]
struct Seeker {
    /// Steps still to go; zero once found. A filter around a found one takes it below zero, to no effect.
    level: i64,
    /// The slot whose label is used: another `%` may already have claimed the same step.
    label: Slot,
}

#[derive(Debug, Default)]
pub(super) struct Ancestry {
    seekers: Vec<Seeker>,
}

impl Ancestry {
    pub fn add(&mut self) -> Slot {
        let slot = self.seekers.len();
        self.seekers.push(Seeker {
            level: 1,
            label: slot,
        });
        slot
    }

    /// The variable of each slot. No source can write these names.
    pub fn labels(&self) -> Vec<String> {
        self.seekers
            .iter()
            .map(|seeker| format!("!{}", seeker.label))
            .collect()
    }

    /// What `part` looks for, the node around it looks for too.
    pub fn inherit(&mut self, around: &mut Node, part: &Node) {
        around.seeking.extend_from_slice(&part.seeking);
        if let Kind::Parent(slot) = part.kind {
            around.seeking.push(slot);
        }
    }

    /// A filter's `%` starts at the step that it filters.
    pub fn resolve_predicate(
        &mut self,
        step: &mut Node,
        predicate: &Node,
    ) -> Result<(), ParseError> {
        for &slot in &predicate.seeking {
            if self.seekers[slot].level == 1 {
                self.seek(step, slot)?;
            } else {
                self.seekers[slot].level -= 1;
            }
        }
        self.inherit(step, predicate);
        Ok(())
    }

    /// Lets what the last step looks for walk left through the path.
    pub fn resolve(&mut self, path: &mut Node) -> Result<(), ParseError> {
        let Kind::Path { steps, .. } = &mut path.kind else {
            return Ok(());
        };
        let Some(last) = steps.last() else {
            return Ok(());
        };
        let mut slots = last.seeking.clone();
        if let Kind::Parent(slot) = last.kind {
            slots.push(slot);
        }
        for slot in slots {
            let mut next = steps.len() - 1;
            while self.seekers[slot].level > 0 {
                if next == 0 {
                    path.seeking.push(slot);
                    break;
                }
                next -= 1;
                // Steps that all bind a focus share one context.
                while next > 0 && steps[next].focus.is_some() && steps[next - 1].focus.is_some() {
                    next -= 1;
                }
                self.seek(&mut steps[next], slot)?;
            }
        }
        Ok(())
    }

    fn seek(&mut self, node: &mut Node, slot: Slot) -> Result<(), ParseError> {
        match &mut node.kind {
            Kind::Name(_) | Kind::Wildcard => {
                self.seekers[slot].level -= 1;
                if self.seekers[slot].level == 0 {
                    if let Some(known) = node.ancestor {
                        self.seekers[slot].label = self.seekers[known].label;
                    }
                    node.ancestor = Some(slot);
                    node.tuple = true;
                }
            }
            Kind::Parent(_) => self.seekers[slot].level += 1,
            Kind::Block(expressions) => {
                if let Some(last) = expressions.last_mut() {
                    node.tuple = true;
                    self.seek(last, slot)?;
                }
            }
            Kind::Path { steps, .. } => {
                node.tuple = true;
                for step in steps.iter_mut().rev() {
                    self.seek(step, slot)?;
                    if self.seekers[slot].level <= 0 {
                        break;
                    }
                }
            }
            _ => return Err(underivable(node.position)),
        }
        Ok(())
    }

    /// At the root nothing may still be looking.
    pub fn check_root(&self, root: &Node) -> Result<(), ParseError> {
        if matches!(root.kind, Kind::Parent(_)) || !root.seeking.is_empty() {
            return Err(underivable(root.position));
        }
        Ok(())
    }
}

fn underivable(position: usize) -> ParseError {
    ParseError::new(
        position,
        "S0217: the object that `%` stands for cannot be derived here",
    )
}
