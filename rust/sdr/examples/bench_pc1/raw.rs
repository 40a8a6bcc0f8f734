//! The raw limit: SHA-256 compressions of independent streams, everything in registers and L1.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::Duration;

use crate::clock::{Measured, Stopwatch};

/// Shortest time of one measurement.
const ENOUGH: Duration = Duration::from_millis(200);
const STEP: u64 = 20_000;

/// The speed at which `N` interleaved streams would compute labels of 20 compressions each, whose message
/// schedule is computed as well or, with `GIVEN`, was before; none without the SHA instructions.
pub fn limit<const N: usize, const GIVEN: bool>() -> Option<Measured> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") {
        let with_avx = is_x86_feature_detected!("avx");
        let mut done = 0;
        let watch = Stopwatch::start();
        while watch.elapsed() < ENOUGH {
            // SAFETY: the instructions were found.
            black_box(unsafe {
                if with_avx {
                    run_with_avx::<N, GIVEN>(STEP)
                } else {
                    run_without_avx::<N, GIVEN>(STEP)
                }
            });
            done += N as u64 * STEP;
        }
        return Some(watch.finish(done as f64 / 20.0));
    }
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sha,avx")]
unsafe fn run_with_avx<const N: usize, const GIVEN: bool>(count: u64) -> [__m128i; N] {
    // SAFETY: the caller's contract; these instructions include those needed.
    unsafe { run::<N, GIVEN>(count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sha,ssse3,sse4.1")]
unsafe fn run_without_avx<const N: usize, const GIVEN: bool>(count: u64) -> [__m128i; N] {
    // SAFETY: the caller's contract; these instructions include those needed.
    unsafe { run::<N, GIVEN>(count) }
}

/// `count` compressions of each stream: schedule and rounds, with the constants from memory, or with
/// `GIVEN` rounds with what is there.
///
/// # Safety
///
/// Inlined where SHA, SSSE3 and SSE4.1 are enabled.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn run<const N: usize, const GIVEN: bool>(count: u64) -> [__m128i; N] {
    // SAFETY: every load is of a whole element of the two arrays; inlined where the instructions are
    // enabled.
    unsafe {
        let constants: [[u32; 4]; 16] =
            black_box([[0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5]; 16]);
        let block: [[u32; 4]; 4] = black_box([[1, 2, 3, 4]; 4]);
        let mut low = [_mm_set1_epi32(1); N];
        let mut high = [_mm_set1_epi32(2); N];
        for _ in 0..count {
            let before = (low, high);
            let mut messages = [[low[0]; 4]; N];
            for message in &mut messages {
                for (word, words) in message.iter_mut().zip(&block) {
                    *word = _mm_loadu_si128(words.as_ptr().cast());
                }
            }
            macro_rules! group {
                ($($group:literal)*) => {$(
                    let constant = _mm_loadu_si128(constants[$group].as_ptr().cast());
                    for stream in 0..N {
                        let message = &mut messages[stream];
                        if $group > 3 && !GIVEN {
                            let last = message[($group + 3) % 4];
                            let sum = _mm_add_epi32(
                                _mm_sha256msg1_epu32(message[$group % 4], message[($group + 1) % 4]),
                                _mm_alignr_epi8(last, message[($group + 2) % 4], 4),
                            );
                            message[$group % 4] = _mm_sha256msg2_epu32(sum, last);
                        }
                        let sum = if GIVEN {
                            constant
                        } else {
                            _mm_add_epi32(message[$group % 4], constant)
                        };
                        high[stream] = _mm_sha256rnds2_epu32(high[stream], low[stream], sum);
                        low[stream] = _mm_sha256rnds2_epu32(low[stream], high[stream], _mm_shuffle_epi32(sum, 0x0e));
                    }
                )*};
            }
            group!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            for stream in 0..N {
                low[stream] = _mm_add_epi32(low[stream], before.0[stream]);
                high[stream] = _mm_add_epi32(high[stream], before.1[stream]);
            }
        }
        low
    }
}
