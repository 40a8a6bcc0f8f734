//! Eight elements of the scalar field at a time, in radix 2⁵² with AVX-512 IFMA.
//!
//! An element x is in Montgomery form: the five limbs hold x · 2²⁶⁰ modulo p, and every limb is below
//! 2⁵². The modulus p has 255 bits, so a value may exceed it 35 times; how large an operation's result
//! may be is said with it. *Reduced* is a value below 2p: what products are and sums take.

mod convert;
mod invert;
mod lanes;
mod sum;
#[cfg(test)]
mod tests;

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epi64_mask, _mm512_mask_blend_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srai_epi64, _mm512_sub_epi64,
};

use crate::limbs::{Limbs, LIMBS, MASK, P, P_TWICE};
pub use convert::WordLanes;
pub use invert::batch_invert;
use sum::carried;
pub use sum::{Constant, Sum};

/// Elements in one [`Fr8`].
pub const LANES: usize = 8;

/// Eight elements.
#[derive(Clone, Copy, Debug)]
pub struct Fr8([__m512i; LIMBS]);

impl Fr8 {
    /// Zero in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn zero() -> Self {
        Fr8([_mm512_setzero_si512(); LIMBS])
    }

    /// The product. Not larger than a · b / 2²⁶⁰ + p: reduced if the values' bounds multiply to less
    /// than 35 p².
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn mul(&self, other: &Fr8) -> Fr8 {
        let mut sum = Sum::zero();
        sum.add_product(self, other);
        sum.reduce()
    }

    /// The product with `factor`, and `addend` added, which may make it p larger than [`Fr8::mul`] does.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn mul_add(&self, factor: &Fr8, addend: &Constant) -> Fr8 {
        let mut sum = Sum::of(&addend.splat());
        sum.add_product(self, factor);
        sum.reduce()
    }

    /// The square; bounds as in [`Fr8::mul`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn square(&self) -> Fr8 {
        let mut sum = Sum::zero();
        sum.add_square(self);
        sum.reduce()
    }

    /// The sum of two reduced values, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add(&self, other: &Fr8) -> Fr8 {
        self.add_lazily(other).minus_if_not_below(&P_TWICE)
    }

    /// The sum of two values: as large as both together, which must be below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add_lazily(&self, other: &Fr8) -> Fr8 {
        let mut limbs = self.0;
        for (limb, other) in limbs.iter_mut().zip(other.0) {
            *limb = _mm512_add_epi64(*limb, other);
        }
        Fr8(carried(limbs))
    }

    /// Twice a reduced value, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn double(&self) -> Fr8 {
        self.add(self)
    }

    /// The difference of two reduced values, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn sub(&self, other: &Fr8) -> Fr8 {
        let mut limbs = self.0;
        let terms = other.0.into_iter().zip(P_TWICE);
        for (limb, (other, twice)) in limbs.iter_mut().zip(terms) {
            *limb = _mm512_sub_epi64(_mm512_add_epi64(*limb, splat(twice)), other);
        }
        Fr8(carried_signed(limbs)).minus_if_not_below(&P_TWICE)
    }

    /// The same elements as values below p; of a value below 2p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn canonical(&self) -> Fr8 {
        self.minus_if_not_below(&P)
    }

    /// The value, less `subtrahend` in lanes where it is not below it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn minus_if_not_below(&self, subtrahend: &Limbs) -> Fr8 {
        let mut difference = self.0;
        for (limb, subtrahend) in difference.iter_mut().zip(subtrahend) {
            *limb = _mm512_sub_epi64(*limb, splat(*subtrahend));
        }
        let difference = carried_signed(difference);
        let below = _mm512_cmplt_epi64_mask(difference[LIMBS - 1], _mm512_setzero_si512());
        let mut limbs = difference;
        for (limb, kept) in limbs.iter_mut().zip(self.0) {
            *limb = _mm512_mask_blend_epi64(below, *limb, kept);
        }
        Fr8(limbs)
    }
}

/// Like [`carried`] for limbs that may be negative; then the last limb is, if the number is.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carried_signed(mut limbs: [__m512i; LIMBS]) -> [__m512i; LIMBS] {
    let mask = splat(MASK);
    for i in 0..LIMBS - 1 {
        let carry = _mm512_srai_epi64::<{ crate::limbs::LIMB_BITS }>(limbs[i]);
        limbs[i] = _mm512_and_si512(limbs[i], mask);
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], carry);
    }
    limbs
}

/// One word in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn splat(word: u64) -> __m512i {
    _mm512_set1_epi64(word as i64)
}
