//! Base parents: bucket sampling of a depth-robust graph (DRSample).

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{GraphVersion, BASE_DEGREE};

/// Sampled parents of a node; the sixth is its predecessor.
const SAMPLED: usize = BASE_DEGREE - 1;

pub struct Drg {
    /// 28 bytes of seed; the node fills the rest.
    seed: [u8; 32],
    predecessor: usize,
}

impl Drg {
    pub fn new(seed: [u8; 32], version: GraphVersion) -> Self {
        Drg {
            seed,
            predecessor: match version {
                GraphVersion::V1_0 => SAMPLED,
                GraphVersion::V1_1 => 0,
            },
        }
    }

    /// Writes the six base parents of `node`.
    ///
    /// Each node stands for `SAMPLED` nodes of a metagraph; a distance back in the metagraph is drawn
    /// from a bucket [2^(i-1), 2^i], the bucket being drawn evenly, so that near and far parents are
    /// as likely.
    pub fn parents(&self, node: u32, parents: &mut [u32]) {
        if node < 2 {
            parents.fill(0);
            return;
        }
        let mut seed = self.seed;
        seed[28..].copy_from_slice(&node.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(seed);

        let metagraph_node = u64::from(node) * SAMPLED as u64;
        // ceil(log2): the reference computes it in floating point, exact for what fits in 54 bits.
        let buckets = u64::from(64 - (metagraph_node - 1).leading_zeros());
        for (index, parent) in parents.iter_mut().enumerate() {
            if index == self.predecessor {
                *parent = node - 1;
                continue;
            }
            let bucket = random.next_u64() % buckets + 1;
            let largest = metagraph_node.min(1 << bucket);
            let smallest = (largest >> 1).max(2);
            let distance = smallest + random.next_u64() % (largest - smallest + 1);
            let sampled = ((metagraph_node - distance) / SAMPLED as u64) as u32;
            *parent = sampled.min(node - 1);
        }
    }
}
