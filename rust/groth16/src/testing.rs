//! What several tests need: random values that are the same in every run.

use std::io::{self, Write};

use blstrs::Scalar;
use ff::Field;
use field::cpu::Ifma;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Whether this CPU can run tests of eight lanes; says so if not.
pub fn has_ifma() -> bool {
    let has = Ifma::detect().is_some();
    if !has {
        // Test runners hold back what print macros write.
        let _ = writeln!(io::stderr(), "skipped: this CPU has no AVX-512 IFMA");
    }
    has
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// `count` random scalars.
pub fn scalars(seed: u64, count: usize) -> Vec<Scalar> {
    let mut rng = rng(seed);
    (0..count).map(|_| Scalar::random(&mut rng)).collect()
}
