//! Questions about a directed graph, for validation and compilation.
//!
//! Nothing here recurses: a flow may be a chain of as many nodes as it may have.

use std::collections::VecDeque;

/// A directed graph of `0..node_count`.
pub(super) struct Digraph {
    next: Vec<Vec<usize>>,
    previous: Vec<Vec<usize>>,
}

impl Digraph {
    pub fn new(node_count: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut graph = Digraph {
            next: vec![Vec::new(); node_count],
            previous: vec![Vec::new(); node_count],
        };
        for (source, target) in edges {
            graph.next[source].push(target);
            graph.previous[target].push(source);
        }
        graph
    }

    /// The nodes that can be reached from these, themselves included.
    pub fn reachable(&self, from: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut reached = vec![false; self.next.len()];
        let mut stack: Vec<usize> = from.into_iter().collect();
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut reached[node], true) {
                stack.extend(self.next[node].iter().filter(|next| !reached[**next]));
            }
        }
        reached
    }

    /// The nodes from which this one can be reached, in order; itself only if it is in a cycle.
    pub fn upstream(&self, node: usize) -> Vec<usize> {
        let mut found = vec![false; self.previous.len()];
        let mut stack = self.previous[node].clone();
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut found[node], true) {
                stack.extend(self.previous[node].iter().filter(|node| !found[**node]));
            }
        }
        (0..found.len()).filter(|node| found[*node]).collect()
    }

    /// For each node, the number of its strongly connected component if that has a cycle.
    pub fn cyclic_components(&self) -> Vec<Option<usize>> {
        // Kosaraju: nodes by the time when a depth-first walk leaves them, then backwards from the last one.
        let count = self.next.len();
        let mut left = Vec::with_capacity(count);
        let mut seen = vec![false; count];
        for start in 0..count {
            if std::mem::replace(&mut seen[start], true) {
                continue;
            }
            let mut stack = vec![(start, 0)];
            while let Some((node, position)) = stack.pop() {
                match self.next[node].get(position) {
                    Some(&next) => {
                        stack.push((node, position + 1));
                        if !std::mem::replace(&mut seen[next], true) {
                            stack.push((next, 0));
                        }
                    }
                    None => left.push(node),
                }
            }
        }
        let mut assigned = vec![false; count];
        let mut components = vec![None; count];
        let mut number = 0;
        for &start in left.iter().rev() {
            let mut members = Vec::new();
            let mut stack = vec![start];
            while let Some(node) = stack.pop() {
                if !std::mem::replace(&mut assigned[node], true) {
                    members.push(node);
                    stack.extend(self.previous[node].iter().filter(|node| !assigned[**node]));
                }
            }
            if members.len() > 1 || self.next[start].contains(&start) && !members.is_empty() {
                for member in members {
                    components[member] = Some(number);
                }
                number += 1;
            }
        }
        components
    }

    /// A shortest way from a node back to itself; empty if there is none.
    pub fn shortest_cycle(&self, start: usize) -> Vec<usize> {
        let mut came_from: Vec<Option<usize>> = vec![None; self.next.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for &next in &self.next[node] {
                if next == start {
                    let mut way = vec![node];
                    while let Some(previous) = came_from[way[way.len() - 1]] {
                        way.push(previous);
                    }
                    way.reverse();
                    return way;
                }
                if came_from[next].is_none() {
                    came_from[next] = Some(node);
                    queue.push_back(next);
                }
            }
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Digraph;

    #[test]
    fn finds_cycles_and_ways() {
        // 0 -> 1 -> 2 -> 3 -> 1, 3 -> 4 -> 4, 5 alone
        let graph = Digraph::new(6, [(0, 1), (1, 2), (2, 3), (3, 1), (3, 4), (4, 4)]);
        let components = graph.cyclic_components();
        assert_eq!((components[0], components[5]), (None, None));
        assert!(components[1].is_some());
        assert_eq!(components[1], components[2]);
        assert_eq!(components[1], components[3]);
        assert!(components[4].is_some() && components[4] != components[1]);
        assert_eq!(graph.shortest_cycle(1), [1, 2, 3]);
        assert_eq!(graph.shortest_cycle(4), [4]);
        assert!(graph.shortest_cycle(0).is_empty());
        assert_eq!(graph.upstream(4), [0, 1, 2, 3, 4]);
        assert!(graph.upstream(0).is_empty());
        assert_eq!(graph.reachable([3]), [false, true, true, true, true, false]);
    }

    proptest! {
        /// A node is in a cyclic component exactly if it can reach itself, and two nodes are in the same one
        /// exactly if each reaches the other.
        #[test]
        fn components_are_mutual_reachability(edges in proptest::collection::vec((0usize..8, 0usize..8), 0..20)) {
            let graph = Digraph::new(8, edges);
            let components = graph.cyclic_components();
            for a in 0..8 {
                let upstream = graph.upstream(a);
                prop_assert_eq!(components[a].is_some(), upstream.contains(&a));
                prop_assert_eq!(components[a].is_some(), !graph.shortest_cycle(a).is_empty());
                for b in 0..8 {
                    let mutual = upstream.contains(&b) && graph.upstream(b).contains(&a);
                    prop_assert_eq!(components[a].is_some() && components[a] == components[b], mutual);
                }
            }
        }
    }
}
