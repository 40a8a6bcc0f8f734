//! Multi-scalar multiplication: Σ sᵢ · Pᵢ by the bucket method, with affine additions.
//!
//! A scalar is written in signed digits, a window each; the points whose digit in a window is ±d are
//! added to its bucket d − 1, and the buckets' weighted sums to the result. Most witness values are
//! zero or one: zeros are left out, the points of ones are added up.

mod buckets;
mod curve;
mod digits;
mod fp;
mod lanes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::mem::size_of;

use anyhow::Result;
use blstrs::Scalar;
use ff::Field;
use rayon::prelude::*;

use crate::kernel::Kernel;
use crate::parameters::Query;
use buckets::Buckets;
pub use curve::{Group, G1, G2};
use digits::{Recoded, Windows};
pub use lanes::{Lanes, Point};

/// Points that are decoded at a time by each group of threads: a few megabytes.
const CHUNK: usize = 1 << 16;

/// Points that a thread decodes at once.
const DECODED: usize = 1 << 9;

/// Buckets that the points of ones are spread over, so that they can be added in batches.
const ONES: usize = 1 << 11;

/// Flags in the first byte of an encoded point: compressed, at infinity, the larger y.
const FLAGS: u8 = 0xe0;

/// A point's index in its query, and what it is multiplied with.
type Term = (u32, Scalar);

/// Σ s · P over `terms`, which give the index of P in the query and s, in ascending order of indices.
///
/// `step` is called after every chunk of points with the number of terms that were taken since the last
/// time; its error ends the computation. An error also if a point is not in the query, or is not an
/// uncompressed one other than that at infinity.
pub fn multiply<G: Group, L: Lanes<G>>(
    query: Query<'_>,
    terms: impl Iterator<Item = Term> + Clone,
    step: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<G::Projective> {
    let multiplied = terms.clone().filter(|(_, scalar)| !is_trivial(scalar));
    let windows = Windows::for_terms(multiplied.count(), L::MAX_WINDOW, L::BUCKET_COST);
    let chunks = chunks_of(&windows);
    let mut chunks: Vec<Chunk<G, L>> = (0..chunks).map(|_| Chunk::new(&windows)).collect();
    let mut terms = terms.peekable();
    while terms.peek().is_some() {
        let mut taken = 0;
        for chunk in &mut chunks {
            taken += chunk.fill(&mut terms, query)?;
        }
        chunks.par_iter_mut().for_each(|chunk| chunk.decode(query));
        for chunk in &chunks {
            chunk.release(query)?;
        }
        chunks.par_iter_mut().for_each(Chunk::add);
        step(taken)?;
    }
    let sums: Vec<_> = chunks.par_iter().map(Chunk::sum).collect();
    Ok(total::<G>(&sums))
}

/// The windows of a chunk are added to in parallel: so many chunks that no thread is idle.
fn chunks_of(windows: &Windows) -> usize {
    rayon::current_num_threads().div_ceil(windows.count())
}

/// Bytes that a multiplication of `terms` points takes, but for its terms.
pub fn memory<G: Group, L: Lanes<G>>(terms: usize) -> usize {
    let windows = Windows::for_terms(terms, L::MAX_WINDOW, L::BUCKET_COST);
    let buckets = windows.iter().map(|window| window.buckets()).sum::<usize>() + ONES;
    // The points of a chunk are in the file's pages too.
    let point = size_of::<Point<L::Element>>() + G::ENCODED;
    let points = CHUNK * (point + size_of::<Recoded>() + size_of::<u32>());
    chunks_of(&windows) * (buckets * Buckets::<G, L>::BYTES + points)
}

/// Whether a scalar needs no buckets: zero, one.
fn is_trivial(scalar: &Scalar) -> bool {
    scalar.is_zero_vartime() || *scalar == Scalar::ONE
}

/// Points of a query and the buckets they are added to.
struct Chunk<'a, G: Group, L: Lanes<G>> {
    windows: &'a Windows,
    scalars: Vec<Recoded>,
    /// Indices in the query of the points that the scalars multiply.
    multiplied: Vec<u32>,
    /// Indices in the query of the points that are multiplied with one.
    ones: Vec<u32>,
    /// The points of `multiplied`, then those of `ones`.
    points: Vec<Point<L::Element>>,
    /// For each window, then for the ones.
    buckets: Vec<Buckets<G, L>>,
}

impl<'a, G: Group, L: Lanes<G>> Chunk<'a, G, L> {
    fn new(windows: &'a Windows) -> Self {
        let buckets = windows.iter().map(|window| window.buckets());
        Self {
            windows,
            scalars: Vec::with_capacity(CHUNK),
            multiplied: Vec::with_capacity(CHUNK),
            ones: Vec::with_capacity(CHUNK),
            points: Vec::with_capacity(CHUNK),
            buckets: buckets.chain([ONES]).map(Buckets::new).collect(),
        }
    }

