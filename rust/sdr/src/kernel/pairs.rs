//! Parents in a binary tree of SHA-256, with the kernels' compressions: a row of a tree is as many
//! independent hashes as it has pairs.

use sha2::{Digest, Sha256};

#[cfg(target_arch = "x86_64")]
use super::{Avx512, ShaNi};
use crate::graph::NODE_SIZE;

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
        if let Some(kernel) = Avx512::detect() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_hashes_of_pairs_whatever_their_number() {
        let row: Vec<u8> = (0..2 * 100 * NODE_SIZE as u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for pairs in (0..40).chain([100]) {
            let row = &row[..2 * pairs * NODE_SIZE];
            let mut found = vec![0xff; pairs * NODE_SIZE];
            parents(row, &mut found);
            let expected = row.chunks_exact(2 * NODE_SIZE).flat_map(|pair| {
                let mut hash: [u8; NODE_SIZE] = Sha256::digest(pair).into();
                hash[NODE_SIZE - 1] &= 0x3f;
                hash
            });
            assert!(found.iter().copied().eq(expected), "{pairs} pairs");
        }
    }

    #[test]
    #[should_panic(expected = "a parent for every two nodes: 64 and 64 bytes")]
    fn rows_that_do_not_fit_are_refused() {
        parents(&[0; 64], &mut [0; 64]);
    }
}
