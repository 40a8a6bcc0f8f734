//! Labels with AVX-512: sixteen lanes in lockstep, each in its own element of every vector.
//!
//! A step takes as long for one lane as for sixteen, so this pays only with many sectors on a core, and
//! only where memory follows: sixteen lanes read 128 random labels of the layers before in each step.

// Loops over indexes are what keeps arrays in registers.
#![allow(clippy::needless_range_loop)]

mod compress;

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ptr;

use super::lane::{DISTINCT_BLOCKS, REPEATS, TOTAL_PARENTS};
use super::sha256::{PADDING, PAIR_END};
use super::{portable, Kernel, Lane};
use crate::graph::{BASE_DEGREE, DEGREE, NODE_SIZE};
use compress::{fresh, initial, kept, load, once, store_labels, Blocks, Schedule};

/// Elements of a vector.
const LANES: usize = 16;

/// How many nodes ahead of the lanes their parents' labels are fetched into the cache: a step of all
/// lanes takes microseconds, and more would not fit the first-level cache beside the schedules.
const FETCH_AHEAD: u32 = 2;

/// Rounds of a compression.
const ROUNDS: usize = 64;

/// SHA-256 with AVX-512 F and BW.
pub struct Avx512(());

impl Avx512 {
    /// The kernel, if this machine has the instructions.
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        found.then_some(Avx512(()))
    }

    /// Writes the parents of whole groups of sixteen pairs of `row`, and returns the bytes of them.
    /// `parents` has half the length of `row`.
    pub fn parents(&self, row: &[u8], parents: &mut [u8]) -> usize {
        let bytes = parents.len() / (LANES * NODE_SIZE) * LANES * NODE_SIZE;
        // SAFETY: `detect` found the instructions, or there would be no Avx512.
        unsafe { hash_pairs(&row[..2 * bytes], &mut parents[..bytes]) };
        bytes
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &str {
        "AVX-512"
    }

    fn max_lanes(&self) -> usize {
        LANES
    }

    fn groups(&self) -> Vec<usize> {
        vec![LANES]
    }

    unsafe fn label(&self, lanes: &mut [&mut Lane], mut count: u32) {
        if count > 0 && lanes.iter().any(|lane| lane.node() == 0) {
            // Node 0 has no parents: its message is the first block only.
            for lane in lanes.iter_mut() {
                // SAFETY: the caller checked this node.
                unsafe { portable::label(lane) };
            }
            count -= 1;
        }
        let in_layer_1 = lanes.iter().filter(|lane| !lane.has_previous()).count();
        // SAFETY: `detect` found the instructions, or there would be no Avx512; the caller checked the
        // parents, and no lane is at node 0 any more.
        unsafe {
            if lanes.is_empty() {
            } else if in_layer_1 == 0 {
                label::<false>(lanes, count);
            } else {
                label::<true>(lanes, count);
            }
        }
    }
}

/// The schedules of the distinct middle blocks, and one more place for blocks that are hashed once.
#[repr(C, align(64))]
struct Schedules([[__m512i; ROUNDS]; DISTINCT_BLOCKS + 1]);

