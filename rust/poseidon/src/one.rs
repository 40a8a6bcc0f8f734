//! Hashes by instructions that every machine has, one element at a time.

use field::fr::{Constant, Fr};

use crate::permutation::one::permute;
use crate::preimages::{Node, Preimages};
use crate::schedule::Schedule;

/// Hashes computed at the same time: a product waits for the one before it in the same hash.
const GROUPS: usize = 4;

/// Writes a hash for each of `digests`; every node is a field element.
pub fn hash<const WIDTH: usize>(
    schedule: &Schedule<Constant>,
    preimages: Preimages<'_>,
    digests: &mut [Node],
) {
    let whole = digests.len() / GROUPS * GROUPS;
    let (groups, rest) = digests.split_at_mut(whole);
    for (group, digests) in groups.chunks_exact_mut(GROUPS).enumerate() {
        hash_groups::<WIDTH, GROUPS>(schedule, preimages, group * GROUPS, digests);
    }
    for (n, digest) in rest.chunks_mut(1).enumerate() {
        hash_groups::<WIDTH, 1>(schedule, preimages, whole + n, digest);
    }
}

/// The hashes of the preimages from number `first` on.
fn hash_groups<const WIDTH: usize, const COUNT: usize>(
    schedule: &Schedule<Constant>,
    preimages: Preimages<'_>,
    first: usize,
    digests: &mut [Node],
) {
    let mut state = [[schedule.tag; WIDTH]; COUNT];
    for (n, elements) in state.iter_mut().enumerate() {
        for (i, element) in elements[1..].iter_mut().enumerate() {
            *element = Fr::from_number(preimages.element(WIDTH - 1, first + n, i))
                .expect("checked to be a field element");
        }
    }
    for (digest, hash) in digests.iter_mut().zip(permute(schedule, &mut state)) {
        *digest = hash.to_number();
    }
}