    /// Takes the next terms and tells how many.
    fn fill(&mut self, terms: &mut impl Iterator<Item = Term>, query: Query<'_>) -> Result<usize> {
        self.scalars.clear();
        self.multiplied.clear();
        self.ones.clear();
        let size = G::ENCODED;
        let mut taken = 0;
        for (index, scalar) in terms {
            taken += 1;
            if scalar.is_zero_vartime() {
                continue;
            }
            let start = index as usize * size;
            let point = query.bytes().get(start..start + size);
            let Some(point) = point else {
                let points = query.bytes().len() / size;
                return Err(
                    query.damaged(&format!("has {points} points, and point {index} is needed"))
                );
            };
            let first = point[0];
            if first & FLAGS != 0 {
                return Err(query.damaged(&format!(
                    "has a point {index} at infinity or compressed: its first byte is {first:#04x}"
                )));
            }
            if scalar == Scalar::ONE {
                self.ones.push(index);
            } else {
                self.multiplied.push(index);
                self.scalars.push(self.windows.recode(&scalar));
            }
            if self.ones.len() + self.multiplied.len() == CHUNK {
                break;
            }
        }
        Ok(taken)
    }

    fn decode(&mut self, query: Query<'_>) {
        let count = self.multiplied.len() + self.ones.len();
        self.points.clear();
        self.points.resize(count, Point::default());
        let indices: Vec<u32> = [&self.multiplied[..], &self.ones].concat();
        indices
            .par_chunks(DECODED)
            .zip(self.points.par_chunks_mut(DECODED))
            .for_each(|(indices, points)| {
                L::vectorize(Decode::<G, L> {
                    encoded: query.bytes(),
                    indices,
                    points,
                });
            });
    }

