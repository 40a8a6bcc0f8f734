//! The two groups of BLS12-381, as far as multi-scalar multiplication needs them.

use blst::{
    blst_p1, blst_p1_add_or_double, blst_p1_add_or_double_affine, blst_p1_affine, blst_p1_double,
    blst_p1_is_inf, blst_p2, blst_p2_add_or_double, blst_p2_add_or_double_affine, blst_p2_affine,
    blst_p2_double, blst_p2_is_inf,
};
use blstrs::{G1Projective, G2Projective};

/// G1 or G2. Points are blst's: those at infinity have only zeros in them.
pub trait Group: Send + Sync + 'static {
    type Affine: Copy + Default + Send + Sync;
    type Projective: Copy + Default + Send + Sync;
    /// The same in the arithmetic of the proof.
    type Sum;

    /// Bytes of an uncompressed point.
    const ENCODED: usize;

    fn add(sum: &mut Self::Projective, point: &Self::Projective);

    fn add_affine(sum: &mut Self::Projective, point: &Self::Affine);

    fn double(sum: &mut Self::Projective);

    fn is_infinity(point: &Self::Projective) -> bool;

    fn sum(point: &Self::Projective) -> Self::Sum;
}

/// The group over Fp.
pub struct G1;

/// The group over Fp2.
pub struct G2;

macro_rules! group {
    ($group:ty, $affine:ty, $projective:ty, $sum:ty, $encoded:literal,
     $add:ident, $add_affine:ident, $double:ident, $is_infinity:ident) => {
        // SAFETY, for every call: blst reads and writes one point through each pointer, in place where
        // two are the same, and all of them point at initialised values.
        impl Group for $group {
            type Affine = $affine;
            type Projective = $projective;
            type Sum = $sum;

            const ENCODED: usize = $encoded;

            fn add(sum: &mut $projective, point: &$projective) {
                unsafe { $add(sum, sum, point) };
            }

            fn add_affine(sum: &mut $projective, point: &$affine) {
                unsafe { $add_affine(sum, sum, point) };
            }

            fn double(sum: &mut $projective) {
                unsafe { $double(sum, sum) };
            }

            fn is_infinity(point: &$projective) -> bool {
                unsafe { $is_infinity(point) }
            }

            fn sum(point: &$projective) -> $sum {
                let mut sum = <$sum as group::Group>::identity();
                *sum.as_mut() = *point;
                sum
            }
        }
    };
}

group!(
    G1,
    blst_p1_affine,
    blst_p1,
    G1Projective,
    96,
    blst_p1_add_or_double,
    blst_p1_add_or_double_affine,
    blst_p1_double,
    blst_p1_is_inf
);
group!(
    G2,
    blst_p2_affine,
    blst_p2,
    G2Projective,
    192,
    blst_p2_add_or_double,
    blst_p2_add_or_double_affine,
    blst_p2_double,
    blst_p2_is_inf
);
