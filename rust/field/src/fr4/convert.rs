//! Into and out of the four-wide form.

use std::arch::x86_64::__m256i;
use std::mem::transmute;

use blstrs::Scalar;

use super::{halves, Constant, Fr4, Sum, BITS, HALVES, LANES};
use crate::canonical::reduce_once;
use crate::limbs::{constant_limbs, from_words, LIMBS, R_SQUARED};

/// Word `i` of four numbers of 256 bits in row `i`, least significant first.
pub type WordLanes = [[u64; LANES]; 4];

impl Constant {
    /// The constant as Montgomery form of this module.
    pub fn new(value: &Scalar) -> Self {
        Constant(halves(constant_limbs(value)))
    }
}

impl Fr4 {
    /// The elements that four numbers stand for, reduced; each may be anything of 256 bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn from_numbers(words: &WordLanes) -> Self {
        let mut rows = [[0; LANES]; HALVES];
        for lane in 0..LANES {
            let limbs = halves(from_words(words.map(|row| row[lane])));
            for (row, limb) in rows.iter_mut().zip(limbs) {
                row[lane] = limb;
            }
        }
        let mut sum = Sum::zero();
        sum.add_dot(
            &[Fr4(rows.map(|row| load(row)))],
            &[Constant(halves(R_SQUARED))],
        );
        sum.reduce()
    }

    /// The numbers below p that stand for the elements. Takes any value below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn to_numbers(&self) -> WordLanes {
        // One in plain form divides by 2²⁶⁰: the result is p at most.
        let mut sum = Sum::zero();
        sum.add_dot(&[*self], &[Constant(halves([1, 0, 0, 0, 0]))]);
        let rows = sum.reduce().0.map(|limb| store(limb));
        let mut words: WordLanes = [[0; LANES]; 4];
        for lane in 0..LANES {
            let mut limbs = [0; LIMBS];
            for (limb, halves) in limbs.iter_mut().zip(rows.chunks_exact(2)) {
                *limb = halves[0][lane] | halves[1][lane] << BITS;
            }
            let [a, b, c, d, e] = limbs;
            let number = [
                a | b << 52,
                b >> 12 | c << 40,
                c >> 24 | d << 28,
                d >> 36 | e << 16,
            ];
            for (row, word) in words.iter_mut().zip(reduce_once(number)) {
                row[lane] = word;
            }
        }
        words
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: [u64; LANES]) -> __m256i {
    // SAFETY: both are 32 bytes, and every bit pattern is a value of either.
    unsafe { transmute::<[u64; LANES], __m256i>(lanes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(lanes: __m256i) -> [u64; LANES] {
    // SAFETY: both are 32 bytes, and every bit pattern is a value of either.
    unsafe { transmute::<__m256i, [u64; LANES]>(lanes) }
}
