//! Labels with the SHA instructions of x86-64: one to four lanes, whose rounds are interleaved so
//! that one lane's fill the latency of another's.

mod compress;

use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
use std::ops::Range;
use std::ptr;

use super::lane::{DISTINCT_BLOCKS, REPEATS, TOTAL_PARENTS};
use super::sha256::{PADDING, PAIR_END};
use super::{portable, Kernel, Lane};
use crate::graph::{BASE_DEGREE, DEGREE, NODE_SIZE};
use compress::{fresh, initial, kept, kept_and_once, once, store_label, Block, Schedule};

/// How many nodes ahead of a lane its parents' labels are fetched into the cache.
const FETCH_AHEAD: u32 = 8;

/// More lanes than this bring nothing on any machine: the instructions start no faster.
const MOST: usize = 4;

/// SHA-256 with the SHA, SSSE3 and SSE4.1 instructions.
pub struct ShaNi {
    /// Whether the machine has AVX too, whose encodings leave their operands as they are: without them a
    /// third of the instructions are copies.
    avx: bool,
}

impl ShaNi {
    /// The kernel, if this machine has the instructions.
    pub fn detect() -> Option<Self> {
        let avx = is_x86_feature_detected!("avx");
        Self::without_avx().map(|_| ShaNi { avx })
    }

    /// The kernel for machines without AVX, if this machine has the instructions.
    pub fn without_avx() -> Option<Self> {
        let found = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        found.then_some(ShaNi { avx: false })
    }

    /// Writes the parents of whole groups of four pairs of `row`, and returns the bytes of them.
    /// `parents` has half the length of `row`.
    pub fn parents(&self, row: &[u8], parents: &mut [u8]) -> usize {
        let bytes = parents.len() / (MOST * NODE_SIZE) * MOST * NODE_SIZE;
        let (row, parents) = (&row[..2 * bytes], &mut parents[..bytes]);
        // SAFETY: the instructions were found when the kernel was made.
        unsafe {
            if self.avx {
                avx::hash_pairs(row, parents);
            } else {
                sse::hash_pairs(row, parents);
            }
        }
        bytes
    }
}

impl Kernel for ShaNi {
    fn name(&self) -> &str {
        "SHA-NI"
    }

    fn max_lanes(&self) -> usize {
        MOST
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
        macro_rules! label {
            ($lanes:expr) => {
                // SAFETY: the instructions were found when the kernel was made; the caller checked the
                // parents, and no lane is at node 0 any more.
                unsafe {
                    if self.avx {
                        avx::label($lanes, count)
                    } else {
                        sse::label($lanes, count)
                    }
                }
            };
        }
        match lanes {
            [] => (),
            [a] => label!([a]),
            [a, b] => label!([a, b]),
            [a, b, c] => label!([a, b, c]),
            [a, b, c, d] => label!([a, b, c, d]),
            _ => unreachable!("more lanes than max_lanes"),
        }
    }
}

/// Which parents of a node to come the lane `lane` of `N` fetches beside the middle block number `block`.
///
/// A fetch whose address has to be looked up in the page tables holds up everything behind it. One lane leaves
/// time for that between two blocks. With more of them the machine has no time left, so that a lane's fetches
/// go together, and their addresses are looked up side by side; those of all lanes at once would fill the
/// queue of loads and stall the hashing.
#[inline(always)]
fn fetched_at<const N: usize>(lane: usize, block: usize) -> Range<usize> {
    if N == 1 {
        block.min(DEGREE)..(block + 1).min(DEGREE)
    } else if block == 2 * lane {
        0..DEGREE
    } else {
        0..0
    }
}

/// Fetches a label to come into the cache.
#[inline(always)]
fn fetch(labels: *const u8, node: u32) {
    let label = labels.wrapping_add(node as usize * NODE_SIZE);
    // SAFETY: fetching needs no more than the instruction, which every x86-64 machine has.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(label.cast()) };
}

/// Where the parent number `index` of a node is in its row, given by how much each time around goes back.
#[inline(always)]
fn at(row: *const u32, index: usize, back: usize) -> *const u32 {
    row.wrapping_add(index)
        .wrapping_sub(back.wrapping_mul(index / BASE_DEGREE))
}

/// The first block of the message of `node`.
#[inline(always)]
fn prefix(lane: &mut Lane, node: u32) -> Block {
    lane.set_prefix(node);
    let prefix = lane.prefix.as_ptr();
    [prefix, prefix.wrapping_add(NODE_SIZE)]
}

