//! Buckets that points are added to in batches: affine additions that share one inversion.

use std::mem::size_of;

use super::curve::Group;
use super::lanes::{Lanes, Point};
use crate::kernel::Kernel;

/// Additions that share an inversion.
const BATCH: usize = 2048;

/// Additions that wait for their bucket before something is done about it.
const WAITING: usize = 2048;

/// Fewer additions than this aren't worth an inversion.
const SMALL_BATCH: usize = 64;

/// Groups of lanes by which buckets are fetched ahead of their additions: they lie anywhere.
const AHEAD: usize = 8;

/// In [`Buckets::state`]: nothing in it.
const EMPTY: u32 = 0;

/// In [`Buckets::state`]: something in it, no batch adds to it. Larger values name the batch that
/// added to it last.
const FREE: u32 = 1;

/// A point that goes into a bucket.
#[derive(Clone, Copy)]
struct Term {
    bucket: u32,
    /// Where it is among the points, and in the lowest bit whether it is to be negated.
    point: u32,
}

impl Term {
    fn index(self) -> usize {
        (self.point >> 1) as usize
    }

    fn negative(self) -> bool {
        self.point & 1 == 1
    }
}

/// Sums of points, one per bucket.
///
/// The affine addition knows neither the point at infinity nor two points with the same x: a batch in
/// which it meets such a pair is added to `rest` instead, one by one. So is what waits for buckets
/// that more points come to than batches take.
pub struct Buckets<G: Group, L: Lanes<G>> {
    sums: Vec<Point<L::Element>>,
    state: Vec<u32>,
    /// The number of the batch that is being filled.
    number: u32,
    batch: Vec<Term>,
    waiting: Vec<Term>,
    /// Further sums of the buckets; empty as long as none is needed.
    rest: Vec<G::Projective>,
    scratch: Vec<(L, L)>,
}

impl<G: Group, L: Lanes<G>> Buckets<G, L> {
    /// What a bucket takes at most.
    pub const BYTES: usize =
        size_of::<Point<L::Element>>() + size_of::<u32>() + size_of::<G::Projective>();

