//! Eight lanes on CPUs with AVX-512 IFMA.
//!
//! These lanes are chosen by [`Arithmetic::Wide`](crate::Arithmetic::Wide) alone, which holds the proof
//! that the CPU has the instructions: the reason why every `unsafe` call here may be made.

use blst::{blst_p1_affine, blst_p2_affine};
use field::fp8::{read, Element, Element2, Fp2x8, Fp8, LANES};

use super::curve::{G1, G2};
use super::lanes::{Lanes, Point};
use crate::kernel::Kernel;
use crate::wide::with_ifma;

/// Bytes of an encoded element of Fp.
const ENCODED: usize = 48;

/// Element number `place` of each encoded point, in Montgomery form.
///
/// # Safety
///
/// The CPU has AVX-512 F and IFMA.
#[inline(always)]
unsafe fn decode<'a>(encoded: &impl Fn(usize) -> &'a [u8], place: usize) -> Fp8 {
    let start = place * ENCODED;
    let mut numbers = [Element::default(); LANES];
    for (lane, number) in numbers.iter_mut().enumerate() {
        *number = read(&encoded(lane)[start..start + ENCODED]);
    }
    // SAFETY: the caller's.
    unsafe { Fp8::load(|lane| &numbers[lane]).into_montgomery() }
}

/// Points of G1.
///
/// # Safety
///
/// As for [`decode`].
#[inline(always)]
unsafe fn decode_g1<'a>(encoded: impl Fn(usize) -> &'a [u8]) -> Point<Fp8> {
    // SAFETY: the caller's.
    unsafe {
        Point {
            x: decode(&encoded, 0),
            y: decode(&encoded, 1),
        }
    }
}

/// Points of G2: each coordinate has its imaginary part first.
///
/// # Safety
///
/// As for [`decode`].
#[inline(always)]
unsafe fn decode_g2<'a>(encoded: impl Fn(usize) -> &'a [u8]) -> Point<Fp2x8> {
    // SAFETY: the caller's.
    let coordinate = |place| unsafe {
        Fp2x8 {
            imaginary: decode(&encoded, place),
            real: decode(&encoded, place + 1),
        }
    };
    Point {
        x: coordinate(0),
        y: coordinate(2),
    }
}

macro_rules! lanes {
    ($group:ty, $lanes:ty, $element:ty, $affine:ident, $decode:ident) => {
        // SAFETY, for every call: see the module's head.
        impl Lanes<$group> for $lanes {
            const WIDTH: usize = LANES;

            const MAX_WINDOW: usize = 15;

            const BUCKET_COST: usize = 16;

            type Element = $element;

            #[inline(always)]
            fn vectorize<K: Kernel>(kernel: K) -> K::Output {
                unsafe { with_ifma(kernel) }
            }

            #[inline(always)]
            fn load<'a>(element: impl Fn(usize) -> &'a $element) -> Self {
                unsafe { Self::load(element) }
            }

            #[inline(always)]
            fn store(self, mut element: impl FnMut(usize, $element)) {
                let elements = unsafe { <$lanes>::store(&self) };
                for (lane, value) in elements.into_iter().enumerate() {
                    element(lane, value);
                }
            }

            #[inline(always)]
            fn decode<'a>(encoded: impl Fn(usize) -> &'a [u8]) -> Point<Self> {
                unsafe { $decode(encoded) }
            }

            #[inline(always)]
            fn one() -> Self {
                unsafe { <$lanes>::one() }
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                unsafe { <$lanes>::add(&self, &other) }
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                unsafe { <$lanes>::sub(&self, &other) }
            }

            #[inline(always)]
            fn sub_lazily(self, other: Self) -> Self {
                unsafe { <$lanes>::sub_lazily(&self, &other) }
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                unsafe { <$lanes>::mul(&self, &other) }
            }

            #[inline(always)]
            fn square(self) -> Self {
                unsafe { <$lanes>::square(&self) }
            }

            #[inline(always)]
            fn negate(self, lanes: u32) -> Self {
                unsafe { <$lanes>::negate(&self, lanes as u8) }
            }

            #[inline(always)]
            fn invert(self) -> Option<Self> {
                unsafe { <$lanes>::invert(&self) }
            }

            fn negate_element(element: &$element) -> $element {
                element.negate()
            }

            fn affine(point: &Point<$element>) -> $affine {
                $affine {
                    x: point.x.to_blst(),
                    y: point.y.to_blst(),
                }
            }
        }
    };
}

lanes!(G1, Fp8, Element, blst_p1_affine, decode_g1);
lanes!(G2, Fp2x8, Element2, blst_p2_affine, decode_g2);
