//! What a transform needs of the field: WIDTH values at a time.

use blstrs::Scalar;

use crate::kernel::Kernel;

/// WIDTH scalars, added and multiplied at once.
pub trait Lanes: Copy + Send + Sync {
    /// A power of two.
    const WIDTH: usize;

    /// One scalar that is put into all lanes often.
    type Constant: Copy + Send + Sync;

    /// Runs a kernel with the instructions these lanes need.
    fn vectorize<K: Kernel>(kernel: K) -> K::Output;

    /// `scalars` gives the value of each lane.
    fn pack(scalars: impl Fn(usize) -> Scalar) -> Self;

    /// Hands over each lane's number and value.
    fn unpack(self, scalars: impl FnMut(usize, Scalar));

    fn constant(scalar: &Scalar) -> Self::Constant;

    fn splat(constant: &Self::Constant) -> Self;

    fn add(self, other: Self) -> Self;

    fn sub(self, other: Self) -> Self;

    fn mul(self, other: Self) -> Self;

    /// Swaps lane i with lane i ^ `distance`, where `distance` is a power of two below WIDTH.
    fn swap(self, distance: usize) -> Self;

    /// Negates the lanes i for which i & `distance` isn't zero.
    fn negate_upper(self, distance: usize) -> Self;
}

/// One lane on any machine.
impl Lanes for Scalar {
    const WIDTH: usize = 1;

    type Constant = Self;

    #[inline(always)]
    fn vectorize<K: Kernel>(kernel: K) -> K::Output {
        kernel.run()
    }

    #[inline(always)]
    fn pack(scalars: impl Fn(usize) -> Self) -> Self {
        scalars(0)
    }

    #[inline(always)]
    fn unpack(self, mut scalars: impl FnMut(usize, Self)) {
        scalars(0, self);
    }

    #[inline(always)]
    fn constant(scalar: &Self) -> Self {
        *scalar
    }

    #[inline(always)]
    fn splat(constant: &Self) -> Self {
        *constant
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self * other
    }

    fn swap(self, distance: usize) -> Self {
        unreachable!("one lane has no neighbour at distance {distance}")
    }

    fn negate_upper(self, distance: usize) -> Self {
        unreachable!("one lane has no neighbour at distance {distance}")
    }
}
