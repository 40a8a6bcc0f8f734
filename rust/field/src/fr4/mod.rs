//! Four elements of the scalar field at a time, in radix 2²⁶ with AVX2: for machines without IFMA.
//!
//! The Montgomery form is that of [`fr8`](crate::fr8), x · 2²⁶⁰ modulo p, in ten limbs below 2²⁶; what is
//! said there about values larger than p holds here.

mod convert;
mod sum;

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_srli_epi64,
};

use crate::limbs::{Limbs, LIMBS};
pub use convert::WordLanes;
pub use sum::{Constant, Sum};

/// Elements in one [`Fr4`].
pub const LANES: usize = 4;

/// Bits of a limb here: half of one there.
const BITS: i32 = 26;
const MASK: u64 = (1 << BITS) - 1;
/// Limbs of a number.
const HALVES: usize = 2 * LIMBS;

/// Four elements.
#[derive(Clone, Copy, Debug)]
pub struct Fr4([__m256i; HALVES]);

impl Fr4 {
    /// Zero in every lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn zero() -> Self {
        Fr4([_mm256_setzero_si256(); HALVES])
    }

    /// The product. Not larger than a · b / 2²⁶⁰ + p.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn mul(&self, other: &Fr4) -> Fr4 {
        let mut sum = Sum::zero();
        sum.add_product(self, other);
        sum.reduce()
    }

    /// The product with `factor`, and `addend` added, which may make it p larger than [`Fr4::mul`] does.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn mul_add(&self, factor: &Fr4, addend: &Constant) -> Fr4 {
        let mut sum = Sum::of(&addend.splat());
        sum.add_product(self, factor);
        sum.reduce()
    }

    /// The square; bounds as in [`Fr4::mul`].
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn square(&self) -> Fr4 {
        let mut sum = Sum::zero();
        sum.add_square(self);
        sum.reduce()
    }

    /// The sum of two values: as large as both together, which must be below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn add_lazily(&self, other: &Fr4) -> Fr4 {
        let mask = splat(MASK);
        let mut carry = _mm256_setzero_si256();
        let mut limbs = self.0;
        for (limb, other) in limbs.iter_mut().zip(other.0) {
            let sum = _mm256_add_epi64(_mm256_add_epi64(*limb, other), carry);
            *limb = _mm256_and_si256(sum, mask);
            carry = _mm256_srli_epi64::<BITS>(sum);
        }
        Fr4(limbs)
    }
}

/// The halves of the limbs of a number.
const fn halves(limbs: Limbs) -> [u64; HALVES] {
    let mut out = [0; HALVES];
    let mut i = 0;
    while i < LIMBS {
        out[2 * i] = limbs[i] & MASK;
        out[2 * i + 1] = limbs[i] >> BITS;
        i += 1;
    }
    out
}

/// One word in every lane.
#[inline]
#[target_feature(enable = "avx2")]
fn splat(word: u64) -> __m256i {
    _mm256_set1_epi64x(word as i64)
}
