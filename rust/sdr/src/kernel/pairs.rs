//! Parents in a binary tree of SHA-256, with the kernels' compressions: a row of a tree is as many
//! independent hashes as it has pairs.

#[cfg(target_arch = "x86_64")]
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

#[cfg(target_arch = "x86_64")]
use super::{Avx512, ShaNi};
use crate::graph::NODE_SIZE;

/// Bytes of the row that is hashed to find the faster kernel, and how often: half a millisecond in all, and the
/// best time counts, which other work on the machine does not touch.
#[cfg(target_arch = "x86_64")]
const MEASURED: usize = 64 << 10;
#[cfg(target_arch = "x86_64")]
const MEASUREMENTS: usize = 8;

/// Writes the parents of `row` (2n nodes) into `parents` (n nodes): SHA-256 of each pair with the two
/// highest bits of the last byte cleared, so that it is a field element.
pub fn parents(row: &[u8], parents: &mut [u8]) {
    assert!(
        row.len() == 2 * parents.len() && parents.len().is_multiple_of(NODE_SIZE),
        "a parent for every two nodes: {} and {} bytes",
        row.len(),
        parents.len()
    );
    // Each way takes what is left of whole groups of its size.
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(kernel) = wide() {
            done = kernel.parents(row, parents);
        }
        if let Some(kernel) = ShaNi::detect() {
            done += kernel.parents(&row[2 * done..], &mut parents[done..]);
        }
    }
    let pairs = row[2 * done..].chunks_exact(2 * NODE_SIZE);
    for (pair, parent) in pairs.zip(parents[done..].chunks_exact_mut(NODE_SIZE)) {
        parent.copy_from_slice(&Sha256::digest(pair));
        parent[NODE_SIZE - 1] &= 0x3f;
    }
}

/// The kernel for sixteen pairs at a time, where it is faster than the SHA instructions: it was on an Intel
/// Sapphire Rapids and was not on an AMD Zen 4, so it is measured, once per process.
#[cfg(target_arch = "x86_64")]
fn wide() -> Option<Avx512> {
    static FASTER: OnceLock<bool> = OnceLock::new();
    let wide = Avx512::detect()?;
    let Some(narrow) = ShaNi::detect() else {
        return Some(wide);
    };
    let faster = *FASTER.get_or_init(|| {
        let row = vec![0; MEASURED];
        let mut parents = vec![0; MEASURED / 2];
        let mut times = [Duration::MAX; 2];
        for _ in 0..MEASUREMENTS {
            let started = Instant::now();
            wide.parents(&row, &mut parents);
            times[0] = times[0].min(started.elapsed());
            let started = Instant::now();
            narrow.parents(&row, &mut parents);
            times[1] = times[1].min(started.elapsed());
        }
        times[0] < times[1]
    });
    faster.then_some(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(pairs: usize) -> Vec<u8> {
        (0..(2 * pairs * NODE_SIZE) as u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    fn expected(row: &[u8]) -> Vec<u8> {
        let hashes = row.chunks_exact(2 * NODE_SIZE).flat_map(|pair| {
            let mut hash: [u8; NODE_SIZE] = Sha256::digest(pair).into();
            hash[NODE_SIZE - 1] &= 0x3f;
            hash
        });
        hashes.collect()
    }

    #[test]
    fn parents_are_hashes_of_pairs_whatever_their_number() {
        for pairs in (0..40).chain([100]) {
            let row = row_of(pairs);
            let mut found = vec![0xff; pairs * NODE_SIZE];
            parents(&row, &mut found);
            assert_eq!(found, expected(&row), "{pairs} pairs");
        }
    }

    /// The slower one too, of which [`parents`] makes no use on this machine.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_kernel_hashes_whole_groups_of_pairs() {
        let row = row_of(39);
        let mut found = vec![0xff; row.len() / 2];
        let mut check = |name: &str, parents: &dyn Fn(&mut [u8]) -> usize, whole: usize| {
            let done = parents(&mut found);
            assert_eq!(done, whole * NODE_SIZE, "{name}");
            assert_eq!(found[..done], expected(&row)[..done], "{name}");
        };
        if let Some(kernel) = Avx512::detect() {
            check("AVX-512", &|found| kernel.parents(&row, found), 32);
        }
        if let Some(kernel) = ShaNi::detect() {
            check("SHA-NI", &|found| kernel.parents(&row, found), 36);
        }
    }

    #[test]
    #[should_panic(expected = "a parent for every two nodes: 64 and 64 bytes")]
    fn rows_that_do_not_fit_are_refused() {
        parents(&[0; 64], &mut [0; 64]);
    }
}
