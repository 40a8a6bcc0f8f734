//! Many multiples of one point: fixed-base window tables, no doublings.
//!
//! A scalar is written with sixteen signed digits of sixteen bits, `k = Σ dⱼ·2^(16j)` with
//! `-2^15 < dⱼ ≤ 2^15`. The table of window `j` holds `d·2^(16j)·B` for `d` in `1..=2^15`, so a
//! multiple of `B` is the sum of at most sixteen table entries (negated where the digit is). The
//! sums of a whole batch of scalars advance together, window by window, so that each step is one
//! [`add_in_batch`], and the result is affine as it stands.

use blstrs::Scalar;
use group::Group;
use rayon::prelude::*;

use crate::curve::{add_in_batch, CurveGroup, Point};
use crate::field::Coordinate;

const WINDOW_BITS: usize = 16;
const WINDOWS: usize = 256 / WINDOW_BITS;
const MULTIPLES: usize = 1 << (WINDOW_BITS - 1);

/// Scalars per batch: enough to make the shared inversion vanish, few enough for the batch's sums
/// to stay in the second-level cache beside the window's table.
pub const BATCH: usize = 2048;

/// The window tables of one base point: 48 MiB in G1, 96 MiB in G2.
pub struct FixedBase<C: CurveGroup> {
    windows: Vec<Vec<Point<C::Field>>>,
}

impl<C: CurveGroup> FixedBase<C> {
    /// Builds the tables of `base`, in parallel over the windows.
    ///
    /// `base` must not be the identity.
    pub fn new(base: &C::Projective) -> Self {
        let mut doubled = *base;
        let powers: Vec<Point<C::Field>> = (0..WINDOWS * WINDOW_BITS)
            .map(|_| {
                let point = C::affine(&doubled);
                doubled = doubled.double();
                point
            })
            .collect();
        let windows = powers.par_chunks(WINDOW_BITS).map(multiples).collect();
        Self { windows }
    }

    /// `k·B` for every scalar `k`, in order.
    pub fn multiply(&self, scalars: &[Scalar]) -> Vec<Point<C::Field>> {
        let mut points = vec![Point::default(); scalars.len()];
        let mut scratch = Scratch::default();
        for (points, scalars) in points.chunks_mut(BATCH).zip(scalars.chunks(BATCH)) {
            self.multiply_batch(scalars, points, &mut scratch);
        }
        points
    }

    fn multiply_batch(
        &self,
        scalars: &[Scalar],
        sums: &mut [Point<C::Field>],
        scratch: &mut Scratch<C::Field>,
    ) {
        let digits: Vec<[i32; WINDOWS]> = scalars.iter().map(signed_digits).collect();
        for (window, table) in self.windows.iter().enumerate() {
            scratch.terms.clear();
            for (index, digits) in digits.iter().enumerate() {
                let digit = digits[window];
                if digit == 0 {
                    continue;
                }
                let entry = &table[digit.unsigned_abs() as usize - 1];
                let addend = if digit < 0 { entry.negate() } else { *entry };
                if sums[index].is_identity() {
                    sums[index] = addend;
                } else {
                    scratch.terms.push((index as u32, addend));
                }
            }
            // Sum and addend never share an x, that is, s ± t is no multiple of the group's order r:
            // the sum of the lower windows is s·B with |s| < 0.51·2^(16j), the addend t·B with t a
            // non-zero multiple of 2^(16j). Below the top window |s| + |t| < r. In the top one
            // s + t is the scalar itself, and t - s = r would need |s| = r mod 2^240 ≈ 0.65·2^240.
            add_in_batch(sums, &scratch.terms, &mut scratch.products);
        }
    }
}

struct Scratch<F> {
    terms: Vec<(u32, Point<F>)>,
    products: Vec<F>,
}

impl<F> Default for Scratch<F> {
    fn default() -> Self {
        Self {
            terms: Vec::with_capacity(BATCH),
            products: Vec::with_capacity(BATCH),
        }
    }
}

