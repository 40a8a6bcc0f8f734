//! The polynomial h of a proof: h · t = a · b − c, where a, b and c interpolate the constraints' linear
//! combinations and t vanishes on the domain.

use std::error::Error;
use std::fmt;

use anyhow::Result;
use blstrs::Scalar;
use ff::Field;
use rayon::prelude::*;

use crate::fft::{Coset, Domain, Lanes};
use crate::kernel::Kernel;

/// Vectors that a thread multiplies at once.
const STRIDE: usize = 1 << 10;

/// The constraints' linear combinations, by constraint.
pub struct Combinations {
    pub a: Vec<Scalar>,
    pub b: Vec<Scalar>,
    pub c: Vec<Scalar>,
}

/// The circuit's constraints don't hold for its witness: the witness is wrong, or it or what follows from
/// it was miscomputed.
#[derive(Debug)]
pub struct Unsatisfied;

impl fmt::Display for Unsatisfied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit's constraints don't hold for its witness")
    }
}

impl Error for Unsatisfied {}

/// How many transforms a quotient takes.
pub const TRANSFORMS: u64 = 6;

/// The coefficients of h, one fewer than the domain's `size`.
///
/// On a coset of the domain t is the same everywhere, so a · b is divided by it there: six transforms,
/// for c needs none on the coset. `step` is called after each; its error ends the computation.
/// [`Unsatisfied`] if a · b − c isn't a multiple of t, that is if a constraint doesn't hold: then h would
/// have the degree `size − 1`, but for a chance of 2⁻²⁵⁵. An error also if there is no memory.
pub fn quotient<L: Lanes>(
    combinations: Combinations,
    size: usize,
    step: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Scalar>> {
    let Combinations { a, b, c } = combinations;
    let domain = Domain::<L>::new(size);
    let coset = Coset::generator();
    let mut on_coset = |values: Vec<Scalar>| {
        let mut data = domain.pack_reversed(&values)?;
        drop(values);
        domain.interpolate(&mut data, Coset::NONE);
        step()?;
        domain.evaluate(&mut data, coset);
        step()?;
        anyhow::Ok(data)
    };
    // Each interpolation multiplies by `size`: the product has it three times, c once.
    let inverse = |scalar: Scalar| scalar.invert().expect("neither factor is zero");
    let size_inverse = inverse(Scalar::from(size as u64));
    let c_scale = size_inverse * inverse(coset.vanishing(size));
    let product_scale = size_inverse.square() * c_scale;

    let mut product = on_coset(a)?;
    let b = on_coset(b)?;
    in_chunks(&mut product, &b, |chunk, other| Multiply {
        chunk,
        other,
        scale: L::splat(&L::constant(&product_scale)),
    });
    drop(b);
    domain.interpolate(&mut product, coset);
    step()?;

    let c = {
        let mut data = domain.pack_reversed(&c)?;
        drop(c);
        domain.interpolate(&mut data, Coset::NONE);
        data
    };
    step()?;
    in_chunks(&mut product, &c, |chunk, other| Subtract {
        chunk,
        other,
        scale: L::splat(&L::constant(&c_scale)),
    });
    drop(c);
    let mut h = domain.unpack(&product)?;
    match h.pop() {
        Some(highest) if highest == Scalar::ZERO => Ok(h),
        _ => Err(Unsatisfied.into()),
    }
}

fn in_chunks<'a, L: Lanes, K: Kernel<Output = ()>>(
    data: &'a mut [L],
    other: &'a [L],
    kernel: impl Fn(&'a mut [L], &'a [L]) -> K + Sync + Send,
) {
    data.par_chunks_mut(STRIDE)
        .zip(other.par_chunks(STRIDE))
        .for_each(|(chunk, other)| L::vectorize(kernel(chunk, other)));
}

/// `chunk · other · scale`
struct Multiply<'a, L> {
    chunk: &'a mut [L],
    other: &'a [L],
    scale: L,
}

impl<L: Lanes> Kernel for Multiply<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (value, other) in self.chunk.iter_mut().zip(self.other) {
            *value = value.mul(*other).mul(self.scale);
        }
    }
}

/// `chunk − other · scale`
struct Subtract<'a, L> {
    chunk: &'a mut [L],
    other: &'a [L],
    scale: L,
}

impl<L: Lanes> Kernel for Subtract<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (value, other) in self.chunk.iter_mut().zip(self.other) {
            *value = value.sub(other.mul(self.scale));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scalars;

    /// a · b of two polynomials, by definition.
    fn product(a: &[Scalar], b: &[Scalar]) -> Vec<Scalar> {
        let mut product = vec![Scalar::ZERO; a.len() + b.len() - 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                product[i + j] += x * y;
            }
        }
        product
    }

    /// The coefficients of the polynomial with these values on the domain.
    fn interpolated(values: &[Scalar], size: usize) -> Vec<Scalar> {
        let domain = Domain::<Scalar>::new(size);
        let mut data = domain.pack_reversed(values).unwrap();
        domain.interpolate(&mut data, Coset::NONE);
        let scale = Scalar::from(size as u64).invert().unwrap();
        data.iter().map(|x| scale * x).collect()
    }

    fn combinations(size: usize) -> Combinations {
        let a = scalars(1, size - 3);
        let b = scalars(2, size - 3);
        let c = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        Combinations { a, b, c }
    }

    #[test]
    fn h_times_t_is_a_times_b_less_c() {
        let size = 64;
        let [a, b, c] = {
            let Combinations { a, b, c } = combinations(size);
            [a, b, c].map(|values| interpolated(&values, size))
        };
        let mut expected = product(&a, &b);
        for (value, c) in expected.iter_mut().zip(c) {
            *value -= c;
        }
        let h = quotient::<Scalar>(combinations(size), size, &mut || Ok(())).unwrap();
        assert_eq!(h.len(), size - 1);
        let mut vanishing = vec![Scalar::ZERO; size + 1];
        vanishing[0] = -Scalar::ONE;
        vanishing[size] = Scalar::ONE;
        assert!(product(&h, &vanishing)[..expected.len()] == expected);
    }

    #[test]
    fn a_constraint_that_does_not_hold_is_an_error() {
        let mut combinations = combinations(64);
        combinations.c[17] += Scalar::ONE;
        let error = quotient::<Scalar>(combinations, 64, &mut || Ok(())).unwrap_err();
        assert!(error.is::<Unsatisfied>(), "{error}");
        assert!(error.to_string().contains("don't hold"), "{error}");
    }

    #[test]
    fn an_error_of_the_step_ends_the_computation_between_two_transforms() {
        for last in 1..=TRANSFORMS {
            let mut steps = 0;
            let error = quotient::<Scalar>(combinations(64), 64, &mut || {
                steps += 1;
                anyhow::ensure!(steps < last, "cancelled");
                Ok(())
            });
            assert_eq!(error.unwrap_err().to_string(), "cancelled");
            assert_eq!(steps, last);
        }
    }
}
