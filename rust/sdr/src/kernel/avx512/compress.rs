//! SHA-256 compressions of sixteen independent states in lockstep: element l of every vector belongs
//! to lane l.
//!
//! Every function here must be inlined into one that has the instructions enabled (so they are
//! `inline(always)` and unsafe). Closures are not, and arrays filled with them stay in memory: hence
//! macros and plain loops.

use std::arch::x86_64::*;
use std::ptr;

use super::LANES;
use crate::kernel::sha256::{INITIAL, K};

/// The eight words of sixteen hash states.
pub type State = [__m512i; 8];

/// The sixteen message words of sixteen blocks.
pub type Words = [__m512i; 16];

/// Room for the message schedule plus round constants of sixteen blocks.
pub type Schedule = *mut __m512i;

/// The two 32-byte halves of each lane's block.
pub type Blocks = [[*const u8; 2]; LANES];

/// For each lane a label that is fetched into the cache meanwhile, spread over the rounds: all at once they
/// would fill the queue of loads and stall the hashing.
pub type Ahead = [*const u8; LANES];

/// The initial hash state of every lane.
#[inline(always)]
pub unsafe fn initial() -> State {
    // SAFETY: inlined where the instructions are enabled.
    unsafe {
        let mut state = [_mm512_setzero_si512(); 8];
        for word in 0..8 {
            state[word] = _mm512_set1_epi32(INITIAL[word] as i32);
        }
        state
    }
}

/// Reverses the bytes of every 32-bit word: the words of a message and of a label are big-endian.
#[inline(always)]
unsafe fn swap(words: __m512i) -> __m512i {
    // SAFETY: inlined where the instructions are enabled.
    unsafe {
        let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order))
    }
}

/// The words of every lane's block: a transposition of sixteen rows of sixteen words.
///
/// # Safety
///
/// Each half of a block is 32 readable bytes.
#[inline(always)]
pub unsafe fn load(blocks: &Blocks) -> Words {
    // SAFETY: the caller's contract; inlined where the instructions are enabled.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for lane in 0..LANES {
            let first = _mm512_castsi256_si512(_mm256_loadu_si256(blocks[lane][0].cast()));
            let second = _mm256_loadu_si256(blocks[lane][1].cast());
            rows[lane] = swap(_mm512_inserti64x4::<1>(first, second));
        }
        // Pairs of rows, then groups of four: their words j, one group after the other, by quarters.
        let mut fours = rows;
        for group in 0..4 {
            let first = 4 * group;
            let (a, b) = (rows[first], rows[first + 1]);
            let (c, d) = (rows[first + 2], rows[first + 3]);
            let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (others_low, others_high) =
                (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            fours[first] = _mm512_unpacklo_epi64(low, others_low);
            fours[first + 1] = _mm512_unpackhi_epi64(low, others_low);
            fours[first + 2] = _mm512_unpacklo_epi64(high, others_high);
            fours[first + 3] = _mm512_unpackhi_epi64(high, others_high);
        }
        // Quarter q of the groups' vectors j holds word 4q + j of their rows.
        let mut words = fours;
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let even = _mm512_shuffle_i32x4::<0x88>(a, b);
            let odd = _mm512_shuffle_i32x4::<0xdd>(a, b);
            let others_even = _mm512_shuffle_i32x4::<0x88>(c, d);
            let others_odd = _mm512_shuffle_i32x4::<0xdd>(c, d);
            words[j] = _mm512_shuffle_i32x4::<0x88>(even, others_even);
            words[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd, others_odd);
            words[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even, others_even);
            words[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd, others_odd);
        }
        words
    }
}