/// `[P, 2·P, …, 2^15·P]`, given `powers[k] = 2^k·P`.
///
/// The multiples below `2^k` plus `2^k·P` are those between `2^k` and `2^(k+1)`: one batch a step.
fn multiples<F: Coordinate>(powers: &[Point<F>]) -> Vec<Point<F>> {
    let mut table = Vec::with_capacity(MULTIPLES);
    let mut products = Vec::with_capacity(MULTIPLES / 2);
    for power in powers {
        let known = table.len();
        table.push(*power);
        if table.len() == MULTIPLES {
            break;
        }
        table.extend_from_within(..known);
        let terms: Vec<(u32, Point<F>)> = (0..known as u32).map(|index| (index, *power)).collect();
        add_in_batch(&mut table[known + 1..], &terms, &mut products);
    }
    table
}

/// The digits of a scalar, lowest first, each in `-2^15 < d ≤ 2^15`.
fn signed_digits(scalar: &Scalar) -> [i32; WINDOWS] {
    let bytes = scalar.to_bytes_le();
    let mut carry = 0;
    let mut digits = [0; WINDOWS];
    for (digit, pair) in digits.iter_mut().zip(bytes.chunks_exact(2)) {
        let value = i32::from(u16::from_le_bytes([pair[0], pair[1]])) + carry;
        carry = i32::from(value > MULTIPLES as i32);
        *digit = value - (carry << WINDOW_BITS);
    }
    // The scalar field's order is below 2^255, so the highest digit leaves no carry.
    debug_assert_eq!(carry, 0);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{G1, G2};
    use blstrs::{G1Projective, G2Projective};
    use ff::Field;

    /// Edges of the digit encoding, plus some scalars without structure.
    fn scalars() -> Vec<Scalar> {
        let mut scalars: Vec<Scalar> = [0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1_0000]
            .into_iter()
            .map(Scalar::from)
            .collect();
        scalars.push(-Scalar::ONE);
        scalars.push(-Scalar::from(0x8000));
        let mut power = Scalar::from(7);
        for _ in 0..40 {
            power = power.square() + Scalar::ONE;
            scalars.push(power);
        }
        scalars
    }

    fn agrees<C: CurveGroup>(multiply: impl Fn(&Scalar) -> C::Projective, base: C::Projective) {
        let scalars = scalars();
        let points = FixedBase::<C>::new(&base).multiply(&scalars);
        for (scalar, point) in scalars.iter().zip(&points) {
            let expected = C::affine(&multiply(scalar));
            assert!(*point == expected, "wrong multiple for {scalar}");
        }
    }

    #[test]
    fn multiples_equal_the_curve_librarys_in_g1() {
        let base = G1Projective::generator() * Scalar::from(5);
        agrees::<G1>(|scalar| base * scalar, base);
    }

    #[test]
    fn multiples_equal_the_curve_librarys_in_g2() {
        let base = G2Projective::generator() * Scalar::from(5);
        agrees::<G2>(|scalar| base * scalar, base);
    }

    #[test]
    fn more_scalars_than_a_batch() {
        let scalars: Vec<Scalar> = (1..BATCH as u64 + 5).map(Scalar::from).collect();
        let points = FixedBase::<G1>::new(&G1Projective::generator()).multiply(&scalars);
        let last = G1Projective::generator() * scalars.last().unwrap();
        assert!(*points.last().unwrap() == G1::affine(&last));
    }

    #[test]
    fn digits_add_up_to_the_scalar() {
        let radix = Scalar::from(1 << WINDOW_BITS);
        for scalar in scalars() {
            let mut sum = Scalar::ZERO;
            for digit in signed_digits(&scalar).into_iter().rev() {
                let magnitude = Scalar::from(u64::from(digit.unsigned_abs()));
                sum = sum * radix + if digit < 0 { -magnitude } else { magnitude };
            }
            assert_eq!(sum, scalar);
        }
    }
}