    /// Lets go of the pages that the points were decoded from.
    fn release(&self, query: Query<'_>) -> Result<()> {
        let ends = [&self.multiplied, &self.ones].into_iter();
        let first = ends.clone().filter_map(|indices| indices.first()).min();
        let last = ends.filter_map(|indices| indices.last()).max();
        match (first, last) {
            (Some(first), Some(last)) => {
                query.release(*first as usize..*last as usize + 1, G::ENCODED)
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self) {
        let Self {
            scalars, points, ..
        } = self;
        let multiplied = scalars.len();
        let (buckets, ones) = self.buckets.split_at_mut(self.windows.count());
        let ones = ones.par_iter_mut().map(|ones| (None, ones));
        let windows: Vec<_> = self.windows.iter().collect();
        windows
            .par_iter()
            .map(Some)
            .zip(buckets)
            .chain(ones)
            .for_each(|(window, buckets)| match window {
                Some(window) => {
                    let digits = scalars.iter().map(|scalar| window.digit(scalar));
                    let digits = digits.enumerate().filter(|(_, digit)| *digit != 0);
                    buckets.add(
                        points,
                        digits.map(|(index, digit)| {
                            (digit.unsigned_abs() as usize - 1, index, digit < 0)
                        }),
                    );
                }
                None => {
                    let indices = multiplied..points.len();
                    buckets.add(points, indices.map(|index| (index % ONES, index, false)));
                }
            });
    }

    fn sum(&self) -> G::Projective {
        let (buckets, ones) = self.buckets.split_at(self.windows.count());
        let sums: Vec<_> = buckets.par_iter().map(Buckets::weighted_sum).collect();
        let mut sum = G::Projective::default();
        for (window, digits) in self.windows.iter().zip(&sums).rev() {
            for _ in 0..window.width() {
                G::double(&mut sum);
            }
            G::add(&mut sum, digits);
        }
        for ones in ones {
            G::add(&mut sum, &ones.sum());
        }
        sum
    }
}

fn total<G: Group>(sums: &[G::Projective]) -> G::Projective {
    let mut total = G::Projective::default();
    for sum in sums {
        G::add(&mut total, sum);
    }
    total
}

/// Decodes the points of `encoded` that `indices` name.
struct Decode<'a, G: Group, L: Lanes<G>> {
    encoded: &'a [u8],
    indices: &'a [u32],
    points: &'a mut [Point<L::Element>],
}

impl<G: Group, L: Lanes<G>> Kernel for Decode<'_, G, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let groups = self.points.chunks_mut(L::WIDTH);
        for (indices, points) in self.indices.chunks(L::WIDTH).zip(groups) {
            let last = indices.len() - 1;
            let point = L::decode(|lane| {
                let start = indices[lane.min(last)] as usize * G::ENCODED;
                &self.encoded[start..start + G::ENCODED]
            });
            point.x.store(|lane, x| {
                if let Some(point) = points.get_mut(lane) {
                    point.x = x;
                }
            });
            point.y.store(|lane, y| {
                if let Some(point) = points.get_mut(lane) {
                    point.y = y;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use blst::{blst_fp, blst_fp2};
    use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective};
    use group::{Curve, Group as _, UncompressedEncoding};
    use memmap2::Mmap;

    use super::*;
    use crate::testing::{rng, scalars};

    /// Encoded points, mapped as those of a parameter file are.
    fn mapped<P: UncompressedEncoding>(points: &[P]) -> Mmap {
        let mut file = tempfile::tempfile().unwrap();
        for point in points {
            file.write_all(point.to_uncompressed().as_ref()).unwrap();
        }
        // SAFETY: nobody else has the file.
        unsafe { Mmap::map(&file).unwrap() }
    }

    /// Scalars of every kind: random, zero, one, minus one, small, and many of the same.
    fn mixed_scalars(count: usize) -> Vec<Scalar> {
        let kinds = |(index, random): (usize, Scalar)| match index % 8 {
            0 => Scalar::ZERO,
            1 => Scalar::ONE,
            2 => -Scalar::ONE,
            3 => Scalar::from(index as u64),
            4 => Scalar::from(77),
            _ => random,
        };
        scalars(9, count)
            .into_iter()
            .enumerate()
            .map(kinds)
            .collect()
    }

    fn numbered(scalars: &[Scalar]) -> impl Iterator<Item = Term> + Clone + '_ {
        (0..).zip(scalars.iter().copied())
    }

    fn g1_points(count: usize) -> Vec<G1Affine> {
        let mut rng = rng(5);
        let mut points: Vec<_> = (0..count)
            .map(|_| G1Projective::random(&mut rng).to_affine())
            .collect();
        // The same point twice, and a point and its negative, in the same bucket.
        for index in (13..count.saturating_sub(16)).step_by(40) {
            points[index + 8] = points[index];
            points[index + 16] = -points[index];
        }
        points
    }

    fn holds_in_g1<L: Lanes<G1>>(points: &[G1Affine], scalars: &[Scalar]) {
        let file = mapped(points);
        let mut taken = 0;
        let sum = multiply::<G1, L>(Query::whole(&file), numbered(scalars), &mut |terms| {
            taken += terms;
            Ok(())
        });
        let expected: G1Projective = points.iter().zip(scalars).map(|(p, s)| p * s).sum();
        assert_eq!(G1::sum(&sum.unwrap()), expected);
        assert_eq!(taken, scalars.len());
    }

    fn holds_in_g2<L: Lanes<G2>>(count: usize) {
        let mut rng = rng(6);
        let points: Vec<G2Affine> = (0..count)
            .map(|_| G2Projective::random(&mut rng).to_affine())
            .collect();
        let scalars = mixed_scalars(count);
        let file = mapped(&points);
        let sum = multiply::<G2, L>(Query::whole(&file), numbered(&scalars), &mut |_| Ok(()));
        let expected: G2Projective = points.iter().zip(&scalars).map(|(p, s)| p * s).sum();
        assert_eq!(G2::sum(&sum.unwrap()), expected);
    }

    /// `count` times the same scalar: all points of a window come to one bucket.
    fn crowded<L: Lanes<G1>>(count: usize) {
        let scalar = scalars(4, 1)[0];
        holds_in_g1::<L>(&g1_points(count), &vec![scalar; count]);
        holds_in_g1::<L>(&vec![g1_points(1)[0]; count], &scalars(8, count));
    }

    #[test]
    fn one_lane_multiplies_like_the_definition() {
        for count in [1, 2, 7, 300, 5000] {
            holds_in_g1::<blst_fp>(&g1_points(count), &mixed_scalars(count));
        }
        crowded::<blst_fp>(3000);
        holds_in_g2::<blst_fp2>(1000);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn eight_lanes_multiply_like_the_definition() {
        if !crate::testing::has_ifma() {
            return;
        }
        for count in [1, 2, 7, 300, 5000] {
            holds_in_g1::<field::fp8::Fp8>(&g1_points(count), &mixed_scalars(count));
        }
        crowded::<field::fp8::Fp8>(3000);
        holds_in_g2::<field::fp8::Fp2x8>(1000);
    }

    #[test]
    fn a_point_that_can_not_be_one_is_named() {
        let file = mapped(&[g1_points(1)[0], G1Affine::from(G1Projective::identity())]);
        let query = Query::whole(&file);
        let multiply = |scalars: &[Scalar]| {
            let sum = multiply::<G1, blst_fp>(query, numbered(scalars), &mut |_| Ok(()));
            sum.map(drop).unwrap_err().to_string()
        };
        let error = multiply(&scalars(1, 2));
        assert!(
            error.starts_with("parameters whole: the whole query has a point 1 at infinity"),
            "{error}"
        );
        let error = multiply(&[Scalar::ONE, Scalar::ZERO, Scalar::ONE]);
        assert_eq!(
            error,
            "parameters whole: the whole query has 2 points, and point 2 is needed"
        );
    }

    #[test]
    fn an_error_of_the_step_ends_the_computation() {
        let points = g1_points(3);
        let file = mapped(&points);
        let scalars = scalars(1, 3);
        let sum = multiply::<G1, blst_fp>(Query::whole(&file), numbered(&scalars), &mut |_| {
            anyhow::bail!("cancelled")
        });
        assert_eq!(sum.map(drop).unwrap_err().to_string(), "cancelled");
    }
}