/// Stores every lane's state as a label: words big-endian, the two highest bits of the last byte
/// cleared.
///
/// # Safety
///
/// Each of `labels` is 32 writable bytes.
#[inline(always)]
pub unsafe fn store_labels(state: &State, labels: &[*mut u8]) {
    // SAFETY: the caller's contract; inlined where the instructions are enabled.
    unsafe {
        let field = _mm512_set1_epi32(0x3fff_ffff);
        let mut words = [_mm512_setzero_si512(); 8];
        for word in 0..8 {
            words[word] = swap(state[word]);
        }
        words[7] = _mm512_and_si512(words[7], field);
        for half in 0..2 {
            let (a, b) = (words[4 * half], words[4 * half + 1]);
            let (c, d) = (words[4 * half + 2], words[4 * half + 3]);
            let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (others_low, others_high) =
                (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let rows = [
                _mm512_unpacklo_epi64(low, others_low),
                _mm512_unpackhi_epi64(low, others_low),
                _mm512_unpacklo_epi64(high, others_high),
                _mm512_unpackhi_epi64(high, others_high),
            ];
            // Quarter q of row r holds four words of lane 4q + r.
            for (lane, label) in labels.iter().enumerate() {
                let row = rows[lane % 4];
                let quarter = match lane / 4 {
                    0 => _mm512_extracti32x4_epi32::<0>(row),
                    1 => _mm512_extracti32x4_epi32::<1>(row),
                    2 => _mm512_extracti32x4_epi32::<2>(row),
                    _ => _mm512_extracti32x4_epi32::<3>(row),
                };
                _mm_storeu_si128(label.add(16 * half).cast(), quarter);
            }
        }
    }
}

/// x ^ y ^ z.
macro_rules! xor {
    ($x:expr, $y:expr, $z:expr) => {
        _mm512_ternarylogic_epi32::<0x96>($x, $y, $z)
    };
}

/// Eight rounds, after which the words of the state are where they were. `$word!(r)` is message word plus
/// constant of the round with number r among them.
macro_rules! eight_rounds {
    ($state:ident, $word:ident) => {
        eight_rounds!($state, $word;
            0 1 2 3 4 5 6 7: 0, 7 0 1 2 3 4 5 6: 1, 6 7 0 1 2 3 4 5: 2, 5 6 7 0 1 2 3 4: 3,
            4 5 6 7 0 1 2 3: 4, 3 4 5 6 7 0 1 2: 5, 2 3 4 5 6 7 0 1: 6, 1 2 3 4 5 6 7 0: 7)
    };
    ($state:ident, $word:ident; $($a:literal $b:literal $c:literal $d:literal $e:literal $f:literal
        $g:literal $h:literal: $round:literal),*) => {$(
        let (a, e) = ($state[$a], $state[$e]);
        let choice = _mm512_ternarylogic_epi32::<0xca>(e, $state[$f], $state[$g]);
        let sum = xor!(_mm512_ror_epi32::<6>(e), _mm512_ror_epi32::<11>(e), _mm512_ror_epi32::<25>(e));
        let first = _mm512_add_epi32(
            _mm512_add_epi32($state[$h], $word!($round)),
            _mm512_add_epi32(choice, sum),
        );
        let majority = _mm512_ternarylogic_epi32::<0xe8>(a, $state[$b], $state[$c]);
        let sum = xor!(_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
        $state[$d] = _mm512_add_epi32($state[$d], first);
        $state[$h] = _mm512_add_epi32(first, _mm512_add_epi32(majority, sum));
    )*};
}

/// Message word plus constant of a round, which with `KEEP` is stored.
macro_rules! scheduled {
    ($words:ident, $constants:ident, $to:ident, $round:expr) => {{
        let constant = _mm512_set1_epi32(*$constants.add($round) as i32);
        let sum = _mm512_add_epi32($words[$round], constant);
        if KEEP {
            _mm512_store_si512($to.add($round), sum);
        }
        sum
    }};
}

/// Compresses one block into each state, and leaves its schedule in `to`.
///
/// # Safety
///
/// See [`Schedule`] for `to`: 64 vectors.
#[inline(always)]
pub unsafe fn fresh(state: &mut State, words: Words, to: Schedule, ahead: &Ahead) {
    // SAFETY: the caller's contract.
    unsafe { compress::<true>(state, words, to, Some(ahead)) }
}

/// Compresses one block into each state, keeps no schedule and fetches nothing.
///
/// # Safety
///
/// None but that it is inlined where the instructions are enabled.
#[inline(always)]
pub unsafe fn once(state: &mut State, words: Words) {
    // SAFETY: nothing is written.
    unsafe { compress::<false>(state, words, ptr::null_mut(), None) }
}

/// [`fresh`], or without `KEEP` [`once`].
#[inline(always)]
unsafe fn compress<const KEEP: bool>(
    state: &mut State,
    mut words: Words,
    to: Schedule,
    ahead: Option<&Ahead>,
) {
    let before = *state;
    // SAFETY: the caller's contract; inlined where the instructions are enabled.
    unsafe {
        for sixteen in 0..4 {
            if let Some(ahead) = ahead {
                for lane in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(ahead[4 * sixteen + lane].cast());
                }
            }
            if sixteen > 0 {
                expand(&mut words);
            }
            let constants = K.as_ptr().add(16 * sixteen);
            let to = to.wrapping_add(16 * sixteen);
            macro_rules! first_half {
                ($round:literal) => {
                    scheduled!(words, constants, to, $round)
                };
            }
            macro_rules! second_half {
                ($round:literal) => {
                    scheduled!(words, constants, to, $round + 8)
                };
            }
            eight_rounds!(state, first_half);
            eight_rounds!(state, second_half);
        }
    }
    add(state, before);
}

/// The next sixteen words of the message schedule.
#[inline(always)]
unsafe fn expand(words: &mut Words) {
    // SAFETY: inlined where the instructions are enabled.
    unsafe {
        for at in 0..16 {
            let early = words[(at + 1) % 16];
            let late = words[(at + 14) % 16];
            let early = xor!(
                _mm512_ror_epi32::<7>(early),
                _mm512_ror_epi32::<18>(early),
                _mm512_srli_epi32::<3>(early)
            );
            let late = xor!(
                _mm512_ror_epi32::<17>(late),
                _mm512_ror_epi32::<19>(late),
                _mm512_srli_epi32::<10>(late)
            );
            let sum = _mm512_add_epi32(words[at], words[(at + 9) % 16]);
            words[at] = _mm512_add_epi32(sum, _mm512_add_epi32(early, late));
        }
    }
}

/// Compresses into each state one block whose schedule [`fresh`] has left in `from`, for the lanes in
/// `others` in `others_from`. Meanwhile fetches what is `ahead`, if anything.
///
/// # Safety
///
/// See [`Schedule`] for both: 64 vectors.
#[inline(always)]
pub unsafe fn kept<const MIXED: bool>(
    state: &mut State,
    from: Schedule,
    others: __mmask16,
    others_from: Schedule,
    ahead: Option<&Ahead>,
) {
    let before = *state;
    // SAFETY: the caller's contract; inlined where the instructions are enabled.
    unsafe {
        for eight in 0..8 {
            if let Some(ahead) = ahead {
                for lane in 0..2 {
                    _mm_prefetch::<_MM_HINT_T0>(ahead[2 * eight + lane].cast());
                }
            }
            let from = from.add(8 * eight);
            let others_from = others_from.add(8 * eight);
            macro_rules! word {
                ($round:literal) => {{
                    let word = _mm512_load_si512(from.add($round));
                    if MIXED {
                        let address = others_from.add($round).cast();
                        _mm512_mask_load_epi32(word, others, address)
                    } else {
                        word
                    }
                }};
            }
            eight_rounds!(state, word);
        }
    }
    add(state, before);
}

/// Adds the state before a block to that after its rounds.
#[inline(always)]
fn add(state: &mut State, before: State) {
    for word in 0..8 {
        // SAFETY: inlined where the instructions are enabled.
        state[word] = unsafe { _mm512_add_epi32(state[word], before[word]) };
    }
}
