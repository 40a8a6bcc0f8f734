//! Sums of products that are reduced once.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_mul_epu32, _mm256_setzero_si256,
    _mm256_srli_epi64,
};

use super::{halves, splat, Fr4, BITS, HALVES, MASK};
use crate::limbs::{LIMBS, P, P_INVERSE};

/// Limbs of a product.
const COLUMNS: usize = 2 * HALVES;
const P_HALVES: [u64; HALVES] = halves(P);

/// A sum of products, four lanes of it, not reduced.
///
/// A product puts at most ten numbers below 2⁵² into a column of 64 bits, the reduction as many and a
/// carry: a sum of 400 products can't overflow.
#[derive(Clone, Copy)]
pub struct Sum([__m256i; COLUMNS]);

impl Sum {
    /// Nothing added yet.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn zero() -> Self {
        Sum([_mm256_setzero_si256(); COLUMNS])
    }

    /// A sum that reduces to `a` when nothing is added.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn of(a: &Fr4) -> Self {
        let mut sum = Sum::zero();
        sum.0[HALVES..].copy_from_slice(&a.0);
        sum
    }

    /// Adds a · b.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn add_product(&mut self, a: &Fr4, b: &Fr4) {
        for i in [0, LIMBS] {
            for j in [0, LIMBS] {
                let columns = &mut self.0[i + j..][..2 * LIMBS - 1];
                for (k, b) in b.0[j..][..LIMBS].iter().enumerate() {
                    for (column, a) in columns[k..].iter_mut().zip(&a.0[i..][..LIMBS]) {
                        *column = multiply_add(*column, *a, *b);
                    }
                }
            }
        }
    }

    /// Adds the products of every element with its constant, which is the same in every lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn add_dot(&mut self, elements: &[Fr4], constants: &[Constant]) {
        self.add_quarter::<0, 0>(elements, constants);
        self.add_quarter::<LIMBS, 0>(elements, constants);
        self.add_quarter::<0, LIMBS>(elements, constants);
        self.add_quarter::<LIMBS, LIMBS>(elements, constants);
    }

    /// Adds the part of the products that half of the elements' limbs, from limb `I` on, make with half of
    /// the constants', from `J` on: so few columns that they stay in registers for all products.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_quarter<const I: usize, const J: usize>(
        &mut self,
        elements: &[Fr4],
        constants: &[Constant],
    ) {
        let mut sum = [_mm256_setzero_si256(); 2 * LIMBS - 1];
        sum.copy_from_slice(&self.0[I + J..][..2 * LIMBS - 1]);
        let [mut c0, mut c1, mut c2, mut c3, mut c4, mut c5, mut c6, mut c7, mut c8] = sum;
        for (element, constant) in elements.iter().zip(constants) {
            let a: &[__m256i; LIMBS] = element.0[I..].first_chunk().expect("half of the limbs");
            let b: &[u64; LIMBS] = constant.0[J..].first_chunk().expect("half of the limbs");
            // By hand: a loop would index the columns, and keep them in memory for that.
            macro_rules! row {
                ($k:literal: $($column:ident),*) => {
                    let factor = splat(b[$k]);
                    let [a0, a1, a2, a3, a4] = *a;
                    for (column, a) in [$(&mut $column),*].into_iter().zip([a0, a1, a2, a3, a4]) {
                        *column = multiply_add(*column, a, factor);
                    }
                };
            }
            row!(0: c0, c1, c2, c3, c4);
            row!(1: c1, c2, c3, c4, c5);
            row!(2: c2, c3, c4, c5, c6);
            row!(3: c3, c4, c5, c6, c7);
            row!(4: c4, c5, c6, c7, c8);
        }
        let sum = [c0, c1, c2, c3, c4, c5, c6, c7, c8];
        self.0[I + J..][..2 * LIMBS - 1].copy_from_slice(&sum);
    }

    /// Adds a². Of the products of two limbs, each is made once, with one of them doubled.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn add_square(&mut self, a: &Fr4) {
        for i in 0..HALVES {
            self.0[2 * i] = multiply_add(self.0[2 * i], a.0[i], a.0[i]);
            let twice = _mm256_add_epi64(a.0[i], a.0[i]);
            for j in i + 1..HALVES {
                self.0[i + j] = multiply_add(self.0[i + j], twice, a.0[j]);
            }
        }
    }

    /// The sum divided by 2²⁶⁰ modulo p, which makes the Montgomery form of a sum of products of
    /// Montgomery forms. It is below sum / 2²⁶⁰ + p, which the caller keeps below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn reduce(mut self) -> Fr4 {
        let mask = splat(MASK);
        let inverse = splat(P_INVERSE & MASK);
        for k in 0..HALVES {
            // With m · p added, the low 26 bits are zero, and the column can go.
            let m = _mm256_and_si256(_mm256_mul_epu32(self.0[k], inverse), mask);
            let columns: &mut [__m256i; HALVES] =
                self.0[k..].first_chunk_mut().expect("ten columns");
            for (column, limb) in columns.iter_mut().zip(P_HALVES) {
                *column = multiply_add(*column, m, splat(limb));
            }
            let carry = _mm256_srli_epi64::<BITS>(columns[0]);
            columns[1] = _mm256_add_epi64(columns[1], carry);
        }
        let mut limbs = [_mm256_setzero_si256(); HALVES];
        let mut carry = _mm256_setzero_si256();
        for (limb, column) in limbs.iter_mut().zip(&self.0[HALVES..]) {
            let column = _mm256_add_epi64(*column, carry);
            *limb = _mm256_and_si256(column, mask);
            carry = _mm256_srli_epi64::<BITS>(column);
        }
        Fr4(limbs)
    }
}

/// column + a · b, for a and b below 2³².
#[inline]
#[target_feature(enable = "avx2")]
fn multiply_add(column: __m256i, a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi64(column, _mm256_mul_epu32(a, b))
}

/// One element, the same in all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant(pub(super) [u64; HALVES]);

impl Constant {
    /// The element in every lane.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn splat(&self) -> Fr4 {
        let mut limbs = [_mm256_setzero_si256(); HALVES];
        for (lanes, limb) in limbs.iter_mut().zip(self.0) {
            *lanes = splat(limb);
        }
        Fr4(limbs)
    }
}
