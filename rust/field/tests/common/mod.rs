//! Elements to compute with.

use std::io::{self, Write};

use blstrs::Scalar;
use ff::Field;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Elements at the edges of the field and of its representations.
pub fn edges() -> Vec<Scalar> {
    let two = Scalar::from(2);
    let powers = [51, 52, 53, 63, 64, 104, 128, 208, 254, 256, 260].map(|n| two.pow([n]));
    let near = powers
        .into_iter()
        .flat_map(|power| [power, power - Scalar::ONE, -power]);
    [
        Scalar::ZERO,
        Scalar::ONE,
        -Scalar::ONE,
        two.invert().unwrap(),
    ]
    .into_iter()
    .chain(near)
    .collect()
}

/// `count` elements: the edges, then random ones.
pub fn scalars(count: usize, seed: u64) -> Vec<Scalar> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let edges = edges();
    let any = std::iter::from_fn(move || {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        bytes[31] &= 0x3f;
        Scalar::from_bytes_le(&bytes).into_option()
    });
    edges.into_iter().chain(any).take(count).collect()
}

/// Says why a test is skipped. Test runners hold back what print macros write.
#[allow(dead_code, reason = "not every test binary skips")]
pub fn skip(why: &str) {
    let _ = writeln!(io::stderr(), "skipped: {why}");
}
