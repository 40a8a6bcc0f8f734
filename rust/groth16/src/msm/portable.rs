//! One lane on any machine, by blst but for sums and differences.

use std::sync::LazyLock;

use blst::{
    blst_fp, blst_fp2, blst_fp2_eucl_inverse, blst_fp2_mul, blst_fp2_sqr, blst_fp_eucl_inverse,
    blst_fp_from_bendian, blst_fp_mul, blst_fp_sqr, blst_p1_affine, blst_p2_affine,
};
use blstrs::G1Affine;
use group::prime::PrimeCurveAffine;

use super::curve::{Group, G1, G2};
use super::fp;
use super::lanes::{Lanes, Point};
use crate::kernel::Kernel;

/// Bytes of an encoded element of Fp.
const ENCODED: usize = 48;

fn fp(encoded: &[u8]) -> blst_fp {
    assert_eq!(encoded.len(), ENCODED);
    let mut out = blst_fp::default();
    // SAFETY: blst reads 48 bytes and writes one element.
    unsafe { blst_fp_from_bendian(&mut out, encoded.as_ptr()) };
    out
}

/// The coordinates of an uncompressed point of G1: x, y.
fn coordinates(encoded: &[u8]) -> Point<blst_fp> {
    let (x, y) = encoded.split_at(ENCODED);
    Point { x: fp(x), y: fp(y) }
}

/// The coordinates of an uncompressed point of G2: x, y, each with its imaginary part first.
fn coordinates2(encoded: &[u8]) -> Point<blst_fp2> {
    let fp2 = |encoded: &[u8]| {
        let (imaginary, real) = encoded.split_at(ENCODED);
        blst_fp2 {
            fp: [fp(real), fp(imaginary)],
        }
    };
    let (x, y) = encoded.split_at(2 * ENCODED);
    Point {
        x: fp2(x),
        y: fp2(y),
    }
}

/// One. The x coordinate of the generator over itself is the only way to it that blst offers: its
/// constants are private.
static ONE: LazyLock<blst_fp> = LazyLock::new(|| {
    let generator = G1Affine::generator();
    let generator: &blst_p1_affine = generator.as_ref();
    let mut inverse = blst_fp::default();
    let mut one = blst_fp::default();
    // SAFETY: every pointer is to one initialised element.
    unsafe {
        blst_fp_eucl_inverse(&mut inverse, &generator.x);
        blst_fp_mul(&mut one, &generator.x, &inverse);
    }
    one
});

macro_rules! lanes {
    ($group:ty, $field:ty, $affine:ident, $decode:ident, $one:expr,
     $add:path, $sub:path, $negate:path, $mul:ident, $square:ident, $invert:ident) => {
        // SAFETY, for every call: blst reads and writes one field element through each pointer, and
        // all of them point at initialised values that live until the call returns.
        impl Lanes<$group> for $field {
            const WIDTH: usize = 1;

            const MAX_WINDOW: usize = 16;

            const BUCKET_COST: usize = 6;

            type Element = Self;

            #[inline(always)]
            fn vectorize<K: Kernel>(kernel: K) -> K::Output {
                kernel.run()
            }

            #[inline(always)]
            fn load<'a>(element: impl Fn(usize) -> &'a Self) -> Self {
                *element(0)
            }

            #[inline(always)]
            fn store(self, mut element: impl FnMut(usize, Self)) {
                element(0, self);
            }

            #[inline(always)]
            fn decode<'a>(encoded: impl Fn(usize) -> &'a [u8]) -> Point<Self> {
                $decode(encoded(0))
            }

            fn one() -> Self {
                $one
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                $add(&self, &other)
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                $sub(&self, &other)
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                let mut out = Self::default();
                unsafe { $mul(&mut out, &self, &other) };
                out
            }

            #[inline(always)]
            fn square(self) -> Self {
                let mut out = Self::default();
                unsafe { $square(&mut out, &self) };
                out
            }

            #[inline(always)]
            fn negate(self, lanes: u32) -> Self {
                $negate(&self, lanes != 0)
            }

            fn invert(self) -> Option<Self> {
                let mut out = Self::default();
                unsafe { $invert(&mut out, &self) };
                (self != Self::default()).then_some(out)
            }

            fn negate_element(element: &Self) -> Self {
                $negate(element, true)
            }

            fn affine(point: &Point<Self>) -> <$group as Group>::Affine {
                $affine {
                    x: point.x,
                    y: point.y,
                }
            }
        }
    };
}

lanes!(
    G1,
    blst_fp,
    blst_p1_affine,
    coordinates,
    *ONE,
    fp::add,
    fp::sub,
    fp::negate,
    blst_fp_mul,
    blst_fp_sqr,
    blst_fp_eucl_inverse
);
lanes!(
    G2,
    blst_fp2,
    blst_p2_affine,
    coordinates2,
    blst_fp2 {
        fp: [*ONE, blst_fp::default()]
    },
    fp::add2,
    fp::sub2,
    fp::negate2,
    blst_fp2_mul,
    blst_fp2_sqr,
    blst_fp2_eucl_inverse
);
