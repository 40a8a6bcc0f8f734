//! The butterflies of both directions, and their twiddles.
//!
//! Write e(x) for the x-th part of a turn on the unit circle of the field, e(1/2ᵏ) being its 2ᵏ-th root
//! of unity, and rev for bit reversal. Block b of level ℓ, of polynomials modulo X^2m − t², has
//! t = sᵐ·e(rev(b) / 2^(ℓ+1)) where s is the coset's shift: for the two blocks it splits into are those
//! of the square roots of t and of −t. The second factor depends on b alone, not on the level.
//! Within lanes, where b is `lane · 2^(ℓ−w) + b'`, it falls into a part of b', the same for all lanes,
//! and one of the lane, the same for all blocks of the level: e(rev(lane) / 2^(ℓ+1)).

use std::mem::size_of_val;

use blstrs::Scalar;
use ff::{Field, PrimeField};
use rayon::prelude::*;

use super::lanes::Lanes;
use super::reverse;
use crate::kernel::Kernel;

/// Data of this size is transformed by one thread, in its second-level cache.
const LEAF_BYTES: usize = 1 << 20;

/// Vectors that a thread takes at once of a pass over more than that.
const STRIDE: usize = 1 << 10;

/// The roots of unity of all blocks of a transform.
pub struct Twiddles<L: Lanes> {
    log_size: u32,
    /// e(rev(b) / …) for each block b within a lane.
    roots: Vec<L::Constant>,
}

/// What the blocks' roots are multiplied with, for one coset and one direction.
pub struct Factors<L> {
    /// For each level within lanes.
    levels: Vec<L>,
    /// For each level between lanes, from the widest: the whole twiddle in the upper lanes, one in
    /// the lower ones.
    between: Vec<L>,
    /// All of `levels` are one.
    trivial: bool,
    /// The twiddles are the inverse ones.
    inverse: bool,
}

/// The root of unity of order 2^`log`.
fn root(log: u32) -> Scalar {
    (log..Scalar::S).fold(Scalar::ROOT_OF_UNITY, |root, _| root.square())
}

impl<L: Lanes> Twiddles<L> {
    pub fn new(log_size: u32) -> Self {
        let count = ((1 << log_size) / L::WIDTH / 2).max(1);
        let mut scalars = Vec::with_capacity(count);
        scalars.push(Scalar::ONE);
        for log in 0..count.ilog2() {
            let next = root(log + 2);
            let upper: Vec<_> = scalars.par_iter().map(|lower| next * lower).collect();
            scalars.extend(upper);
        }
        Self {
            log_size,
            roots: scalars.par_iter().map(L::constant).collect(),
        }
    }

    /// For the values on the coset of `shift`.
    pub fn factors(&self, shift: Scalar) -> Factors<L> {
        self.make_factors(shift, false)
    }

    /// For the way back; `shift` is the inverse of the coset's.
    pub fn inverse_factors(&self, shift: Scalar) -> Factors<L> {
        self.make_factors(shift, true)
    }

    fn make_factors(&self, shift: Scalar, inverse: bool) -> Factors<L> {
        // e(rev(index) / 2^(level+1)) for an index below `size`, or its inverse.
        let turn = |index: usize, size: usize, level: u32| {
            let root = root(level + 1).pow_vartime([reverse(index, size) as u64]);
            match inverse {
                false => root,
                true => root.invert().expect("a root of unity isn't zero"),
            }
        };
        let shift_at = |level: u32| shift.pow_vartime([1u64 << (self.log_size - level - 1)]);
        let width = L::WIDTH.ilog2();
        let between = (0..width).map(|level| {
            let distance = L::WIDTH >> (level + 1);
            L::pack(|lane| match lane & distance {
                0 => Scalar::ONE,
                _ => shift_at(level) * turn(lane / (2 * distance), 1 << level, level),
            })
        });
        let levels = (width..self.log_size)
            .map(|level| L::pack(|lane| shift_at(level) * turn(lane, L::WIDTH, level)));
        Factors {
            between: between.collect(),
            levels: levels.collect(),
            trivial: L::WIDTH == 1 && shift == Scalar::ONE,
            inverse,
        }
    }
}

