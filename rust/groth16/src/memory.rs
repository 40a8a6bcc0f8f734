//! What a proof needs of memory, and vectors whose refusal is an error instead of the program's end.

use std::mem::size_of;

use anyhow::{Context, Result};
use blstrs::Scalar;

use crate::arithmetic::{Arithmetic, Fields, Portable, Wide};
use crate::fft::Lanes as _;
use crate::msm::{self, G1, G2};
use crate::parameters::Parameters;

/// What a proof needs besides its large vectors: the circuit, pages of the mapped parameters, the program.
const REST: u64 = 64 << 20;

/// The most memory that proving needs, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// A synthesised circuit that waits.
    pub assignment: u64,
    /// Everything, while one circuit is synthesised and proven.
    pub proof: u64,
}

impl Memory {
    /// For proofs with these parameters. `joined` is of circuits that synthesise parts and join them
    /// (proofs of spacetime): then the parts and the whole are there at the same time.
    pub fn of(parameters: &Parameters, arithmetic: Arithmetic, joined: bool) -> Self {
        let shape = Shape {
            domain: parameters.domain(),
            aux: parameters.aux(),
        };
        match arithmetic {
            Arithmetic::Wide(_) => shape.memory::<Wide>(joined),
            Arithmetic::Portable => shape.memory::<Portable>(joined),
        }
    }
}

struct Shape {
    domain: usize,
    aux: usize,
}

impl Shape {
    fn memory<F: Fields>(&self, joined: bool) -> Memory {
        let scalar = size_of::<Scalar>();
        let constant = size_of::<<F::Fr as crate::fft::Lanes>::Constant>();
        // A value of a transform, and what its twiddles are: one for every two vectors.
        let value = size_of::<F::Fr>() / F::Fr::WIDTH;
        let twiddles = self.domain / F::Fr::WIDTH / 2 * constant;
        let made = self.domain / F::Fr::WIDTH / 2 * scalar;

        let variables = self.aux * scalar;
        let densities = 2 * self.aux / 8;
        let assignment = 3 * self.domain * scalar + variables + densities;
        // In the quotient the first transform's data stand beside all three combinations, later two
        // beside two of them.
        let transformed = value.max((2 * value).saturating_sub(scalar)) * self.domain;
        let quotient = assignment + twiddles + transformed.max(made);
        let sums = [
            self.domain * scalar + msm::memory::<G1, F::Fp>(self.domain),
            msm::memory::<G2, F::Fp2>(self.aux),
        ];
        let sums = variables + densities + sums[0].max(sums[1]);
        let synthesis = if joined { 2 * assignment } else { assignment };
        Memory {
            assignment: assignment as u64,
            proof: quotient.max(sums).max(synthesis) as u64 + REST,
        }
    }
}

/// An empty vector with room for `len` values. An error if the system has no memory for them.
pub fn reserved<T>(len: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(len).with_context(|| {
        let bytes = len.saturating_mul(size_of::<T>());
        format!("memory allocation of {bytes} bytes failed")
    })?;
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_memory_is_an_error() {
        assert_eq!(reserved::<Scalar>(3).unwrap().capacity(), 3);
        let error = reserved::<Scalar>(1 << 58).unwrap_err().to_string();
        assert!(
            error.contains("allocation of 9223372036854775808 bytes"),
            "{error}"
        );
    }

    /// The figures of `bench_c2`: 603 MB of 2 KiB, where a third of the domain stays empty.
    #[test]
    fn the_sealing_circuits_need_what_was_measured_and_little_more() {
        let small = Shape {
            domain: 1 << 22,
            aux: 2_685_673,
        };
        // More threads have more buckets.
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let both = || [small.memory::<Portable>(false), small.memory::<Wide>(false)];
        for memory in threads.unwrap().install(both) {
            let megabytes = memory.proof / 1_000_000;
            assert!((620..850).contains(&megabytes), "{memory:?}");
        }
        let large = Shape {
            domain: 1 << 27,
            aux: 130_169_893,
        };
        let memory = large.memory::<Portable>(false);
        assert_eq!(memory.assignment >> 30, 15);
        assert_eq!(memory.proof >> 30, 21);
        // The parts of a joined circuit are as large as the whole.
        assert!(large.memory::<Portable>(true).proof >= 2 * memory.assignment);
    }
}
