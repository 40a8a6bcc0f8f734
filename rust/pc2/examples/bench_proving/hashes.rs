//! One hash, by neptune and by each kernel.

use std::time::Duration;

use anyhow::Result;
use blstrs::Scalar;
use neptune::poseidon::{Arity, PoseidonConstants};
use poseidon::{Kernel, Node, Poseidon, Preimages};

use crate::cpu_time;

/// Hashes in one measurement: short, so that many of them are undisturbed.
const BATCH: usize = 32;
const ROUNDS: usize = 400;

/// The time of one hash.
pub struct Row {
    pub neptune: Duration,
    /// One for each kernel.
    pub ours: Vec<Duration>,
}

/// The best times of many rounds, in each of which everybody hashes the same.
pub fn compare<A: Arity<Scalar>>(poseidon: &Poseidon, kernels: &[Kernel]) -> Result<Row> {
    let arity = A::to_usize();
    let nodes: Vec<Node> = (0..BATCH * arity).map(node).collect();
    let constants = PoseidonConstants::<Scalar, A>::new();
    let mut digests = vec![Node::default(); BATCH];
    let mut row = Row {
        neptune: Duration::MAX,
        ours: vec![Duration::MAX; kernels.len()],
    };
    for _ in 0..ROUNDS {
        let start = cpu_time(libc::CLOCK_THREAD_CPUTIME_ID);
        for (preimage, digest) in nodes.chunks_exact(arity).zip(&mut digests) {
            let scalars: Vec<Scalar> = preimage
                .iter()
                .map(|node| Scalar::from_bytes_le(node).expect("a field element"))
                .collect();
            let mut hasher = neptune::Poseidon::new_with_preimage(&scalars, &constants);
            *digest = hasher.hash().to_bytes_le();
        }
        row.neptune = row.neptune.min(since(start));
        for (best, kernel) in row.ours.iter_mut().zip(kernels) {
            let start = cpu_time(libc::CLOCK_THREAD_CPUTIME_ID);
            poseidon.hash(*kernel, Preimages::Rows(&nodes), &mut digests)?;
            *best = (*best).min(since(start));
        }
    }
    Ok(row)
}

/// The time of one hash of a batch.
fn since(start: Duration) -> Duration {
    (cpu_time(libc::CLOCK_THREAD_CPUTIME_ID) - start) / BATCH as u32
}

/// A field element without a pattern.
pub fn node(index: usize) -> Node {
    let mut state = index as u64;
    let mut node = Node::default();
    for word in node.chunks_exact_mut(8) {
        state = state
            .wrapping_add(0x9e37_79b9_7f4a_7c15)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 29;
        word.copy_from_slice(&state.to_le_bytes());
    }
    node[31] &= 0x3f;
    node
}
