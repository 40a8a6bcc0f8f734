//! The proofs crate's single-core path on a stretch of layer 2.

use std::time::Duration;

use anyhow::Result;
use filecoin_hashers::poseidon::PoseidonHasher;
use filecoin_hashers::Hasher;
use sdr::graph::{Parents, BASE_DEGREE, DEGREE, EXP_DEGREE, NODE_SIZE};
use storage_proofs_core::api_version::ApiVersion;
use storage_proofs_core::drgraph::Graph;
use storage_proofs_porep::stacked::create_label::single::create_label_exp;
use storage_proofs_porep::stacked::StackedBucketGraph;

use crate::clock::{Measured, Stopwatch};
use crate::ours;

/// Shortest time of one measurement.
const ENOUGH: Duration = Duration::from_millis(500);
/// Nodes between two looks at the clock.
const STEP: usize = 5_000;
/// Nodes the crate keeps of its parents cache; it can move on by this many only.
const WINDOW: usize = 2048;

pub struct Judge {
    graph: StackedBucketGraph<PoseidonHasher>,
    labels: Vec<u8>,
    previous: Vec<u8>,
}

impl Judge {
    pub fn new(size: u64) -> Result<Self> {
        // Makes the parents cache, which the crate would need minutes for.
        ours::parents(size)?;
        let graph = graph(size)?;
        Ok(Judge {
            graph,
            labels: vec![1; size as usize],
            previous: vec![2; size as usize],
        })
    }

    /// The parents of a node, as the crate computes them for its cache file.
    pub fn parents(&self, node: u32) -> Result<Parents> {
        let mut parents = [0; DEGREE];
        self.graph.parents(node as usize, &mut parents)?;
        Ok(parents)
    }

    /// The crate's speed from the middle of the layer on.
    pub fn measure(&mut self) -> Result<Measured> {
        let nodes = self.labels.len() / NODE_SIZE;
        let mut cache = self.graph.parent_cache()?;
        for node in (0..nodes / 2).step_by(WINDOW) {
            cache.read(node as u32)?;
        }
        let mut node = nodes / 2;
        let watch = Stopwatch::start();
        while watch.elapsed() < ENOUGH && node + STEP < nodes {
            for node in node..node + STEP {
                create_label_exp(
                    &self.graph,
                    Some(&mut cache),
                    [3; 32],
                    &self.previous,
                    &mut self.labels,
                    2,
                    node,
                )?;
            }
            node += STEP;
        }
        Ok(watch.finish((node - nodes / 2) as f64))
    }
}

/// The crate's graph of proof type V1_1 of a sector size.
pub fn graph<H: Hasher>(size: u64) -> Result<StackedBucketGraph<H>> {
    let spec = ours::spec(size)?;
    StackedBucketGraph::new_stacked(
        spec.nodes as usize,
        BASE_DEGREE,
        EXP_DEGREE,
        spec.porep_id,
        ApiVersion::V1_1_0,
    )
}
