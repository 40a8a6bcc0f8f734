//! Where everything stands in a parameter file.
//!
//! The file is the one the proving library writes: the verifying key, then the queries h, l, a, b in
//! G1 and b in G2, each as a big-endian 32-bit count and that many uncompressed points.

use std::marker::PhantomData;

use crate::curve::{CurveGroup, G1, G2};
use crate::qap::Shape;

/// Bytes of a count.
const COUNT: u64 = 4;

/// Bytes of a verifying key: three points of each group, a count, one G1 point per public input.
pub fn verifying_key_bytes(inputs: usize) -> u64 {
    (3 * (G1::ENCODED + G2::ENCODED) + inputs * G1::ENCODED) as u64 + COUNT
}

/// One query: its count at `offset`, the points behind it.
#[derive(Clone, Copy)]
pub struct Section<C> {
    pub offset: u64,
    pub points: usize,
    group: PhantomData<C>,
}

impl<C: CurveGroup> Section<C> {
    fn after(offset: u64, points: usize) -> Self {
        Self {
            offset,
            points,
            group: PhantomData,
        }
    }

    /// Offset of a point.
    pub fn point(&self, index: usize) -> u64 {
        self.offset + COUNT + (index * C::ENCODED) as u64
    }

    fn end(&self) -> u64 {
        self.point(self.points)
    }
}

/// The queries of a file after the first one, which is [`FileLayout::h`].
pub struct FileLayout {
    pub l: Section<G1>,
    pub a: Section<G1>,
    pub b_g1: Section<G1>,
    pub b_g2: Section<G2>,
}

impl FileLayout {
    /// `a` and `b` are the lengths of these queries, which leave out points at infinity.
    pub fn new(shape: &Shape, a: usize, b: usize) -> Self {
        let l = Section::after(Self::h(shape).end(), shape.aux);
        let a = Section::after(l.end(), a);
        let b_g1 = Section::after(a.end(), b);
        let b_g2 = Section::after(b_g1.end(), b);
        Self { l, a, b_g1, b_g2 }
    }

    /// The first query: its place depends on the circuit's shape only.
    pub fn h(shape: &Shape) -> Section<G1> {
        Section::after(verifying_key_bytes(shape.inputs), shape.domain() - 1)
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.b_g2.end()
    }
}
