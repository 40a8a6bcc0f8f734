//! Eight elements of the base field of BLS12-381 at a time, in radix 2⁵² with AVX-512 IFMA.
//!
//! An element x is in Montgomery form: the eight limbs hold x · 2⁴¹⁶ modulo p, and every limb is below
//! 2⁵². The modulus p has 381 bits, so a value may exceed it 2³⁵ times; how large an operation's result
//! may be is said with it. *Reduced* is a value below 2p: what products are and sums take.

mod extension;
mod memory;
#[cfg(test)]
mod tests;

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_srai_epi64, _mm512_srli_epi64, _mm512_sub_epi64,
};

use crate::radix::{double, from_words, negated_inverse, power_of_two, LIMB_BITS, MASK};
pub use extension::{Element2, Fp2x8};
pub use memory::{read, Element};

/// Elements in one [`Fp8`].
pub const LANES: usize = 8;

/// Limbs of an element.
const LIMBS: usize = 8;

/// The modulus in words, least significant first.
const MODULUS: [u64; 6] = [
    0xb9fe_ffff_ffff_aaab,
    0x1eab_fffe_b153_ffff,
    0x6730_d2a0_f6b0_f624,
    0x6477_4b84_f385_12bf,
    0x4b1b_a7b6_434b_acd7,
    0x1a01_11ea_397f_e69a,
];

type Limbs = [u64; LIMBS];

/// p.
const P: Limbs = from_words(MODULUS);
/// 2p.
const P_TWICE: Limbs = double(P);
/// −1 / p mod 2⁵²: the factor of a Montgomery step.
const P_INVERSE: u64 = negated_inverse(P[0]);
/// 2⁴¹⁶ mod p, which stands for one.
const ONE: Limbs = power_of_two(416, P);
/// 2⁸³² mod p: takes a number into Montgomery form.
const R_SQUARED: Limbs = power_of_two(832, P);

/// Eight elements.
#[derive(Clone, Copy, Debug)]
pub struct Fp8([__m512i; LIMBS]);

impl Fp8 {
    /// One in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn one() -> Self {
        Fp8::splat(&ONE)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn splat(limbs: &Limbs) -> Self {
        Fp8(limbs.map(|limb| splat(limb)))
    }

    /// The product. Below a · b / 2⁴¹⁶ + p: reduced if the values' bounds multiply to less than 2³⁵ p².
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn mul(&self, other: &Fp8) -> Fp8 {
        // A column takes at most sixteen numbers below 2⁵² from the product, as many from the reduction,
        // and a carry.
        let mut columns = [_mm512_setzero_si512(); 2 * LIMBS];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                add_limbs(&mut columns, i + j, *a, *b);
            }
        }
        reduce(columns)
    }

    /// The square; bounds as in [`Fp8::mul`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn square(&self) -> Fp8 {
        let mut columns = [_mm512_setzero_si512(); 2 * LIMBS];
        for i in 0..LIMBS {
            for j in i + 1..LIMBS {
                add_limbs(&mut columns, i + j, self.0[i], self.0[j]);
            }
        }
        for column in &mut columns {
            *column = _mm512_add_epi64(*column, *column);
        }
        for (i, limb) in self.0.iter().enumerate() {
            add_limbs(&mut columns, 2 * i, *limb, *limb);
        }
        reduce(columns)
    }

    /// The sum of two reduced values, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add(&self, other: &Fp8) -> Fp8 {
        self.add_lazily(other).minus_twice_p_if_not_below()
    }

    /// The sum of two values: as large as both together.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add_lazily(&self, other: &Fp8) -> Fp8 {
        let mut limbs = self.0;
        for (limb, other) in limbs.iter_mut().zip(other.0) {
            *limb = _mm512_add_epi64(*limb, other);
        }
        Fp8(carried(limbs))
    }

    /// The difference of two reduced values, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn sub(&self, other: &Fp8) -> Fp8 {
        self.sub_lazily(other).minus_twice_p_if_not_below()
    }

    /// The difference of a value and a reduced one: at most 2p larger than the first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn sub_lazily(&self, other: &Fp8) -> Fp8 {
        let mut limbs = self.0;
        for (i, limb) in limbs.iter_mut().enumerate() {
            *limb = _mm512_sub_epi64(_mm512_add_epi64(*limb, splat(P_TWICE[i])), other.0[i]);
        }
        Fp8(carried_signed(limbs))
    }

    /// Negates the lanes of a reduced value whose bit is set. The result is at most 2p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn negate(&self, lanes: u8) -> Fp8 {
        let mut limbs = self.0;
        for (limb, twice) in limbs.iter_mut().zip(P_TWICE) {
            let negated = _mm512_sub_epi64(splat(twice), *limb);
            *limb = _mm512_mask_blend_epi64(lanes, *limb, negated);
        }
        Fp8(carried_signed(limbs))
    }

    /// The value, less 2p in lanes where it is not below that.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn minus_twice_p_if_not_below(&self) -> Fp8 {
        let mut limbs = self.0;
        for (limb, twice) in limbs.iter_mut().zip(P_TWICE) {
            *limb = _mm512_sub_epi64(*limb, splat(twice));
        }
        let mut limbs = carried_signed(limbs);
        let below = _mm512_cmplt_epi64_mask(limbs[LIMBS - 1], _mm512_setzero_si512());
        for (limb, kept) in limbs.iter_mut().zip(self.0) {
            *limb = _mm512_mask_blend_epi64(below, *limb, kept);
        }
        Fp8(limbs)
    }
}

/// Adds both halves of the product of two limbs, the low half into `column`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn add_limbs(columns: &mut [__m512i; 2 * LIMBS], column: usize, a: __m512i, b: __m512i) {
    columns[column] = _mm512_madd52lo_epu64(columns[column], a, b);
    columns[column + 1] = _mm512_madd52hi_epu64(columns[column + 1], a, b);
}

/// A sum of products divided by 2⁴¹⁶ modulo p: below sum / 2⁴¹⁶ + p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce(mut columns: [__m512i; 2 * LIMBS]) -> Fp8 {
    let zero = _mm512_setzero_si512();
    let factor = splat(P_INVERSE);
    for i in 0..LIMBS {
        // With m · p added, the column's low 52 bits are zero, and the column can go.
        let m = _mm512_madd52lo_epu64(zero, columns[i], factor);
        for (j, limb) in P.into_iter().enumerate() {
            add_limbs(&mut columns, i + j, m, splat(limb));
        }
        let carry = _mm512_srli_epi64::<LIMB_BITS>(columns[i]);
        columns[i + 1] = _mm512_add_epi64(columns[i + 1], carry);
    }
    let mut limbs = [zero; LIMBS];
    limbs.copy_from_slice(&columns[LIMBS..]);
    Fp8(carried(limbs))
}

/// The same number with every limb below the last in 52 bits: bits above them go to the next.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carried(mut limbs: [__m512i; LIMBS]) -> [__m512i; LIMBS] {
    let mask = splat(MASK);
    for i in 0..LIMBS - 1 {
        let carry = _mm512_srli_epi64::<LIMB_BITS>(limbs[i]);
        limbs[i] = _mm512_and_si512(limbs[i], mask);
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], carry);
    }
    limbs
}

/// Like [`carried`] for limbs that may be negative; then the last limb is, if the number is.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carried_signed(mut limbs: [__m512i; LIMBS]) -> [__m512i; LIMBS] {
    let mask = splat(MASK);
    for i in 0..LIMBS - 1 {
        let carry = _mm512_srai_epi64::<LIMB_BITS>(limbs[i]);
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
