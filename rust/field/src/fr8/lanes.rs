//! What happens between the lanes of eight elements.

use std::arch::x86_64::{
    _mm512_mask_blend_epi64, _mm512_permutexvar_epi64, _mm512_set1_epi64, _mm512_set_epi64,
    _mm512_xor_si512,
};

use super::{Fr8, LANES};

impl Fr8 {
    /// Swaps lane i with lane i ^ `distance`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn swap(&self, distance: usize) -> Fr8 {
        debug_assert!(distance < LANES);
        let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
        let from = _mm512_xor_si512(lanes, _mm512_set1_epi64(distance as i64));
        Fr8(self.0.map(|limb| _mm512_permutexvar_epi64(from, limb)))
    }

    /// Negates the lanes of a reduced value whose bit is set; the result is reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn negate(&self, lanes: u8) -> Fr8 {
        let negated = Fr8::zero().sub(self);
        let mut out = *self;
        for (limb, negated) in out.0.iter_mut().zip(negated.0) {
            *limb = _mm512_mask_blend_epi64(lanes, *limb, negated);
        }
        out
    }
}
