//! Into and out of the eight-wide form.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_or_si512, _mm512_slli_epi64, _mm512_srli_epi64,
};
use std::mem::transmute;

use blst::blst_fr;
use blstrs::Scalar;

use super::{splat, Constant, Fr8, Sum, LANES};
use crate::canonical::Words;
use crate::fr::montgomery_words;
use crate::limbs::{constant_limbs, FROM_BLST, LIMBS, MASK, R_SQUARED, TO_BLST};

/// Word `i` of eight numbers of 256 bits in row `i`, least significant first.
pub type WordLanes = [[u64; LANES]; 4];

impl Constant {
    /// The constant as Montgomery form of this module.
    pub fn new(value: &Scalar) -> Self {
        Constant(constant_limbs(value))
    }
}

impl Fr8 {
    /// The elements that eight numbers stand for, reduced; each may be anything of 256 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn from_numbers(words: &WordLanes) -> Self {
        let mut sum = Sum::zero();
        sum.add_dot(&[Fr8(to_limbs(words))], &[Constant(R_SQUARED)]);
        sum.reduce()
    }

    /// The numbers below p that stand for the elements. Takes any value below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn to_numbers(&self) -> WordLanes {
        // One in plain form divides by 2²⁶⁰: the result is p at most.
        let mut sum = Sum::zero();
        sum.add_dot(&[*self], &[Constant([1, 0, 0, 0, 0])]);
        to_words(&sum.reduce().canonical().0)
    }

    /// Eight elements of blst.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn from_scalars(scalars: &[Scalar; LANES]) -> Self {
        let mut words: WordLanes = [[0; LANES]; 4];
        for (lane, scalar) in scalars.iter().enumerate() {
            for (row, word) in words.iter_mut().zip(montgomery_words(scalar)) {
                row[lane] = word;
            }
        }
        let mut sum = Sum::zero();
        // 2²⁵⁶ · x times 2²⁶⁴, divided by 2²⁶⁰, is 2²⁶⁰ · x.
        sum.add_dot(&[Fr8(to_limbs(&words))], &[Constant(FROM_BLST)]);
        sum.reduce()
    }

    /// The elements as blst has them. Takes any value below 2²⁶⁰.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn to_scalars(&self) -> [Scalar; LANES] {
        let mut sum = Sum::zero();
        sum.add_dot(&[*self], &[Constant(TO_BLST)]);
        let words = to_words(&sum.reduce().canonical().0);
        std::array::from_fn(|lane| {
            let l: Words = words.map(|row| row[lane]);
            blst_fr { l }.into()
        })
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn to_limbs(words: &WordLanes) -> [__m512i; LIMBS] {
    let mask = splat(MASK);
    let [a, b, c, d] = words.map(|row| load(row));
    let between = |low, high| _mm512_and_si512(_mm512_or_si512(low, high), mask);
    [
        _mm512_and_si512(a, mask),
        between(_mm512_srli_epi64::<52>(a), _mm512_slli_epi64::<12>(b)),
        between(_mm512_srli_epi64::<40>(b), _mm512_slli_epi64::<24>(c)),
        between(_mm512_srli_epi64::<28>(c), _mm512_slli_epi64::<36>(d)),
        _mm512_srli_epi64::<16>(d),
    ]
}

/// The words of numbers below 2²⁵⁶.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn to_words(limbs: &[__m512i; LIMBS]) -> WordLanes {
    let [a, b, c, d, e] = *limbs;
    [
        store(_mm512_or_si512(a, _mm512_slli_epi64::<52>(b))),
        store(_mm512_or_si512(
            _mm512_srli_epi64::<12>(b),
            _mm512_slli_epi64::<40>(c),
        )),
        store(_mm512_or_si512(
            _mm512_srli_epi64::<24>(c),
            _mm512_slli_epi64::<28>(d),
        )),
        store(_mm512_or_si512(
            _mm512_srli_epi64::<36>(d),
            _mm512_slli_epi64::<16>(e),
        )),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(lanes: [u64; LANES]) -> __m512i {
    // SAFETY: both are 64 bytes, and every bit pattern is a value of either.
    unsafe { transmute::<[u64; LANES], __m512i>(lanes) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn store(lanes: __m512i) -> [u64; LANES] {
    // SAFETY: both are 64 bytes, and every bit pattern is a value of either.
    unsafe { transmute::<__m512i, [u64; LANES]>(lanes) }
}
