//! Elements in memory, into and out of lanes, and to blst.

use std::arch::x86_64::{
    __m512i, _mm512_load_si512, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_store_si512,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use blst::{blst_fp, blst_fp_eucl_inverse, blst_fp_mul};

use super::{Fp8, Limbs, LANES, LIMBS, MODULUS, P, R_SQUARED};
use crate::radix::{from_words, power_of_two, LIMB_BITS};

/// Words of an element of blst.
const WORDS: usize = 6;

/// 2³⁵² as a number: a Montgomery product with it, which divides by 2³⁸⁴, takes the Montgomery form of
/// this module to that of blst.
const TO_BLST: blst_fp = blst_fp {
    l: [0, 0, 0, 0, 0, 1 << 32],
};

/// 2⁴¹⁶ mod p as a number: the way back.
const FROM_BLST: blst_fp = blst_fp {
    l: to_words(power_of_two(416, P)),
};

/// One element, as one lane has it: a reduced value.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Element(pub(super) Limbs);

/// The number that 48 big-endian bytes are, which is below 2³⁸⁴: not in Montgomery form, which
/// [`Fp8::into_montgomery`] makes of it.
#[inline(always)]
pub fn read(bytes: &[u8]) -> Element {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.rchunks_exact(8)) {
        *word = u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    }
    Element(from_words(words))
}

impl Element {
    /// The negative one.
    pub fn negate(&self) -> Self {
        let mut negated = blst_fp::default();
        // SAFETY: blst reads and writes one element through each pointer, and both are initialised.
        unsafe { blst::blst_fp_cneg(&mut negated, &self.to_blst(), true) };
        Self::from_blst(&negated)
    }

    pub fn to_blst(&self) -> blst_fp {
        let words = to_words(self.0);
        let canonical = blst_fp {
            l: minus_p_if_not_below(words),
        };
        product(&canonical, &TO_BLST)
    }

    pub fn from_blst(element: &blst_fp) -> Self {
        Self(from_words(product(element, &FROM_BLST).l))
    }
}

/// Montgomery product of blst.
fn product(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: blst reads and writes one element through each pointer, and all are initialised.
    unsafe { blst_fp_mul(&mut out, a, b) };
    out
}

/// The words of a number below 2³⁸⁴.
const fn to_words(limbs: Limbs) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let mut i = 0;
    while i < LIMBS {
        let bit = i * LIMB_BITS as usize;
        let (word, shift) = (bit / 64, bit % 64);
        words[word] |= limbs[i] << shift;
        if shift > 64 - LIMB_BITS as usize && word + 1 < WORDS {
            words[word + 1] |= limbs[i] >> (64 - shift);
        }
        i += 1;
    }
    words
}

/// A number below 2p modulo p.
fn minus_p_if_not_below(words: [u64; WORDS]) -> [u64; WORDS] {
    let mut out = [0; WORDS];
    let mut borrow = false;
    for (i, word) in out.iter_mut().enumerate() {
        let (difference, first) = words[i].overflowing_sub(MODULUS[i]);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *word = difference;
        borrow = first || second;
    }
    if borrow {
        words
    } else {
        out
    }
}

impl Fp8 {
    /// `element` gives each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn load<'a>(element: impl Fn(usize) -> &'a Element) -> Self {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (lane, row) in rows.iter_mut().enumerate() {
            // SAFETY: an element is 64 bytes, aligned to as many.
            *row = unsafe { _mm512_load_si512(element(lane).0.as_ptr().cast()) };
        }
        Fp8(transposed(rows))
    }

    /// Each lane of a reduced value.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn store(&self) -> [Element; LANES] {
        let mut elements = [Element::default(); LANES];
        for (element, row) in elements.iter_mut().zip(transposed(self.0)) {
            // SAFETY: as for loads.
            unsafe { _mm512_store_si512(element.0.as_mut_ptr().cast(), row) };
        }
        elements
    }

    /// Takes numbers below 2⁴¹⁵ into Montgomery form, reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn into_montgomery(self) -> Self {
        self.mul(&Fp8::splat(&R_SQUARED))
    }

    /// The inverses of a reduced value's lanes, or nothing if one is zero: one inversion by blst for all.
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn invert(&self) -> Option<Self> {
        let elements = self.store().map(|element| element.to_blst());
        // before[i] is the product of the first i + 1 lanes.
        let mut before = elements;
        for lane in 1..LANES {
            before[lane] = product(&before[lane - 1], &elements[lane]);
        }
        if before[LANES - 1] == blst_fp::default() {
            return None;
        }
        let mut inverse = blst_fp::default();
        // SAFETY: blst reads and writes one element through each pointer, and both are initialised.
        unsafe { blst_fp_eucl_inverse(&mut inverse, &before[LANES - 1]) };
        let mut inverses = [Element::default(); LANES];
        for lane in (1..LANES).rev() {
            inverses[lane] = Element::from_blst(&product(&inverse, &before[lane - 1]));
            inverse = product(&inverse, &elements[lane]);
        }
        inverses[0] = Element::from_blst(&inverse);
        Some(Self::load(|lane| &inverses[lane]))
    }
}

/// Rows as columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 8]) -> [__m512i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Pairs of lanes in blocks of 128 bits; then the blocks of four such vectors change places.
    let low = [
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    ];
    let high = [
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    ];
    let [a, c, e, g] = transposed_blocks(low);
    let [b, d, f, h] = transposed_blocks(high);
    [a, b, c, d, e, f, g, h]
}

/// Rows of four blocks of 128 bits as columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed_blocks([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    const EVEN: i32 = 0x88;
    const ODD: i32 = 0xdd;
    let (first, second) = (
        _mm512_shuffle_i64x2::<EVEN>(a, b),
        _mm512_shuffle_i64x2::<EVEN>(c, d),
    );
    let (third, fourth) = (
        _mm512_shuffle_i64x2::<ODD>(a, b),
        _mm512_shuffle_i64x2::<ODD>(c, d),
    );
    [
        _mm512_shuffle_i64x2::<EVEN>(first, second),
        _mm512_shuffle_i64x2::<EVEN>(third, fourth),
        _mm512_shuffle_i64x2::<ODD>(first, second),
        _mm512_shuffle_i64x2::<ODD>(third, fourth),
    ]
}