/// Everything a butterfly's twiddle follows from.
struct Network<'a, L: Lanes> {
    twiddles: &'a Twiddles<L>,
    factors: &'a Factors<L>,
}

impl<L: Lanes> Clone for Network<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L: Lanes> Copy for Network<'_, L> {}

impl<L: Lanes> Network<'_, L> {
    /// The twiddle of a block, by its level and number within lanes.
    #[inline(always)]
    fn twiddle(&self, level: usize, block: usize) -> L {
        // The inverse of e(k / 2m) is −e((m − k) / 2m), and m − k reversed is k reversed with all bits
        // below the highest one flipped.
        let (index, negative) = match (self.factors.inverse, block.checked_ilog2()) {
            (true, Some(highest)) => (block ^ ((1 << highest) - 1), true),
            _ => (block, false),
        };
        let mut twiddle = L::splat(&self.twiddles.roots[index]);
        if !self.factors.trivial {
            twiddle = twiddle.mul(self.factors.levels[level]);
        }
        if negative {
            twiddle = twiddle.sub(twiddle).sub(twiddle);
        }
        twiddle
    }

    /// The twiddles of a block and of the two it splits into.
    #[inline(always)]
    fn twiddles(&self, level: usize, block: usize) -> [L; 3] {
        [
            self.twiddle(level, block),
            self.twiddle(level + 1, 2 * block),
            self.twiddle(level + 1, 2 * block + 1),
        ]
    }
}

#[inline(always)]
fn split<L: Lanes>(x: L, y: L, twiddle: L) -> (L, L) {
    let y = y.mul(twiddle);
    (x.add(y), x.sub(y))
}

#[inline(always)]
fn join<L: Lanes>(x: L, y: L, twiddle: L) -> (L, L) {
    (x.add(y), x.sub(y).mul(twiddle))
}

/// From coefficients to values.
pub fn forward<L: Lanes>(data: &mut [L], twiddles: &Twiddles<L>, factors: &Factors<L>) {
    for (level, twiddle) in factors.between.iter().enumerate() {
        let distance = L::WIDTH >> (level + 1);
        data.par_chunks_mut(STRIDE).for_each(|chunk| {
            L::vectorize(SplitLanes {
                chunk,
                distance,
                twiddle: *twiddle,
            });
        });
    }
    forward_within(data, Network { twiddles, factors }, 0, 0);
}

/// From values to coefficients, times their number.
pub fn backward<L: Lanes>(data: &mut [L], twiddles: &Twiddles<L>, factors: &Factors<L>) {
    backward_within(data, Network { twiddles, factors }, 0, 0);
    for (level, twiddle) in factors.between.iter().enumerate().rev() {
        let distance = L::WIDTH >> (level + 1);
        data.par_chunks_mut(STRIDE).for_each(|chunk| {
            L::vectorize(JoinLanes {
                chunk,
                distance,
                twiddle: *twiddle,
            });
        });
    }
}

struct SplitLanes<'a, L> {
    chunk: &'a mut [L],
    distance: usize,
    twiddle: L,
}

impl<L: Lanes> Kernel for SplitLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.chunk {
            let product = value.mul(self.twiddle);
            let negated = product.negate_upper(self.distance);
            *value = product.swap(self.distance).add(negated);
        }
    }
}

struct JoinLanes<'a, L> {
    chunk: &'a mut [L],
    distance: usize,
    twiddle: L,
}

impl<L: Lanes> Kernel for JoinLanes<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.chunk {
            let negated = value.negate_upper(self.distance);
            *value = value.swap(self.distance).add(negated).mul(self.twiddle);
        }
    }
}

/// `data` is block number `block` of `level`.
fn forward_within<L: Lanes>(data: &mut [L], network: Network<'_, L>, level: usize, block: usize) {
    if size_of_val(data) <= LEAF_BYTES {
        return L::vectorize(ForwardLeaf {
            data,
            network,
            level,
            block,
        });
    }
    let quarter = data.len() / 4;
    pass(data, |quarters| {
        L::vectorize(ForwardPass {
            quarters,
            network,
            level,
            block,
        });
    });
    data.par_chunks_mut(quarter)
        .enumerate()
        .for_each(|(number, part)| {
            forward_within(part, network, level + 2, 4 * block + number);
        });
}