    pub fn new(count: usize) -> Self {
        Self {
            sums: vec![Point::default(); count],
            state: vec![EMPTY; count],
            number: FREE + 1,
            batch: Vec::new(),
            waiting: Vec::new(),
            rest: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Adds points to buckets: `terms` gives the bucket, the index of the point in `points`, which is
    /// below 2³¹, and whether it is subtracted.
    pub fn add(
        &mut self,
        points: &[Point<L::Element>],
        terms: impl Iterator<Item = (usize, usize, bool)>,
    ) {
        for (bucket, index, negative) in terms {
            let term = Term {
                bucket: bucket as u32,
                point: (index as u32) << 1 | u32::from(negative),
            };
            self.put(points, term);
            if self.batch.len() >= BATCH {
                self.flush(points);
            } else if self.waiting.len() >= WAITING {
                if self.batch.len() >= SMALL_BATCH {
                    self.flush(points);
                } else {
                    let waiting = std::mem::take(&mut self.waiting);
                    self.add_one_by_one(points, &waiting);
                }
            }
        }
        // The points are the caller's: nothing may refer to them when this returns.
        while self.batch.len() >= SMALL_BATCH {
            self.flush(points);
        }
        let batch = std::mem::take(&mut self.batch);
        self.add_one_by_one(points, &batch);
        let waiting = std::mem::take(&mut self.waiting);
        self.add_one_by_one(points, &waiting);
        self.number += 1;
    }

    fn put(&mut self, points: &[Point<L::Element>], term: Term) {
        let bucket = term.bucket as usize;
        let state = &mut self.state[bucket];
        if *state == EMPTY {
            let mut point = points[term.index()];
            if term.negative() {
                point.y = L::negate_element(&point.y);
            }
            self.sums[bucket] = point;
            *state = FREE;
        } else if *state == self.number {
            self.waiting.push(term);
        } else {
            *state = self.number;
            self.batch.push(term);
        }
    }

    /// Carries out the batch, but for what doesn't fill the lanes, and starts the next one with what
    /// waited.
    fn flush(&mut self, points: &[Point<L::Element>]) {
        let whole = self.batch.len() - self.batch.len() % L::WIDTH;
        let terms: Vec<Term> = self.batch.drain(..whole).collect();
        let added = L::vectorize(AddBatch {
            sums: &mut self.sums,
            points,
            terms: &terms,
            scratch: &mut self.scratch,
        });
        if !added {
            self.add_one_by_one(points, &terms);
        }
        self.number += 1;
        for term in &self.batch {
            self.state[term.bucket as usize] = self.number;
        }
        for term in std::mem::take(&mut self.waiting) {
            self.put(points, term);
        }
    }

    fn add_one_by_one(&mut self, points: &[Point<L::Element>], terms: &[Term]) {
        if !terms.is_empty() && self.rest.is_empty() {
            self.rest = vec![G::Projective::default(); self.sums.len()];
        }
        for term in terms {
            let mut point = points[term.index()];
            if term.negative() {
                point.y = L::negate_element(&point.y);
            }
            G::add_affine(&mut self.rest[term.bucket as usize], &L::affine(&point));
        }
    }

    fn add_bucket(&self, sum: &mut G::Projective, bucket: usize) {
        if self.state[bucket] != EMPTY {
            G::add_affine(sum, &L::affine(&self.sums[bucket]));
        }
        if let Some(rest) = self.rest.get(bucket).filter(|rest| !G::is_infinity(rest)) {
            G::add(sum, rest);
        }
    }

    /// The sum of all buckets.
    pub fn sum(&self) -> G::Projective {
        let mut sum = G::Projective::default();
        for bucket in 0..self.sums.len() {
            self.add_bucket(&mut sum, bucket);
        }
        sum
    }

    /// The sum of all buckets, bucket i taken i + 1 times.
    pub fn weighted_sum(&self) -> G::Projective {
        let mut from_here = G::Projective::default();
        let mut sum = G::Projective::default();
        for bucket in (0..self.sums.len()).rev() {
            self.add_bucket(&mut from_here, bucket);
            G::add(&mut sum, &from_here);
        }
        sum
    }
}

/// Has `value` brought into the cache where that can be asked for.
#[inline(always)]
fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        let start = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: every x86-64 CPU has it, and it reads nothing: any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// `sums[bucket] += point` for all terms, whose buckets are distinct and not empty and whose number is
/// a multiple of the lanes' width. Nothing is changed, and the output is false, if two points that are
/// to be added have the same x.
struct AddBatch<'a, G: Group, L: Lanes<G>> {
    sums: &'a mut [Point<L::Element>],
    points: &'a [Point<L::Element>],
    terms: &'a [Term],
    /// For each group of lanes the difference of x, and the product of those before it.
    scratch: &'a mut Vec<(L, L)>,
}

impl<G: Group, L: Lanes<G>> Kernel for AddBatch<'_, G, L> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        self.scratch.clear();
        let mut product = L::one();
        let mut ahead = self.terms.chunks_exact(L::WIDTH).skip(AHEAD);
        for group in self.terms.chunks_exact(L::WIDTH) {
            for term in ahead.next().into_iter().flatten() {
                prefetch(&self.sums[term.bucket as usize]);
            }
            let sum = L::load(|lane| &self.sums[group[lane].bucket as usize].x);
            let point = L::load(|lane| &self.points[group[lane].index()].x);
            let difference = point.sub(sum);
            self.scratch.push((difference, product));
            product = product.mul(difference);
        }
        let Some(mut inverse) = product.invert() else {
            return false;
        };
        let groups = self.terms.chunks_exact(L::WIDTH).zip(&*self.scratch);
        for (group, (difference, before)) in groups.rev() {
            let reciprocal = inverse.mul(*before);
            inverse = inverse.mul(*difference);

            let mut negative = 0;
            for (lane, term) in group.iter().enumerate() {
                negative |= u32::from(term.negative()) << lane;
            }
            let x = L::load(|lane| &self.sums[group[lane].bucket as usize].x);
            let y = L::load(|lane| &self.sums[group[lane].bucket as usize].y);
            let point_y = L::load(|lane| &self.points[group[lane].index()].y).negate(negative);

            // The point's x is the sum's and the difference.
            let slope = point_y.sub_lazily(y).mul(reciprocal);
            let new_x = slope.square().sub(x.add(x).add(*difference));
            let new_y = slope.mul(x.sub_lazily(new_x)).sub(y);
            new_x.store(|lane, x| self.sums[group[lane].bucket as usize].x = x);
            new_y.store(|lane, y| self.sums[group[lane].bucket as usize].y = y);
        }
        true
    }
}
