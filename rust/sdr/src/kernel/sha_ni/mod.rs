//! Labels with the SHA instructions of x86-64: one to four lanes, whose rounds are interleaved so
//! that one lane's fill the latency of another's.

mod compress;

use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0, _MM_HINT_T1};
use std::ptr;

use super::lane::{DISTINCT_BLOCKS, REPEATS, TOTAL_PARENTS};
use super::sha256::{PADDING, PAIR_END};
use super::{portable, Kernel, Lane};
use crate::graph::{BASE_DEGREE, DEGREE, NODE_SIZE};
use compress::{fresh, initial, kept, kept_and_once, once, store_label, Block, Schedule};

/// Nodes of a lane whose parents are looked up in memory together, with so many lanes. Few lanes get further when
/// the look-ups come evenly; the blocks of many leave no time in which a look-up holds up nothing.
const fn together(lanes: usize) -> usize {
    if lanes <= 2 {
        1
    } else {
        2
    }
}

/// Of how many nodes, from a lane's on, it is known where their parents' labels are: its own, the next, and those
/// to be looked up then.
const KNOWN: usize = 4;

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

/// A lane's labels, and those of the layer of its expander parents.
#[derive(Clone, Copy)]
struct Labels {
    here: *const u8,
    above: *const u8,
    /// What to go back by in a row of parents for each time around.
    back: usize,
}

impl Labels {
    #[inline(always)]
    fn of(lane: &Lane) -> Self {
        let here = lane.label(0).cast_const();
        if lane.has_previous() {
            Labels {
                here,
                above: lane.previous(0),
                back: 0,
            }
        } else {
            Labels {
                here,
                above: here,
                back: BASE_DEGREE,
            }
        }
    }

    /// The label of the parent at `place` in `row`.
    #[inline(always)]
    fn parent(&self, row: &[u32; DEGREE], place: usize) -> *const u8 {
        let from = if place < BASE_DEGREE {
            self.here
        } else {
            self.above
        };
        let place = place - self.back * (place / BASE_DEGREE);
        // SAFETY: a place in the row.
        let node = unsafe { *row.get_unchecked(place) };
        from.wrapping_add(node as usize * NODE_SIZE)
    }
}

/// Has a label brought near: into the second cache, of which the first can then be filled quickly.
#[inline(always)]
fn bring_near(label: *const u8) {
    // SAFETY: fetching needs no more than the instruction, which every x86-64 machine has.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(label.cast()) };
}

/// Has a label fetched into the first cache.
#[inline(always)]
fn fetch(label: *const u8) {
    // SAFETY: as above.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(label.cast()) };
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
/// Parents' labels are anywhere in memory, so each is fetched into the cache before it is read, twice. First all of
/// [`together`] nodes at once: a fetch whose address has to be looked up in the page tables holds up everything behind
/// it, so they shall be looked up side by side. Where many are on their way, the machine drops some; so they are
/// fetched again one by one, beside the blocks of the node before, when their addresses are known to the machine. The
/// lanes do the first at different times, because all at once would drop most.
///
/// # Safety
///
/// Inlined where SHA, SSSE3 and SSE4.1 are enabled; the parents of those nodes are checked, and none is
/// node 0.
#[inline(always)]
unsafe fn label<const N: usize>(lanes: [&mut Lane; N], count: u32) {
    // Arrays are filled by plain loops: with closures the optimizer leaves them in memory.
    // SAFETY: blocks are prefixes inside lanes, or labels that `Lane::new`'s contract and the check
    // make readable; schedules are 16 vectors each, aligned because a lane is.
    unsafe {
        let mut schedules: [Schedule; N] = [ptr::null_mut(); N];
        let mut blocks: [Block; N] = [[ptr::null(); 2]; N];
        let mut labels = [Labels::of(lanes[0]); N];
        // By node modulo `KNOWN`.
        let mut parents = [[[ptr::null(); DEGREE]; KNOWN]; N];
        // The last parent's place among them, and where it is.
        let mut last = [(TOTAL_PARENTS - 1) % DEGREE; N];
        let mut ends: [*const u8; N] = [ptr::null(); N];
        for l in 0..N {
            schedules[l] = lanes[l].schedules.as_mut_ptr().cast();
            let node = lanes[l].node();
            blocks[l] = prefix(lanes[l], node);
            labels[l] = Labels::of(lanes[l]);
            if !lanes[l].has_previous() {
                last[l] = (TOTAL_PARENTS - 1) % BASE_DEGREE;
            }
            // Of the last of these nodes they become known beside the first node's blocks.
            for (known, node) in parents[l][..KNOWN - 1].iter_mut().zip(node..) {
                for (place, parent) in known.iter_mut().enumerate() {
                    *parent = labels[l].parent(lanes[l].row(node), place);
                    bring_near(*parent);
                }
            }
        }
        let mut prefixes = [initial(); N];
        once(&mut prefixes, blocks);
        for node in 0..count as usize {
            let (now, next, last_known) =
                (node % KNOWN, (node + 1) % KNOWN, (node + KNOWN - 1) % KNOWN);
            let mut states = prefixes;
            prefixes = [initial(); N];
            let mut places = schedules;
            for block in 0..DISTINCT_BLOCKS {
                for l in 0..N {
                    fetch(parents[l][next][block]);
                    let row = lanes[l].row(lanes[l].node() + KNOWN as u32 - 1);
                    for place in [2 * block, 2 * block + 1] {
                        parents[l][last_known][place] = labels[l].parent(row, place);
                    }
                    let parents = &parents[l][now];
                    blocks[l] = [parents[2 * block], parents[2 * block + 1]];
                    places[l] = schedules[l].add(16 * block);
                }
                fresh(&mut states, blocks, places);
            }
            for l in 0..N {
                ends[l] = parents[l][now][last[l]];
            }
            for repeat in 0..REPEATS - 1 {
                for l in 0..N {
                    if repeat == 2 * l && (node + l).is_multiple_of(together(N)) {
                        for known in KNOWN - together(N)..KNOWN {
                            for parent in parents[l][(node + known) % KNOWN] {
                                bring_near(parent);
                            }
                        }
                    }
                    if DISTINCT_BLOCKS + repeat < DEGREE {
                        fetch(parents[l][next][DISTINCT_BLOCKS + repeat]);
                    }
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
                blocks[l] = [ends[l], PADDING.as_ptr()];
            }
            once(&mut states, blocks);
            for l in 0..N {
                store_label(states[l], lanes[l].label(lanes[l].node()));
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
