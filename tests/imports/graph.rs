//! Finds cycles in a graph.

use std::collections::{BTreeMap, BTreeSet};

/// Each node, and where its edges lead.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Cycles, each with its first node once more at the end; without their last edges there is none.
pub fn cycles(mut graph: Graph) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    while let Some(cycle) = cycle(&graph) {
        if let [.., from, to] = cycle.as_slice() {
            graph.entry(from.clone()).or_default().remove(to);
        }
        found.push(cycle);
    }
    found
}

fn cycle(graph: &Graph) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    let mut nodes = graph.keys();
    nodes.find_map(|node| search(graph, node, &mut Vec::new(), &mut done))
}

fn search(
    graph: &Graph,
    node: &str,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|before| before == node) {
        let mut found = way.split_off(start);
        found.push(node.to_string());
        return Some(found);
    }
    if !done.contains(node) {
        way.push(node.to_string());
        for next in graph.get(node).into_iter().flatten() {
            if let Some(found) = search(graph, next, way, done) {
                return Some(found);
            }
        }
        way.pop();
        done.insert(node.to_string());
    }
    None
}

#[test]
fn cycles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph
                .entry((*from).into())
                .or_default()
                .insert((*to).into());
        }
        graph
    };
    let none: [Vec<String>; 0] = [];
    assert_eq!(cycles(graph(&[("a", "b"), ("a", "c"), ("b", "c")])), none);
    let found = cycles(graph(&[
        ("a", "b"),
        ("b", "c"),
        ("c", "d"),
        ("d", "b"),
        ("c", "c"),
    ]));
    assert_eq!(found, [&["c", "c"][..], &["b", "c", "d", "b"]]);
}
