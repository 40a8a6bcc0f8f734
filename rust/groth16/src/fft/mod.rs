//! Number-theoretic transforms over the scalar field, on [`Lanes`].
//!
//! With W lanes, value i of n is in lane i / (n / W) of vector i mod (n / W): each lane holds a
//! contiguous part of the values, and all but `log2 W` levels of a transform work on whole vectors
//! with no exchange between lanes.
//!
//! The two transforms are the two directions of one network. [`Domain::evaluate`] takes coefficients in
//! natural order and leaves values in bit-reversed order, [`Domain::interpolate`] goes back. Level ℓ
//! takes a polynomial modulo X^2m − t² to its remainders modulo X^m − t and X^m + t. So one twiddle t
//! serves a whole block, and evaluating on a coset is no more than another t.

mod lanes;
mod network;
#[cfg(target_arch = "x86_64")]
mod wide;

use anyhow::Result;
use blstrs::Scalar;
use ff::{Field, PrimeField};
use rayon::prelude::*;

use crate::memory::reserved;
pub use lanes::Lanes;
use network::Twiddles;

/// Vectors that a thread packs or unpacks at once.
const PACKED: usize = 1 << 10;

/// Roots of unity for transforms of one size.
pub struct Domain<L: Lanes> {
    log_size: u32,
    twiddles: Twiddles<L>,
}

/// Where polynomials are evaluated: at the roots of unity times `shift`.
#[derive(Clone, Copy)]
pub struct Coset {
    shift: Scalar,
}

impl Coset {
    /// The roots of unity themselves.
    pub const NONE: Self = Self { shift: Scalar::ONE };

    /// The roots of unity times the field's generator: none of them is a root of unity.
    pub fn generator() -> Self {
        Self {
            shift: Scalar::MULTIPLICATIVE_GENERATOR,
        }
    }

    /// X^size − 1 at all points of the coset: it is the same at each.
    pub fn vanishing(&self, size: usize) -> Scalar {
        self.shift.pow_vartime([size as u64]) - Scalar::ONE
    }
}

impl<L: Lanes> Domain<L> {
    /// For transforms of `size` values: a power of two, the lanes' width at least.
    pub fn new(size: usize) -> Self {
        assert!(size.is_power_of_two() && size >= L::WIDTH);
        let log_size = size.ilog2();
        assert!(log_size <= Scalar::S, "no root of unity of order {size}");
        Self {
            log_size,
            twiddles: Twiddles::new(log_size),
        }
    }

    /// How many values a transform has.
    pub fn size(&self) -> usize {
        1 << self.log_size
    }

    /// Packs `values`, zeros after them, in bit-reversed order: as [`Self::interpolate`] takes them.
    /// An error if there is no memory for them.
    pub fn pack_reversed(&self, values: &[Scalar]) -> Result<Vec<L>> {
        let vectors = self.size() / L::WIDTH;
        let mut data = reserved(vectors)?;
        let value = |index: usize| values.get(index).copied().unwrap_or(Scalar::ZERO);
        (0..vectors)
            .into_par_iter()
            .map(|vector| {
                // A vector's values lie side by side: its lanes differ in the lowest bits, reversed.
                let first = reverse(vector, vectors) * L::WIDTH;
                L::pack(|lane| value(first + reverse(lane, L::WIDTH)))
            })
            .collect_into_vec(&mut data);
        Ok(data)
    }

    /// The values in natural order, of data in natural order. An error if there is no memory for them.
    pub fn unpack(&self, data: &[L]) -> Result<Vec<Scalar>> {
        let mut values = reserved(self.size())?;
        values.resize(self.size(), Scalar::ZERO);
        let mut lanes: Vec<_> = values
            .chunks_mut(data.len())
            .map(|lane| lane.chunks_mut(PACKED))
            .collect();
        let parts: Vec<_> = data
            .chunks(PACKED)
            .map(|vectors| {
                let lanes: Vec<_> = lanes.iter_mut().map(|lane| lane.next()).collect();
                (vectors, lanes)
            })
            .collect();
        parts.into_par_iter().for_each(|(vectors, mut lanes)| {
            for (index, vector) in vectors.iter().enumerate() {
                vector.unpack(|lane, value| {
                    if let Some(lane) = &mut lanes[lane] {
                        lane[index] = value;
                    }
                });
            }
        });
        Ok(values)
    }

    /// From coefficients in natural order to the values on `coset`, bit-reversed.
    pub fn evaluate(&self, data: &mut [L], coset: Coset) {
        assert_eq!(data.len() * L::WIDTH, self.size());
        let factors = self.twiddles.factors(coset.shift);
        network::forward(data, &self.twiddles, &factors);
    }

    /// From the values on `coset`, bit-reversed, to the coefficients in natural order, times
    /// [`Self::size`].
    pub fn interpolate(&self, data: &mut [L], coset: Coset) {
        assert_eq!(data.len() * L::WIDTH, self.size());
        let shift = coset.shift.invert().expect("a shift isn't zero");
        let factors = self.twiddles.inverse_factors(shift);
        network::backward(data, &self.twiddles, &factors);
    }
}

/// The bits of `index` in reverse, as many as `size` has values.
fn reverse(index: usize, size: usize) -> usize {
    match size.ilog2() {
        0 => 0,
        bits => index.reverse_bits() >> (usize::BITS - bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scalars;

    /// The coefficients' polynomial at `point`, by Horner's rule.
    fn at(coefficients: &[Scalar], point: Scalar) -> Scalar {
        let fold = |sum: Scalar, coefficient: &Scalar| sum * point + coefficient;
        coefficients.iter().rev().fold(Scalar::ZERO, fold)
    }

    /// Values on `coset` become coefficients, which are held against Horner's rule at a few points, and
    /// values again.
    fn there_and_back<L: Lanes>(log_size: u32, coset: Coset) {
        let size = 1 << log_size;
        let values = scalars(u64::from(log_size), size - 1);
        let domain = Domain::<L>::new(size);
        let mut data = domain.pack_reversed(&values).unwrap();
        let packed = domain.unpack(&data).unwrap();
        let unpacked = |data: &[L]| domain.unpack(data).unwrap();
        domain.interpolate(&mut data, coset);
        let scale = Scalar::from(size as u64).invert().unwrap();
        let coefficients: Vec<_> = unpacked(&data).iter().map(|x| scale * x).collect();
        let root = (log_size..Scalar::S).fold(Scalar::ROOT_OF_UNITY, |root, _| root.square());
        for index in [0, 1, size / 2 - 1, size / 2, size - 2] {
            let point = coset.shift * root.pow_vartime([index as u64]);
            assert_eq!(at(&coefficients, point), values[index], "value {index}");
        }
        domain.evaluate(&mut data, coset);
        let again: Vec<_> = unpacked(&data).iter().map(|x| scale * x).collect();
        assert!(again == packed);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn eight_lanes_go_there_and_back() {
        if !crate::testing::has_ifma() {
            return;
        }
        for log_size in [3, 4, 5, 6, 9, 17] {
            there_and_back::<field::fr8::Fr8>(log_size, Coset::NONE);
            there_and_back::<field::fr8::Fr8>(log_size, Coset::generator());
        }
    }

    #[test]
    fn one_lane_goes_there_and_back() {
        // The largest needs two passes over more than a leaf.
        for log_size in [2, 3, 6, 9, 16] {
            there_and_back::<Scalar>(log_size, Coset::NONE);
            there_and_back::<Scalar>(log_size, Coset::generator());
        }
    }
}
