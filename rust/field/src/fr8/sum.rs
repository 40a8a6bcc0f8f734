//! Sums of products that are reduced once.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
};

use super::{splat, Fr8};
use crate::limbs::{Limbs, LIMBS, LIMB_BITS, MASK, P, P_INVERSE};

/// Limbs of a product.
const COLUMNS: usize = 2 * LIMBS;

/// A sum of products, eight lanes of it, not reduced.
///
/// A column is 64 bits wide. A product puts at most ten numbers below 2⁵² into one, the reduction as
/// many and a carry: a sum of 400 products can't overflow.
#[derive(Clone, Copy)]
pub struct Sum([__m512i; COLUMNS]);

impl Sum {
    /// Nothing added yet.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn zero() -> Self {
        Sum([_mm512_setzero_si512(); COLUMNS])
    }

    /// A sum that reduces to `a` when nothing is added.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn of(a: &Fr8) -> Self {
        let mut sum = Sum::zero();
        sum.0[LIMBS..].copy_from_slice(&a.0);
        sum
    }

    /// Adds a · b.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add_product(&mut self, a: &Fr8, b: &Fr8) {
        for i in 0..LIMBS {
            for j in 0..LIMBS {
                self.add_limbs(i + j, a.0[i], b.0[j]);
            }
        }
    }

    /// Adds the products of every element with its constant, which is the same in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add_dot(&mut self, elements: &[Fr8], constants: &[Constant]) {
        for (element, constant) in elements.iter().zip(constants) {
            for (j, limb) in constant.0.into_iter().enumerate() {
                let limb = splat(limb);
                for i in 0..LIMBS {
                    self.add_limbs(i + j, element.0[i], limb);
                }
            }
        }
    }

    /// Adds a². Of the products of two limbs, each is made once and doubled.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add_square(&mut self, a: &Fr8) {
        let mut mixed = Sum::zero();
        for i in 0..LIMBS {
            for j in i + 1..LIMBS {
                mixed.add_limbs(i + j, a.0[i], a.0[j]);
            }
        }
        for (column, mixed) in self.0.iter_mut().zip(mixed.0) {
            *column = _mm512_add_epi64(*column, _mm512_add_epi64(mixed, mixed));
        }
        for i in 0..LIMBS {
            self.add_limbs(2 * i, a.0[i], a.0[i]);
        }
    }

    /// The sum divided by 2²⁶⁰ modulo p, which makes the Montgomery form of a sum of products of
    /// Montgomery forms. It is below sum / 2²⁶⁰ + p, which the caller keeps below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn reduce(mut self) -> Fr8 {
        let zero = _mm512_setzero_si512();
        let factor = splat(P_INVERSE);
        for i in 0..LIMBS {
            // With m · p added, the column's low 52 bits are zero, and the column can go.
            let m = _mm512_madd52lo_epu64(zero, self.0[i], factor);
            for (j, limb) in P.into_iter().enumerate() {
                self.add_limbs(i + j, m, splat(limb));
            }
            let carry = _mm512_srli_epi64::<LIMB_BITS>(self.0[i]);
            self.0[i + 1] = _mm512_add_epi64(self.0[i + 1], carry);
        }
        let mut limbs = [zero; LIMBS];
        limbs.copy_from_slice(&self.0[LIMBS..]);
        Fr8(carried(limbs))
    }

    /// Adds both halves of the product of two limbs, the low half into `column`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add_limbs(&mut self, column: usize, a: __m512i, b: __m512i) {
        self.0[column] = _mm512_madd52lo_epu64(self.0[column], a, b);
        self.0[column + 1] = _mm512_madd52hi_epu64(self.0[column + 1], a, b);
    }
}

/// The same number with every limb below the last in 52 bits: bits above them go to the next.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn carried(mut limbs: [__m512i; LIMBS]) -> [__m512i; LIMBS] {
    let mask = splat(MASK);
    for i in 0..LIMBS - 1 {
        let carry = _mm512_srli_epi64::<LIMB_BITS>(limbs[i]);
        limbs[i] = _mm512_and_si512(limbs[i], mask);
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], carry);
    }
    limbs
}

/// One element, the same in all lanes: 40 bytes instead of 320.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant(pub(super) Limbs);

impl Constant {
    /// The element in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn splat(&self) -> Fr8 {
        let mut limbs = [_mm512_setzero_si512(); LIMBS];
        for (lanes, limb) in limbs.iter_mut().zip(self.0) {
            *lanes = _mm512_set1_epi64(limb as i64);
        }
        Fr8(limbs)
    }
}
