//! What the bucket method needs of a coordinate field: WIDTH elements at a time.

use super::curve::Group;
use crate::kernel::Kernel;

/// An affine point, as it is kept between additions. Never the one at infinity.
#[derive(Clone, Copy, Default)]
pub struct Point<E> {
    pub x: E,
    pub y: E,
}

/// WIDTH coordinates of points of `G`.
pub trait Lanes<G: Group>: Copy + Send + Sync + 'static {
    const WIDTH: usize;

    /// The most bits of a window: its buckets shall stay in the cache.
    const MAX_WINDOW: usize;

    /// What is done once for each bucket of a window, two additions without lanes, in batched additions.
    const BUCKET_COST: usize;

    /// One coordinate in memory; equal field elements may differ in it.
    type Element: Copy + Default + Send + Sync + 'static;

    /// Runs a kernel with the instructions these lanes need.
    fn vectorize<K: Kernel>(kernel: K) -> K::Output;

    /// `element` gives the coordinate of each lane.
    fn load<'a>(element: impl Fn(usize) -> &'a Self::Element) -> Self;

    /// Hands over each lane's number and coordinate.
    fn store(self, element: impl FnMut(usize, Self::Element));

    /// Both coordinates of uncompressed points; `encoded` gives each lane's, without flags.
    fn decode<'a>(encoded: impl Fn(usize) -> &'a [u8]) -> Point<Self>;

    fn one() -> Self;

    fn add(self, other: Self) -> Self;

    fn sub(self, other: Self) -> Self;

    /// Like [`Self::sub`], for a difference that is only multiplied.
    fn sub_lazily(self, other: Self) -> Self {
        self.sub(other)
    }

    fn mul(self, other: Self) -> Self;

    fn square(self) -> Self;

    /// Negates the lanes whose bit is set.
    fn negate(self, lanes: u32) -> Self;

    /// The inverses, or nothing if a lane is zero.
    fn invert(self) -> Option<Self>;

    fn negate_element(element: &Self::Element) -> Self::Element;

    /// The point as blst has it.
    fn affine(point: &Point<Self::Element>) -> G::Affine;
}
