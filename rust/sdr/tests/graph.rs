//! Parents equal to the proofs crate's.

mod common;

use common::{judge_graph, judge_parents, specs, Random, SIZES};
use sdr::graph::{Graph, GraphSpec, GraphVersion};

fn assert_equal(spec: &GraphSpec, nodes: impl Iterator<Item = u32>) {
    let judge = judge_graph(spec);
    let graph = Graph::new(*spec);
    for node in nodes {
        assert_eq!(
            graph.parents(node),
            judge_parents(&judge, node),
            "node {node} of {spec:?}"
        );
    }
}

#[test]
fn every_node_of_a_2_kib_sector() {
    for spec in specs(2 << 10) {
        assert_equal(&spec, 0..spec.nodes);
    }
}

#[test]
fn every_node_of_an_8_mib_sector() {
    for spec in specs(8 << 20) {
        assert_equal(&spec, 0..spec.nodes);
    }
}

#[test]
fn random_nodes_of_the_large_sectors() {
    let mut random = Random(1);
    for (size, _) in &SIZES[2..] {
        for spec in specs(*size) {
            let last = spec.nodes - 1;
            let ends = [0, 1, 2, 3, last - 1, last];
            let sampled = std::iter::repeat_with(|| random.below(u64::from(spec.nodes)) as u32);
            assert_equal(&spec, ends.into_iter().chain(sampled.take(100_000)));
        }
    }
}

#[test]
fn sizes_that_are_no_power_of_four_of_elements() {
    for nodes in [2, 3, 5, 24, 48, 100, 1000] {
        for version in [GraphVersion::V1_0, GraphVersion::V1_1] {
            let spec = common::spec(7, version, nodes * 32);
            assert_equal(&spec, 0..spec.nodes);
        }
    }
}

#[test]
fn sizes_without_whole_nodes_are_refused() {
    for size in [0, 32, 33, 2047, 1 << 37] {
        let error = GraphSpec::new([0; 32], GraphVersion::V1_1, size).unwrap_err();
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
}
