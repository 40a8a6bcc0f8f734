//! The shapes of large sectors, small, beside the proofs library.

mod seal;
mod upgrade;

use std::io::{self, Write};

use poseidon::{Kernel, Node};
use rand_chacha::rand_core::RngCore;
use rand_chacha::ChaCha8Rng;

fn random_nodes(count: usize, random: &mut ChaCha8Rng) -> Vec<Node> {
    let mut nodes = vec![Node::default(); count];
    for node in &mut nodes {
        random.fill_bytes(node);
        node[31] &= 0x3f;
    }
    nodes
}

/// Those of this CPU; says so if it lacks some.
fn kernels() -> Vec<Kernel> {
    let kernels = Kernel::all();
    if kernels.len() < 3 {
        // Test runners hold back what print macros write.
        let why = "this CPU has no AVX2 or no AVX-512 IFMA";
        let _ = writeln!(io::stderr(), "skipped, such a kernel: {why}");
    }
    kernels
}
