//! SHA-256 compressions of several independent states, interleaved.
//!
//! Every function here must be inlined into one that has the instructions enabled (so they are
//! `inline(always)` and unsafe): a call per block would send the states through memory.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ptr;

use crate::kernel::sha256::{INITIAL, K};

/// A hash state in the order of the SHA instructions: words F, E, B, A and words H, G, D, C, lowest
/// first.
pub type State = [__m128i; 2];

/// The two 32-byte halves of a block.
pub type Block = [*const u8; 2];

/// Room for the message schedule plus round constants of a block: 16 aligned vectors.
pub type Schedule = *mut __m128i;

/// Expands to `$body!(0) … $body!(15)`: sixteen groups of four rounds are a compression, and their
/// numbers must be known when compiling, for the message's words to stay in registers.
macro_rules! for_each_group {
    ($body:ident) => {
        for_each_group!($body: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($body:ident: $($group:literal)*) => {
        $($body!($group);)*
    };
}

/// The initial hash state.
#[inline(always)]
pub unsafe fn initial() -> State {
    // SAFETY: inlined where the instructions are enabled.
    unsafe {
        let [a, b, c, d, e, f, g, h] = INITIAL.map(|word| word as i32);
        [_mm_setr_epi32(f, e, b, a), _mm_setr_epi32(h, g, d, c)]
    }
}

/// Four of the 16 words of a block, which are big-endian in memory.
#[inline(always)]
unsafe fn quarter(block: Block, number: usize) -> __m128i {
    // SAFETY: both halves are 32 readable bytes, by the contract of the functions below.
    unsafe {
        let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let from = block[number / 2].add(16 * (number % 2));
        _mm_shuffle_epi8(_mm_loadu_si128(from.cast()), order)
    }
}

/// The last 16 words of a message schedule. There are no registers for those of several lanes, so they are in
/// memory; only the last four, which the next four wait for, are in a register too.
#[derive(Clone, Copy)]
struct Ring {
    words: [__m128i; 4],
    last: __m128i,
}

impl Ring {
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: an instruction that every x86-64 machine has.
        let zero = unsafe { _mm_setzero_si128() };
        Ring {
            words: [zero; 4],
            last: zero,
        }
    }

    /// The words of a group before. The read is volatile, or else the compiler would keep them all in registers,
    /// and move the states out of them.
    #[inline(always)]
    fn get(&self, group: usize) -> __m128i {
        // SAFETY: a reference is readable.
        unsafe { (&raw const self.words[group % 4]).read_volatile() }
    }

    #[inline(always)]
    fn put(&mut self, group: usize, words: __m128i) {
        self.words[group % 4] = words;
        self.last = words;
    }
}

/// Has the compiler compute a state here, in registers: otherwise it puts off rounds whose result is needed
/// late, and then they are computed one after the other instead of in between others.
#[inline(always)]
fn pin(state: &mut State) {
    let [first, second] = state;
    // SAFETY: a comment; registers that every x86-64 machine has keep what they hold.
    unsafe {
        asm!(
            "/* {0} {1} */",
            inout(xmm_reg) * first,
            inout(xmm_reg) * second,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// [`pin`] for every lane.
#[inline(always)]
fn pin_all<const N: usize>(states: &mut [State; N]) {
    for state in states {
        pin(state);
    }
}

/// Four rounds of a block whose schedule is being expanded, and with `KEEP` left in `to`. `ring` has the words
/// of the groups before.
#[inline(always)]
unsafe fn fresh_group<const KEEP: bool>(
    state: &mut State,
    ring: &mut Ring,
    block: Block,
    group: usize,
    to: Schedule,
) {
    // SAFETY: the block is readable and, with `KEEP`, `to` has room for 16 vectors; the rest is inlined where the
    // instructions are enabled.
    unsafe {
        let words = if group < 4 {
            quarter(block, group)
        } else {
            let before = _mm_alignr_epi8(ring.last, ring.get(group + 2), 4);
            let oldest = _mm_sha256msg1_epu32(ring.get(group), ring.get(group + 1));
            _mm_sha256msg2_epu32(_mm_add_epi32(oldest, before), ring.last)
        };
        ring.put(group, words);
        let constants = _mm_loadu_si128(K[4 * group..].as_ptr().cast());
        let sum = _mm_add_epi32(words, constants);
        if KEEP {
            _mm_store_si128(to.add(group), sum);
        }
        rounds(state, sum, _mm_shuffle_epi32(sum, 0x0e));
    }
}

/// Four rounds of a block whose schedule is kept.
#[inline(always)]
unsafe fn kept_group(state: &mut State, group: usize, from: Schedule) {
    // SAFETY: `from` holds 16 vectors; the rest is inlined where the instructions are enabled.
    unsafe {
        let sum = from.add(group);
        // The upper half is loaded a second time: shuffling it down would take a port from the SHA
        // instructions.
        let upper = _mm_loadl_epi64(sum.cast::<u64>().add(1).cast());
        rounds(state, _mm_load_si128(sum), upper);
    }
}

/// Four rounds, given message words plus round constants: two in the low half of each argument.
#[inline(always)]
unsafe fn rounds(state: &mut State, first: __m128i, second: __m128i) {
    // SAFETY: inlined where the instructions are enabled.
    unsafe {
        state[1] = _mm_sha256rnds2_epu32(state[1], state[0], first);
        state[0] = _mm_sha256rnds2_epu32(state[0], state[1], second);
    }
}

/// Adds the states before a block to those after its rounds.
#[inline(always)]
unsafe fn add<const N: usize>(states: &mut [State; N], before: [State; N]) {
    for lane in 0..N {
        // SAFETY: inlined where the instructions are enabled.
        unsafe {
            states[lane][0] = _mm_add_epi32(states[lane][0], before[lane][0]);
            states[lane][1] = _mm_add_epi32(states[lane][1], before[lane][1]);
        }
    }
}

/// Compresses one block into each state, and leaves its schedule in `to`.
///
/// # Safety
///
/// Each half of a block is 32 readable bytes; see [`Schedule`] for `to`.
#[inline(always)]
pub unsafe fn fresh<const N: usize>(
    states: &mut [State; N],
    blocks: [Block; N],
    to: [Schedule; N],
) {
    // SAFETY: the caller's contract.
    unsafe { expand::<N, true>(states, blocks, to) }
}

/// Compresses one block into each state, and keeps no schedule.
///
/// # Safety
///
/// Each half of a block is 32 readable bytes.
#[inline(always)]
pub unsafe fn once<const N: usize>(states: &mut [State; N], blocks: [Block; N]) {
    // SAFETY: the caller's contract; nothing is written.
    unsafe { expand::<N, false>(states, blocks, [ptr::null_mut(); N]) }
}

/// [`fresh`], or without `KEEP` [`once`].
#[inline(always)]
unsafe fn expand<const N: usize, const KEEP: bool>(
    states: &mut [State; N],
    blocks: [Block; N],
    to: [Schedule; N],
) {
    let before = *states;
    // SAFETY: the caller's contract.
    unsafe {
        let mut rings = [Ring::new(); N];
        macro_rules! group {
            ($group:literal) => {
                for lane in 0..N {
                    let (ring, block) = (&mut rings[lane], blocks[lane]);
                    fresh_group::<KEEP>(&mut states[lane], ring, block, $group, to[lane]);
                    pin(&mut states[lane]);
                }
            };
        }
        for_each_group!(group);
        add(states, before);
    }
}

/// Compresses into each state one block whose schedule [`fresh`] has left in `from`.
///
/// # Safety
///
/// See [`Schedule`] for `from`.
#[inline(always)]
pub unsafe fn kept<const N: usize>(states: &mut [State; N], from: [Schedule; N]) {
    let before = *states;
    // SAFETY: the caller's contract.
    unsafe {
        macro_rules! group {
            ($group:literal) => {
                for lane in 0..N {
                    kept_group(&mut states[lane], $group, from[lane]);
                    pin(&mut states[lane]);
                }
            };
        }
        for_each_group!(group);
        add(states, before);
    }
}

/// Does [`kept`] with `states` and [`once`] with `others`: interleaved for one lane, which leaves the
/// instructions idle most of the time, else one after the other, where registers would not suffice.
///
/// # Safety
///
/// As for both.
#[inline(always)]
pub unsafe fn kept_and_once<const N: usize>(
    states: &mut [State; N],
    from: [Schedule; N],
    others: &mut [State; N],
    blocks: [Block; N],
) {
    // SAFETY: the caller's contract.
    unsafe {
        if N > 1 {
            kept(states, from);
            pin_all(states);
            once(others, blocks);
            pin_all(others);
            return;
        }
        let before = *states;
        let others_before = *others;
        let mut rings = [Ring::new(); N];
        macro_rules! group {
            ($group:literal) => {
                for lane in 0..N {
                    kept_group(&mut states[lane], $group, from[lane]);
                    let (ring, block) = (&mut rings[lane], blocks[lane]);
                    fresh_group::<false>(&mut others[lane], ring, block, $group, ptr::null_mut());
                    pin(&mut states[lane]);
                    pin(&mut others[lane]);
                }
            };
        }
        for_each_group!(group);
        add(states, before);
        add(others, others_before);
    }
}

/// Stores a state as a label: words big-endian, the two highest bits of the last byte cleared.
///
/// # Safety
///
/// `label` is 32 writable bytes.
#[inline(always)]
pub unsafe fn store_label(state: State, label: *mut u8) {
    // SAFETY: the caller's contract.
    unsafe {
        // Lowest words first: B, A, D, C and F, E, H, G. Reversing the bytes of each half orders them.
        let first = _mm_unpackhi_epi64(state[0], state[1]);
        let second = _mm_unpacklo_epi64(state[0], state[1]);
        let order = _mm_set_epi64x(0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607);
        let field = _mm_set_epi64x(0x3fff_ffff_ffff_ffff, -1);
        _mm_storeu_si128(label.cast(), _mm_shuffle_epi8(first, order));
        let second = _mm_and_si128(_mm_shuffle_epi8(second, order), field);
        _mm_storeu_si128(label.add(16).cast(), second);
    }
}
