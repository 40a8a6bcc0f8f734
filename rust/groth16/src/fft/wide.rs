//! Eight lanes on CPUs with AVX-512 IFMA.
//!
//! These lanes are chosen by [`Arithmetic::Wide`](crate::Arithmetic::Wide) alone, which holds the proof
//! that the CPU has the instructions: the reason why every `unsafe` call here may be made.

use std::array;

use blstrs::Scalar;
use field::fr8::{Constant, Fr8, LANES};

use super::lanes::Lanes;
use crate::kernel::Kernel;
use crate::wide::with_ifma;

// SAFETY, for every call: see the module's head.
impl Lanes for Fr8 {
    const WIDTH: usize = LANES;

    type Constant = Constant;

    #[inline(always)]
    fn vectorize<K: Kernel>(kernel: K) -> K::Output {
        unsafe { with_ifma(kernel) }
    }

    #[inline(always)]
    fn pack(scalars: impl Fn(usize) -> Scalar) -> Self {
        let scalars = array::from_fn(scalars);
        unsafe { Fr8::from_scalars(&scalars) }
    }

    #[inline(always)]
    fn unpack(self, mut scalars: impl FnMut(usize, Scalar)) {
        let values = unsafe { self.to_scalars() };
        for (lane, value) in values.into_iter().enumerate() {
            scalars(lane, value);
        }
    }

    #[inline(always)]
    fn constant(scalar: &Scalar) -> Constant {
        Constant::new(scalar)
    }

    #[inline(always)]
    fn splat(constant: &Constant) -> Self {
        unsafe { constant.splat() }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        unsafe { Fr8::add(&self, &other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        unsafe { Fr8::sub(&self, &other) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        unsafe { Fr8::mul(&self, &other) }
    }

    #[inline(always)]
    fn swap(self, distance: usize) -> Self {
        unsafe { Fr8::swap(&self, distance) }
    }

    #[inline(always)]
    fn negate_upper(self, distance: usize) -> Self {
        let lanes = (0..LANES).filter(|lane| lane & distance != 0);
        let lanes = lanes.fold(0, |mask, lane| mask | 1 << lane);
        unsafe { self.negate(lanes) }
    }
}
