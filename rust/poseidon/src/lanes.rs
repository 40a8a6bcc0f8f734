//! Hashes several lanes at a time, in two groups of lanes.

/// Makes `hash` for a wide arithmetic of the `field` crate.
macro_rules! lanes {
    ($module:ident, $wide:ident, $permute:path, $proof:ty, #[$attribute:meta]) => {
        use field::canonical::words;
        use field::$module::{Constant, WordLanes, LANES};

        use crate::preimages::{Node, Preimages};
        use crate::schedule::Schedule;

        /// Groups of lanes that are permuted at the same time.
        const GROUPS: usize = 2;

        /// Writes a hash for each of `digests`; every node is a field element.
        pub fn hash<const WIDTH: usize>(
            _proof: $proof,
            schedule: &Schedule<Constant>,
            preimages: Preimages<'_>,
            digests: &mut [Node],
        ) {
            // SAFETY: the proof is only made on a CPU that has the instructions.
            unsafe { hash_wide::<WIDTH>(schedule, preimages, digests) }
        }

        #[$attribute]
        fn hash_wide<const WIDTH: usize>(
            schedule: &Schedule<Constant>,
            preimages: Preimages<'_>,
            digests: &mut [Node],
        ) {
            let tag = schedule.tag.splat();
            for (batch, digests) in digests.chunks_mut(GROUPS * LANES).enumerate() {
                let first = batch * GROUPS * LANES;
                let mut state = [[tag; WIDTH]; GROUPS];
                for (group, elements) in state.iter_mut().enumerate() {
                    for (i, element) in elements[1..].iter_mut().enumerate() {
                        let mut lanes: WordLanes = [[0; LANES]; 4];
                        for lane in 0..LANES {
                            // Lanes beyond the last preimage hash it again, and are left.
                            let n = first + (group * LANES + lane).min(digests.len() - 1);
                            let words = words(preimages.element(WIDTH - 1, n, i));
                            for (row, word) in lanes.iter_mut().zip(words) {
                                row[lane] = word;
                            }
                        }
                        *element = field::$module::$wide::from_numbers(&lanes);
                    }
                }
                let hashes = $permute(schedule, &mut state);
                for (hashes, digests) in hashes.iter().zip(digests.chunks_mut(LANES)) {
                    let lanes = hashes.to_numbers();
                    for (lane, digest) in digests.iter_mut().enumerate() {
                        for (bytes, row) in digest.chunks_exact_mut(8).zip(&lanes) {
                            bytes.copy_from_slice(&row[lane].to_le_bytes());
                        }
                    }
                }
            }
        }
    };
}

/// Sixteen hashes at a time, by AVX-512 IFMA.
pub mod eight {
    lanes!(
        fr8,
        Fr8,
        crate::permutation::eight::permute,
        field::cpu::Ifma,
        #[target_feature(enable = "avx512f,avx512ifma")]
    );
}

/// Eight hashes at a time, by AVX2.
pub mod four {
    lanes!(
        fr4,
        Fr4,
        crate::permutation::four::permute,
        field::cpu::Avx2,
        #[target_feature(enable = "avx2")]
    );
}
