//! Many inverses for the price of one and three products each.

use super::{Constant, Fr8};
use crate::canonical::MODULUS;
use crate::limbs::ONE;
use std::arch::x86_64::{_mm512_cmpeq_epi64_mask, _mm512_mask_blend_epi64, _mm512_setzero_si512};

/// Inverts every element in place; zero stays zero. Takes reduced values, leaves reduced ones.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn batch_invert(elements: &mut [Fr8]) {
    let one = Constant(ONE).splat();
    // Products of all elements before each one; zeros are left out.
    let mut before = Vec::with_capacity(elements.len());
    let mut product = one;
    for element in elements.iter() {
        before.push(product);
        product = product.mul(&element.with_zeros_replaced(&one));
    }
    let mut inverse = invert(&product);
    for (element, before) in elements.iter_mut().zip(before).rev() {
        let inverted = inverse.mul(&before);
        inverse = inverse.mul(&element.with_zeros_replaced(&one));
        *element = inverted.with_zeros_of(element);
    }
}

/// x to the power of p − 2, bit by bit from the highest.
#[target_feature(enable = "avx512f,avx512ifma")]
fn invert(x: &Fr8) -> Fr8 {
    let [low, rest @ ..] = MODULUS;
    let exponent = [low - 2, rest[0], rest[1], rest[2]];
    let mut power = Constant(ONE).splat();
    for bit in (0..255).rev() {
        power = power.square();
        if exponent[bit / 64] >> (bit % 64) & 1 == 1 {
            power = power.mul(x);
        }
    }
    power
}

impl Fr8 {
    /// A bit for every lane that is zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn zeros(&self) -> u8 {
        let zero = _mm512_setzero_si512();
        let limbs = self.canonical().0;
        limbs.into_iter().fold(0xff, |zeros, limb| {
            zeros & _mm512_cmpeq_epi64_mask(limb, zero)
        })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn with_zeros_replaced(&self, other: &Fr8) -> Fr8 {
        let zeros = self.zeros();
        let mut out = *self;
        for (limb, other) in out.0.iter_mut().zip(other.0) {
            *limb = _mm512_mask_blend_epi64(zeros, *limb, other);
        }
        out
    }

    /// Zero in lanes where `other` is zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn with_zeros_of(&self, other: &Fr8) -> Fr8 {
        let zeros = other.zeros();
        let mut out = *self;
        for limb in &mut out.0 {
            *limb = _mm512_mask_blend_epi64(zeros, *limb, _mm512_setzero_si512());
        }
        out
    }
}