/// Labels the next `count` nodes of each lane.
///
/// # Safety
///
/// Inlined where SHA, SSSE3 and SSE4.1 are enabled; the parents of those nodes are checked, and none is
/// node 0.
#[inline(always)]
unsafe fn label<const N: usize>(lanes: [&mut Lane; N], count: u32) {
    // Arrays are filled by plain loops: with closures the optimizer leaves them in memory.
    // SAFETY: blocks are prefixes inside lanes, or labels that `Lane::new`'s contract and the check
    // make readable; rows are those of the nodes to be labelled; schedules are 16 vectors each, aligned
    // because a lane is.
    unsafe {
        let mut schedules: [Schedule; N] = [ptr::null_mut(); N];
        let mut blocks: [Block; N] = [[ptr::null(); 2]; N];
        // Of each lane: its labels, where its expander parents' labels are, the parents of its node, and
        // where its label goes.
        let mut labels: [*const u8; N] = [ptr::null(); N];
        let mut upper = labels;
        let mut rows: [*const u32; N] = [ptr::null(); N];
        let mut to: [*mut u8; N] = [ptr::null_mut(); N];
        // In layer 1 the base parents are repeated in place of expander parents: what to go back by in
        // the row for each time around, and the last parent's place in it.
        let mut back = [0; N];
        let mut last = [(TOTAL_PARENTS - 1) % DEGREE; N];
        for l in 0..N {
            schedules[l] = lanes[l].schedules.as_mut_ptr().cast();
            let node = lanes[l].node();
            blocks[l] = prefix(lanes[l], node);
            labels[l] = lanes[l].label(0);
            upper[l] = lanes[l].previous(0);
            if !lanes[l].has_previous() {
                upper[l] = labels[l];
                back[l] = BASE_DEGREE;
                last[l] = (TOTAL_PARENTS - 1) % BASE_DEGREE;
            }
            rows[l] = lanes[l].row(node).as_ptr();
            to[l] = lanes[l].label(node);
        }
        let mut prefixes = [initial(); N];
        once(&mut prefixes, blocks);
        for _ in 0..count {
            let mut states = prefixes;
            prefixes = [initial(); N];
            let mut ahead: [*const u32; N] = [ptr::null(); N];
            for l in 0..N {
                ahead[l] = lanes[l].row(lanes[l].node() + FETCH_AHEAD).as_ptr();
            }
            macro_rules! fetch_parents {
                ($l:ident, $block:expr) => {
                    for place in fetched_at::<N>($l, $block) {
                        let from = if place < BASE_DEGREE {
                            labels[$l]
                        } else {
                            upper[$l]
                        };
                        fetch(from, *at(ahead[$l], place, back[$l]));
                    }
                };
            }
            let mut places = schedules;
            for block in 0..DISTINCT_BLOCKS {
                for l in 0..N {
                    fetch_parents!(l, block);
                    let upper_block = block >= BASE_DEGREE / 2;
                    let from = if upper_block { upper[l] } else { labels[l] };
                    let row = at(rows[l], 2 * block, back[l]);
                    blocks[l] = [
                        from.add(*row as usize * NODE_SIZE),
                        from.add(*row.add(1) as usize * NODE_SIZE),
                    ];
                    places[l] = schedules[l].add(16 * block);
                }
                fresh(&mut states, blocks, places);
            }
            for repeat in 0..REPEATS - 1 {
                for l in 0..N {
                    fetch_parents!(l, DISTINCT_BLOCKS + repeat);
                    places[l] = schedules[l].add(16 * usize::from(lanes[l].repeats[repeat]));
                }
                kept(&mut states, places);
            }
            // The next node's first block depends on no label: hashed here, beside this node's last
            // repeated block, it costs a single lane no latency.
            for l in 0..N {
                let node = lanes[l].node() + 1;
                blocks[l] = prefix(lanes[l], node);
                places[l] = schedules[l].add(16 * usize::from(lanes[l].repeats[REPEATS - 1]));
            }
            kept_and_once(&mut states, places, &mut prefixes, blocks);
            for l in 0..N {
                let parent = upper[l].add(*rows[l].add(last[l]) as usize * NODE_SIZE);
                blocks[l] = [parent, PADDING.as_ptr()];
                rows[l] = rows[l].wrapping_add(DEGREE);
            }
            once(&mut states, blocks);
            for l in 0..N {
                store_label(states[l], to[l]);
                to[l] = to[l].wrapping_add(NODE_SIZE);
                lanes[l].step();
            }
        }
    }
}

/// Hashes the pairs of nodes of `row` into `parents`: whole groups of four.
///
/// # Safety
///
/// Inlined where SHA, SSSE3 and SSE4.1 are enabled.
#[inline(always)]
unsafe fn hash_pairs(row: &[u8], parents: &mut [u8]) {
    // Only read.
    let end: Schedule = PAIR_END.0.as_ptr().cast_mut().cast();
    let groups = row.chunks_exact(2 * MOST * NODE_SIZE);
    for (pairs, group) in groups.zip(parents.chunks_exact_mut(MOST * NODE_SIZE)) {
        let mut blocks: [Block; MOST] = [[ptr::null(); 2]; MOST];
        // SAFETY: every pair and parent is inside its slice; the end is 16 aligned vectors.
        unsafe {
            for (pair, block) in blocks.iter_mut().enumerate() {
                let first = pairs.as_ptr().add(2 * pair * NODE_SIZE);
                *block = [first, first.add(NODE_SIZE)];
            }
            let mut states = [initial(); MOST];
            once(&mut states, blocks);
            kept(&mut states, [end; MOST]);
            for (pair, state) in states.into_iter().enumerate() {
                store_label(state, group.as_mut_ptr().add(pair * NODE_SIZE));
            }
        }
    }
}

/// The functions above with some instructions enabled.
macro_rules! with_instructions {
    ($name:ident, $features:literal) => {
        mod $name {
            use super::Lane;

            /// # Safety
            ///
            /// The machine has the instructions; otherwise as for the function of the same name above.
            #[target_feature(enable = $features)]
            pub unsafe fn label<const N: usize>(lanes: [&mut Lane; N], count: u32) {
                // SAFETY: the caller's contract; these instructions include those needed.
                unsafe { super::label(lanes, count) }
            }

            /// # Safety
            ///
            /// The machine has the instructions.
            #[target_feature(enable = $features)]
            pub unsafe fn hash_pairs(row: &[u8], parents: &mut [u8]) {
                // SAFETY: the caller's contract; these instructions include those needed.
                unsafe { super::hash_pairs(row, parents) }
            }
        }
    };
}

with_instructions!(sse, "sha,ssse3,sse4.1");
with_instructions!(avx, "sha,avx");