/// Labels the next `count` nodes of each lane, of which there are 1 to 16. `MIXED`: some are in layer 1,
/// whose repeated blocks come in another order.
///
/// # Safety
///
/// The machine has the instructions, the parents of those nodes are checked, and none is node 0.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn label<const MIXED: bool>(lanes: &mut [&mut Lane], count: u32) {
    let mut schedules = MaybeUninit::<Schedules>::uninit();
    let schedules: Schedule = schedules.as_mut_ptr().cast();
    let scratch = schedules.wrapping_add(ROUNDS * DISTINCT_BLOCKS);
    // Elements without a lane hash what the first one does, and store nothing.
    let active = lanes.len();
    let lane_of = |element: usize| if element < active { element } else { 0 };

    let mut blocks: Blocks = [[ptr::null(); 2]; LANES];
    let mut layers = [0_i32; LANES];
    let mut nodes = [0_i32; LANES];
    let mut in_layer_1: __mmask16 = 0;
    // Of each element's lane: its labels, those before, and the parents of its node.
    let mut labels: [*const u8; LANES] = [ptr::null(); LANES];
    let mut previous = labels;
    let mut rows: [*const u32; LANES] = [ptr::null(); LANES];
    for element in 0..LANES {
        let lane = &lanes[lane_of(element)];
        blocks[element] = [lane.replica_id(), PADDING.as_ptr()];
        layers[element] = lane.layer() as i32;
        nodes[element] = lane.node() as i32;
        in_layer_1 |= u16::from(!lane.has_previous()) << element;
        labels[element] = lane.label(0);
        previous[element] = lane.previous(0);
        rows[element] = lane.row(lane.node()).as_ptr();
    }
    // SAFETY: blocks are replica ids inside lanes, constants, or labels that `Lane::new`'s contract and
    // the check make readable; rows are those of the nodes to be labelled; schedules are 64 aligned
    // vectors each, written before they are read.
    unsafe {
        // Replica id, layer, node with 64 bits, zeros.
        let mut prefix = load(&blocks);
        prefix[8..].fill(_mm512_setzero_si512());
        prefix[8] = _mm512_loadu_si512(layers.as_ptr().cast());
        prefix[10] = _mm512_loadu_si512(nodes.as_ptr().cast());
        for _ in 0..count {
            let mut rows_ahead: [*const u32; LANES] = [ptr::null(); LANES];
            for element in 0..LANES {
                let lane = &lanes[lane_of(element)];
                rows_ahead[element] = lane.row(lane.node() + FETCH_AHEAD).as_ptr();
            }
            let mut ahead = labels;
            let mut state = initial();
            fresh(&mut state, prefix, scratch, &ahead);
            prefix[10] = _mm512_add_epi32(prefix[10], _mm512_set1_epi32(1));
            for block in 0..DISTINCT_BLOCKS {
                for element in 0..LANES {
                    let from = if block < BASE_DEGREE {
                        labels[element]
                    } else {
                        previous[element]
                    };
                    ahead[element] =
                        from.wrapping_add(*rows_ahead[element].add(block) as usize * NODE_SIZE);
                }
                let of_node = if 2 * block < BASE_DEGREE {
                    &labels
                } else {
                    &previous
                };
                for element in 0..LANES {
                    let mut from = of_node[element];
                    let mut first = 2 * block;
                    if MIXED && in_layer_1 >> element & 1 == 1 {
                        from = labels[element];
                        first %= BASE_DEGREE;
                    }
                    let row = rows[element].add(first);
                    blocks[element] = [
                        from.add(*row as usize * NODE_SIZE),
                        from.add(*row.add(1) as usize * NODE_SIZE),
                    ];
                }
                fresh(
                    &mut state,
                    load(&blocks),
                    schedules.add(ROUNDS * block),
                    &ahead,
                );
            }
            for block in DISTINCT_BLOCKS..DISTINCT_BLOCKS + REPEATS {
                if block < DEGREE {
                    for element in 0..LANES {
                        ahead[element] = previous[element]
                            .wrapping_add(*rows_ahead[element].add(block) as usize * NODE_SIZE);
                    }
                }
                let repeated = schedules.add(ROUNDS * (block % DISTINCT_BLOCKS));
                let in_layer_1_repeated = schedules.add(ROUNDS * (block % (BASE_DEGREE / 2)));
                kept::<MIXED>(
                    &mut state,
                    repeated,
                    in_layer_1,
                    in_layer_1_repeated,
                    Some(&ahead),
                );
            }
            for element in 0..LANES {
                let degree = if MIXED && in_layer_1 >> element & 1 == 1 {
                    BASE_DEGREE
                } else {
                    DEGREE
                };
                let parent = *rows[element].add((TOTAL_PARENTS - 1) % degree);
                let from = if (TOTAL_PARENTS - 1) % degree < BASE_DEGREE {
                    labels[element]
                } else {
                    previous[element]
                };
                blocks[element] = [from.add(parent as usize * NODE_SIZE), PADDING.as_ptr()];
                rows[element] = rows[element].wrapping_add(DEGREE);
            }
            fresh(&mut state, load(&blocks), scratch, &ahead);

            let mut to = [ptr::null_mut(); LANES];
            for lane in 0..active {
                to[lane] = lanes[lane].label(lanes[lane].node());
                lanes[lane].step();
            }
            store_labels(&state, &to[..active]);
        }
    }
}

/// Hashes the pairs of nodes of `row` into `parents`: whole groups of sixteen.
///
/// # Safety
///
/// The machine has the instructions.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn hash_pairs(row: &[u8], parents: &mut [u8]) {
    let mut end = MaybeUninit::<[__m512i; ROUNDS]>::uninit();
    let end: Schedule = end.as_mut_ptr().cast();
    // SAFETY: the end is a schedule, written before it is read; every pair and parent is inside its slice.
    unsafe {
        for round in 0..ROUNDS {
            _mm512_store_si512(end.add(round), _mm512_set1_epi32(PAIR_END.0[round] as i32));
        }
        let groups = row.chunks_exact(2 * LANES * NODE_SIZE);
        for (pairs, group) in groups.zip(parents.chunks_exact_mut(LANES * NODE_SIZE)) {
            let mut blocks: Blocks = [[ptr::null(); 2]; LANES];
            let mut to = [ptr::null_mut(); LANES];
            for element in 0..LANES {
                let pair = pairs.as_ptr().add(2 * element * NODE_SIZE);
                blocks[element] = [pair, pair.add(NODE_SIZE)];
                to[element] = group.as_mut_ptr().add(element * NODE_SIZE);
            }
            // Rows are read in order: the machine fetches them by itself.
            let mut state = initial();
            once(&mut state, load(&blocks));
            kept::<false>(&mut state, end, 0, end, None);
            store_labels(&state, &to);
        }
    }
}
