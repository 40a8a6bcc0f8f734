//! Making the parents of nodes, what a parents cache file is filled with.

use std::hint::black_box;

use anyhow::Result;
use sdr::graph::Graph;

use crate::clock::Stopwatch;
use crate::judge::Judge;
use crate::ours;

/// Nodes from the middle of the sector.
const NODES: u32 = 50_000;

/// Prints microseconds per node on one core: the crate's, ours, and how often that is faster.
pub fn print(size: u64, judge: &Judge, rounds: usize) -> Result<()> {
    let graph = Graph::new(ours::spec(size)?);
    let first = graph.spec().nodes / 2;
    let mut best = [f64::INFINITY; 2];
    for _ in 0..rounds {
        let watch = Stopwatch::start();
        for node in first..first + NODES {
            black_box(judge.parents(node)?);
        }
        best[0] = best[0].min(watch.elapsed().as_secs_f64());
        let watch = Stopwatch::start();
        for node in first..first + NODES {
            black_box(graph.parents(node));
        }
        best[1] = best[1].min(watch.elapsed().as_secs_f64());
    }
    let [theirs, ours] = best.map(|seconds| seconds * 1e6 / f64::from(NODES));
    println!(
        "parents of a node, for the parents cache: crate {theirs:.2} us, sdr {ours:.2} us, {:.1} times as fast",
        theirs / ours
    );
    Ok(())
}
