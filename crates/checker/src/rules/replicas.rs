//! All nodes have the same journal. A node may be behind (its journal was exported earlier), never beside.

use crate::{Evidence, Rule, Verdict, journal::hex};

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let Some((first, others)) = evidence.journals.split_first() else {
        return;
    };
    for other in others {
        for (partition, chain) in &other.chains {
            let Some(reference) = first.chains.get(partition) else {
                let (a, b) = (first.node_id, other.node_id);
                let message =
                    format!("node {b} has a journal of partition {partition}, node {a} has none");
                verdict.violation(Rule::Replicas, message);
                continue;
            };
            let common = chain.hashes.len().min(reference.hashes.len());
            if common == 0 || chain.hashes[common - 1] == reference.hashes[common - 1] {
                continue;
            }
            // A chain that differs once differs for ever: the first difference is found by halving.
            let at = (0..common).collect::<Vec<_>>();
            let at = at.partition_point(|at| chain.hashes[*at] == reference.hashes[*at]);
            verdict.violation(
                Rule::Replicas,
                format!(
                    "partition {partition}: from record {} on node {} ({}…) and node {} ({}…) differ",
                    at + 1,
                    first.node_id,
                    &hex(&reference.hashes[at])[..8],
                    other.node_id,
                    &hex(&chain.hashes[at])[..8],
                ),
            );
        }
    }
    if evidence.history.healed {
        for other in others {
            for (partition, reference) in &first.chains {
                let len = other.chains.get(partition).map_or(0, |c| c.hashes.len());
                if len != reference.hashes.len() {
                    verdict.violation(
                        Rule::Replicas,
                        format!(
                            "partition {partition}: node {} has {} records, node {} has {len}: one was \
                             not there yet when the journals were exported",
                            first.node_id,
                            reference.hashes.len(),
                            other.node_id,
                        ),
                    );
                }
            }
        }
    }
}