fn backward_within<L: Lanes>(data: &mut [L], network: Network<'_, L>, level: usize, block: usize) {
    if size_of_val(data) <= LEAF_BYTES {
        return L::vectorize(BackwardLeaf {
            data,
            network,
            level,
            block,
        });
    }
    let quarter = data.len() / 4;
    data.par_chunks_mut(quarter)
        .enumerate()
        .for_each(|(number, part)| {
            backward_within(part, network, level + 2, 4 * block + number);
        });
    pass(data, |quarters| {
        L::vectorize(BackwardPass {
            quarters,
            network,
            level,
            block,
        });
    });
}

/// Calls `work` with the same part of each quarter of `data`, part after part.
fn pass<L: Lanes>(data: &mut [L], work: impl Fn([&mut [L]; 4]) + Sync) {
    let (low, high) = data.split_at_mut(data.len() / 2);
    let (first, second) = low.split_at_mut(low.len() / 2);
    let (third, fourth) = high.split_at_mut(high.len() / 2);
    first
        .par_chunks_mut(STRIDE)
        .zip(second.par_chunks_mut(STRIDE))
        .zip(third.par_chunks_mut(STRIDE))
        .zip(fourth.par_chunks_mut(STRIDE))
        .for_each(|(((first, second), third), fourth)| work([first, second, third, fourth]));
}

struct ForwardPass<'a, L: Lanes> {
    quarters: [&'a mut [L]; 4],
    network: Network<'a, L>,
    level: usize,
    block: usize,
}

impl<L: Lanes> Kernel for ForwardPass<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [whole, lower, upper] = self.network.twiddles(self.level, self.block);
        let [a, b, c, d] = self.quarters;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            (*a, *c) = split(*a, *c, whole);
            (*b, *d) = split(*b, *d, whole);
            (*a, *b) = split(*a, *b, lower);
            (*c, *d) = split(*c, *d, upper);
        }
    }
}

struct BackwardPass<'a, L: Lanes> {
    quarters: [&'a mut [L]; 4],
    network: Network<'a, L>,
    level: usize,
    block: usize,
}

impl<L: Lanes> Kernel for BackwardPass<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [whole, lower, upper] = self.network.twiddles(self.level, self.block);
        let [a, b, c, d] = self.quarters;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            (*a, *b) = join(*a, *b, lower);
            (*c, *d) = join(*c, *d, upper);
            (*a, *c) = join(*a, *c, whole);
            (*b, *d) = join(*b, *d, whole);
        }
    }
}

struct ForwardLeaf<'a, L: Lanes> {
    data: &'a mut [L],
    network: Network<'a, L>,
    level: usize,
    block: usize,
}

impl<L: Lanes> Kernel for ForwardLeaf<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for depth in 0..self.data.len().ilog2() as usize {
            let size = self.data.len() >> depth;
            let first = self.block << depth;
            for (number, part) in self.data.chunks_exact_mut(size).enumerate() {
                let twiddle = self.network.twiddle(self.level + depth, first + number);
                let (lower, upper) = part.split_at_mut(size / 2);
                for (x, y) in lower.iter_mut().zip(upper) {
                    (*x, *y) = split(*x, *y, twiddle);
                }
            }
        }
    }
}

struct BackwardLeaf<'a, L: Lanes> {
    data: &'a mut [L],
    network: Network<'a, L>,
    level: usize,
    block: usize,
}

impl<L: Lanes> Kernel for BackwardLeaf<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for depth in (0..self.data.len().ilog2() as usize).rev() {
            let size = self.data.len() >> depth;
            let first = self.block << depth;
            for (number, part) in self.data.chunks_exact_mut(size).enumerate() {
                let twiddle = self.network.twiddle(self.level + depth, first + number);
                let (lower, upper) = part.split_at_mut(size / 2);
                for (x, y) in lower.iter_mut().zip(upper) {
                    (*x, *y) = join(*x, *y, twiddle);
                }
            }
        }
    }
}
