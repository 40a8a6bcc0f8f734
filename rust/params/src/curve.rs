//! The groups G1 and G2 of BLS12-381 as the generator needs them: affine points, their encoding in
//! a parameter file, and additions that share one field inversion.

use blst::{
    blst_fp, blst_fp2, blst_p1_affine, blst_p1_affine_serialize, blst_p2_affine,
    blst_p2_affine_serialize,
};
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective};
use group::{Curve, Group};

use crate::field::Coordinate;

/// An affine point. The point at infinity is (0, 0), as in blst: it lies on neither curve.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Point<F> {
    pub x: F,
    pub y: F,
}

impl<F: Coordinate> Point<F> {
    /// Whether this is the point at infinity.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// The point mirrored at the x axis.
    pub fn negate(&self) -> Self {
        Self {
            x: self.x,
            y: self.y.negate(),
        }
    }
}

/// One of the two groups.
pub trait CurveGroup: Sized + Send + Sync {
    type Field: Coordinate;
    type Projective: Group + Curve;

    /// Bytes of one uncompressed point in a parameter file.
    const ENCODED: usize;

    /// What computing a point costs, in G1 points.
    const WEIGHT: u64;

    /// The affine form of a point.
    fn affine(point: &Self::Projective) -> Point<Self::Field>;

    /// Writes the uncompressed big-endian encoding into `out`, which is [`Self::ENCODED`] long.
    fn encode(point: &Point<Self::Field>, out: &mut [u8]);
}

/// The group over Fp: 96 bytes a point.
pub struct G1;

/// The group over Fp2: 192 bytes a point.
pub struct G2;

impl CurveGroup for G1 {
    type Field = blst_fp;
    type Projective = G1Projective;

    const ENCODED: usize = 96;
    const WEIGHT: u64 = 1;

    fn affine(point: &G1Projective) -> Point<blst_fp> {
        let affine: G1Affine = point.to_affine();
        let raw: &blst_p1_affine = affine.as_ref();
        Point { x: raw.x, y: raw.y }
    }

    fn encode(point: &Point<blst_fp>, out: &mut [u8]) {
        assert_eq!(out.len(), Self::ENCODED);
        let raw = blst_p1_affine {
            x: point.x,
            y: point.y,
        };
        // Safety: `out` holds the 96 bytes blst writes, checked above.
        unsafe { blst_p1_affine_serialize(out.as_mut_ptr(), &raw) };
    }
}

impl CurveGroup for G2 {
    type Field = blst_fp2;
    type Projective = G2Projective;

    const ENCODED: usize = 192;
    const WEIGHT: u64 = 3;

    fn affine(point: &G2Projective) -> Point<blst_fp2> {
        let affine: G2Affine = point.to_affine();
        let raw: &blst_p2_affine = affine.as_ref();
        Point { x: raw.x, y: raw.y }
    }

    fn encode(point: &Point<blst_fp2>, out: &mut [u8]) {
        assert_eq!(out.len(), Self::ENCODED);
        let raw = blst_p2_affine {
            x: point.x,
            y: point.y,
        };
        // Safety: `out` holds the 192 bytes blst writes, checked above.
        unsafe { blst_p2_affine_serialize(out.as_mut_ptr(), &raw) };
    }
}

/// `sums[index] += addend` for every `(index, addend)` of `terms`, with one inversion for all of
/// them (Montgomery's trick): an addition then costs five multiplications and a squaring.
///
/// Indices must be distinct. Neither side may be the point at infinity, nor may both have the same
/// x coordinate; a batch with such a pair panics rather than give a wrong point. `products` is
/// scratch space, kept by the caller so that it is allocated once.
pub fn add_in_batch<F: Coordinate>(
    sums: &mut [Point<F>],
    terms: &[(u32, Point<F>)],
    products: &mut Vec<F>,
) {
    let Some(((first, addend), rest)) = terms.split_first() else {
        return;
    };
    products.clear();
    // products[i] is the product of the first i + 1 differences of x.
    let mut product = addend.x.sub(&sums[*first as usize].x);
    products.push(product);
    for (index, addend) in rest {
        product = product.mul(&addend.x.sub(&sums[*index as usize].x));
        products.push(product);
    }
    assert!(
        product != F::default(),
        "an affine addition met two points with the same x coordinate"
    );
    let mut inverse = product.invert();
    for (position, (index, addend)) in terms.iter().enumerate().rev() {
        let sum = &mut sums[*index as usize];
        let reciprocal = match position.checked_sub(1) {
            Some(before) => inverse.mul(&products[before]),
            None => inverse,
        };
        inverse = inverse.mul(&addend.x.sub(&sum.x));
        let slope = addend.y.sub(&sum.y).mul(&reciprocal);
        let x = slope.square().sub(&sum.x.add(&addend.x));
        let y = slope.mul(&sum.x.sub(&x)).sub(&sum.y);
        *sum = Point { x, y };
    }
}
