//! Expander parents: a Feistel permutation over all (node, parent number) pairs.

use super::{GraphSpec, GraphVersion, EXP_DEGREE};

const ROUNDS: usize = 3;

/// The permutation with its round function tabulated.
///
/// The reference hashes with BLAKE2b three times per permutation step, 24 to 48 times per node. But
/// the round function sees only 2^half_bits inputs for each of three keys.
pub struct Expander {
    tables: [Box<[u32]>; ROUNDS],
    half_bits: u32,
    elements: u64,
    truncate: bool,
}

impl Expander {
    pub fn new(keys: [u64; 4], spec: GraphSpec) -> Self {
        let elements = u64::from(spec.nodes) * EXP_DEGREE as u64;
        let half_bits = half_bits(elements);
        let table = |key: u64| {
            (0..1u64 << half_bits)
                .map(|right| round(right, key, half_bits))
                .collect()
        };
        Expander {
            tables: [table(keys[0]), table(keys[1]), table(keys[2])],
            half_bits,
            elements,
            truncate: spec.version == GraphVersion::V1_0,
        }
    }

    /// Writes the eight expander parents of `node`.
    pub fn parents(&self, node: u32, parents: &mut [u32]) {
        let first = u64::from(node) * EXP_DEGREE as u64;
        for (index, parent) in (first..).zip(parents) {
            let permuted = self.permute(index);
            *parent = if self.truncate {
                permuted as u32 / EXP_DEGREE as u32
            } else {
                (permuted / EXP_DEGREE as u64) as u32
            };
        }
    }

    /// Permutes `index` within the elements: steps that land outside are repeated from there.
    fn permute(&self, index: u64) -> u64 {
        let mut permuted = self.step(index);
        while permuted >= self.elements {
            permuted = self.step(permuted);
        }
        permuted
    }

    fn step(&self, index: u64) -> u64 {
        let mut left = (index >> self.half_bits) as u32;
        let mut right = (index & ((1 << self.half_bits) - 1)) as u32;
        for table in &self.tables {
            (left, right) = (right, left ^ table[right as usize]);
        }
        u64::from(left) << self.half_bits | u64::from(right)
    }
}

/// Half of the smallest even number of bits, two at least, that can number `elements`.
fn half_bits(elements: u64) -> u32 {
    (1..)
        .find(|half| 1 << (2 * half) >= elements)
        .expect("elements fit in 64 bits")
}

/// The round function: the first eight bytes of BLAKE2b-512 of the half and the key, cut to a half.
fn round(right: u64, key: u64, half_bits: u32) -> u32 {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&right.to_be_bytes());
    data[8..].copy_from_slice(&key.to_be_bytes());
    let hash = blake2b_simd::blake2b(&data);
    let first = u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"));
    (first & ((1 << half_bits) - 1)) as u32
}
