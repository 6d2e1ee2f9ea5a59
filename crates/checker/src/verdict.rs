//! What the rules found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Most violations of one rule that are kept with their text; all are counted.
const SHOWN_PER_RULE_MAX: u64 = 20;

/// A promise, or what is needed to judge one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The history itself is sound.
    History,
    /// Each journal is gapless, chained, and ends where its header says.
    Chain,
    /// All nodes have the same journal.
    Replicas,
    /// The journal tells a possible story: each record may follow those before it.
    Story,
    /// Every acknowledged start has its one execution.
    Acknowledged,
    /// No request id made two executions.
    RequestIds,
    /// Nothing began that nobody asked for, or whose start was refused.
    Invented,
    /// Each occurrence of a schedule has one row, and one execution where it fired.
    Occurrences,
    /// A completion took effect once, as it was answered.
    Completions,
    /// An attempt of a step is given to one worker.
    Leases,
    /// What an execution is said to be equals the fold of the journal.
    States,
    /// Reads never go back.
    Reads,
    /// Nothing is stuck after the faults have ended.
    Stuck,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::History,
        Self::Chain,
        Self::Replicas,
        Self::Story,
        Self::Acknowledged,
        Self::RequestIds,
        Self::Invented,
        Self::Occurrences,
        Self::Completions,
        Self::Leases,
        Self::States,
        Self::Reads,
        Self::Stuck,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Chain => "chain",
            Self::Replicas => "replicas",
            Self::Story => "story",
            Self::Acknowledged => "acknowledged",
            Self::RequestIds => "request_ids",
            Self::Invented => "invented",
            Self::Occurrences => "occurrences",
            Self::Completions => "completions",
            Self::Leases => "leases",
            Self::States => "states",
            Self::Reads => "reads",
            Self::Stuck => "stuck",
        }
    }
}

/// A promise that was broken, and by what one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// For people: names the execution, record or request.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.message)
    }
}

/// How much was judged: a verdict without violations over nothing proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Journals given, one for each node.
    pub journals: u64,
    /// Records of the longest journal.
    pub records: u64,
    /// Executions that it tells of.
    pub executions: u64,
    /// Starts that were sent, repeats counted.
    pub starts: u64,
    /// Of those acknowledged, refused, and neither.
    pub starts_ok: u64,
    /// See [`Self::starts_ok`].
    pub starts_refused: u64,
    /// See [`Self::starts_ok`].
    pub starts_unknown: u64,
    /// Completions that were sent.
    pub completions: u64,
    /// Of those accepted, and refused for a lost lease or as done before.
    pub completions_accepted: u64,
    /// See [`Self::completions_accepted`].
    pub completions_refused: u64,
    /// See [`Self::completions_accepted`].
    pub completions_unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Occurrences of schedules with a row, and those that fired.
    pub occurrences: u64,
    /// See [`Self::occurrences`].
    pub occurrences_fired: u64,
    /// Faults that were begun, by name.
    pub faults: BTreeMap<String, u64>,
}

/// What the rules found in a history and its journals.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What was broken, at most 20 of each rule.
    pub violations: Vec<Violation>,
    /// How many violations there are of each rule, those included that are not listed.
    pub by_rule: BTreeMap<Rule, u64>,
    /// How much was judged.
    pub counts: Counts,
}

impl Verdict {
    /// True when every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.by_rule.is_empty()
    }

    /// A promise was broken.
    pub(crate) fn violation(&mut self, rule: Rule, message: impl Into<String>) {
        let count = self.by_rule.entry(rule).or_default();
        *count += 1;
        if *count <= SHOWN_PER_RULE_MAX {
            let message = message.into();
            self.violations.push(Violation { rule, message });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(
            f,
            "judged: {} journals of {} records; {} executions; {} starts ({} ok, {} refused, {} unknown); \
             {} completions ({} accepted, {} refused, {} unknown); {} reads; {} occurrences ({} fired)",
            c.journals,
            c.records,
            c.executions,
            c.starts,
            c.starts_ok,
            c.starts_refused,
            c.starts_unknown,
            c.completions,
            c.completions_accepted,
            c.completions_refused,
            c.completions_unknown,
            c.reads,
            c.occurrences,
            c.occurrences_fired,
        )?;
        if !c.faults.is_empty() {
            let faults: Vec<String> = c.faults.iter().map(|(f, n)| format!("{f} {n}")).collect();
            writeln!(f, "faults: {}", faults.join(", "))?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        for (rule, count) in &self.by_rule {
            if *count > SHOWN_PER_RULE_MAX {
                writeln!(f, "VIOLATION {}: {count} in all", rule.name())?;
            }
        }
        if self.is_clean() {
            writeln!(f, "every promise was kept")?;
        }
        Ok(())
    }
}
