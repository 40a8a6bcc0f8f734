//! The two coordinate fields of BLS12-381 behind one trait: Fp for G1, Fp2 for G2.
//!
//! `blstrs` keeps its coordinate types private, so the few operations an affine addition needs are
//! called on `blst` itself.

use blst::{
    blst_fp, blst_fp2, blst_fp2_add, blst_fp2_cneg, blst_fp2_eucl_inverse, blst_fp2_mul,
    blst_fp2_sqr, blst_fp2_sub, blst_fp_add, blst_fp_cneg, blst_fp_eucl_inverse, blst_fp_mul,
    blst_fp_sqr, blst_fp_sub,
};

/// A field element in Montgomery form.
pub trait Coordinate: Copy + Default + PartialEq + Send + Sync {
    fn add(&self, other: &Self) -> Self;
    fn sub(&self, other: &Self) -> Self;
    fn mul(&self, other: &Self) -> Self;
    fn square(&self) -> Self;
    fn negate(&self) -> Self;
    /// The multiplicative inverse; zero for zero.
    fn invert(&self) -> Self;
}

macro_rules! coordinate {
    ($field:ty, $add:ident, $sub:ident, $mul:ident, $square:ident, $negate:ident, $invert:ident) => {
        // Safety, for every call: blst reads and writes one field element through each pointer, and
        // all of them point at initialised values that live until the call returns.
        impl Coordinate for $field {
            #[inline]
            fn add(&self, other: &Self) -> Self {
                let mut out = Self::default();
                unsafe { $add(&mut out, self, other) };
                out
            }

            #[inline]
            fn sub(&self, other: &Self) -> Self {
                let mut out = Self::default();
                unsafe { $sub(&mut out, self, other) };
                out
            }

            #[inline]
            fn mul(&self, other: &Self) -> Self {
                let mut out = Self::default();
                unsafe { $mul(&mut out, self, other) };
                out
            }

            #[inline]
            fn square(&self) -> Self {
                let mut out = Self::default();
                unsafe { $square(&mut out, self) };
                out
            }

            #[inline]
            fn negate(&self) -> Self {
                let mut out = Self::default();
                unsafe { $negate(&mut out, self, true) };
                out
            }

            fn invert(&self) -> Self {
                let mut out = Self::default();
                unsafe { $invert(&mut out, self) };
                out
            }
        }
    };
}

coordinate!(
    blst_fp,
    blst_fp_add,
    blst_fp_sub,
    blst_fp_mul,
    blst_fp_sqr,
    blst_fp_cneg,
    blst_fp_eucl_inverse
);
coordinate!(
    blst_fp2,
    blst_fp2_add,
    blst_fp2_sub,
    blst_fp2_mul,
    blst_fp2_sqr,
    blst_fp2_cneg,
    blst_fp2_eucl_inverse
);
