//! Sums of products of 256-bit numbers, exactly.

use super::multiply_add;
use crate::canonical::Words;

/// Words of such a sum: two numbers, and one for what many products carry.
pub const WORDS: usize = 9;

/// Adds the products of every pair to `sum`.
#[inline]
pub fn add_dot(sum: &mut [u64; WORDS], a: &[Words], b: &[Words]) {
    let terms = a.len().min(b.len());
    #[cfg(target_arch = "x86_64")]
    if terms > 1 && adx::available() {
        return adx::add_dot(sum, &a[..terms], &b[..terms]);
    }
    for (a, b) in a.iter().zip(b) {
        let mut above = 0;
        for i in 0..4 {
            let mut carry = 0;
            for j in 0..4 {
                (sum[i + j], carry) = multiply_add(a[i], b[j], sum[i + j], carry);
            }
            (sum[i + 4], above) = super::add(sum[i + 4], carry, above);
        }
        sum[8] += above;
    }
}

/// With two chains of carries at a time (ADX), which compilers don't make of anything.
#[cfg(target_arch = "x86_64")]
mod adx {
    use std::arch::asm;

    use super::{Words, WORDS};
    use crate::fr::add;

    /// Words that one word of each a times all of b may fill.
    const ROW: usize = 6;

    /// Whether the CPU has ADX and BMI2.
    #[inline]
    pub fn available() -> bool {
        std::is_x86_feature_detected!("adx") && std::is_x86_feature_detected!("bmi2")
    }

    /// Adds the products of every pair; the slices are equally long. One word of all a after the other:
    /// its row of products is so short that it stays in registers.
    #[inline]
    pub fn add_dot(sum: &mut [u64; WORDS], a: &[Words], b: &[Words]) {
        assert!(available() && !a.is_empty() && a.len() == b.len());
        for word in 0..4 {
            // SAFETY: all of it was just asserted.
            let row = unsafe { row(a, b, word) };
            let (low, above) = sum[word..].split_at_mut(ROW);
            let mut carry = 0;
            for (sum, row) in low.iter_mut().zip(row) {
                (*sum, carry) = add(*sum, row, carry);
            }
            // What the sum started with may be all ones there: a carry goes through to the last word.
            for sum in above {
                (*sum, carry) = add(*sum, 0, carry);
            }
        }
    }

    /// The sum of the products of word `word` of each a with its b.
    ///
    /// # Safety
    ///
    /// The CPU has ADX and BMI2; the slices are equally long and not empty; `word` is below 4.
    #[inline]
    unsafe fn row(a: &[Words], b: &[Words], word: usize) -> [u64; ROW] {
        let mut sum = [0u64; ROW];
        let [s0, s1, s2, s3, s4, s5] = &mut sum;
        // SAFETY: `behind` counts up to zero in steps of one number, from minus the size of the slices:
        // every address is inside of one. No memory is written, the stack is left alone.
        unsafe {
            asm!(
                "2:",
                "mov rdx, qword ptr [{a} + {behind}]",
                // No carry in either chain.
                "xor {zero:e}, {zero:e}",
                "mulx {high}, {low}, qword ptr [{b} + {behind}]",
                "adcx {s0}, {low}",
                "adox {s1}, {high}",
                "mulx {high}, {low}, qword ptr [{b} + {behind} + 8]",
                "adcx {s1}, {low}",
                "adox {s2}, {high}",
                "mulx {high}, {low}, qword ptr [{b} + {behind} + 16]",
                "adcx {s2}, {low}",
                "adox {s3}, {high}",
                "mulx {high}, {low}, qword ptr [{b} + {behind} + 24]",
                "adcx {s3}, {low}",
                "adox {s4}, {high}",
                "adcx {s4}, {zero}",
                "adox {s5}, {zero}",
                "adcx {s5}, {zero}",
                "add {behind}, 32",
                "jnz 2b",
                a = in(reg) a.as_ptr_range().end.cast::<u64>().wrapping_add(word),
                b = in(reg) b.as_ptr_range().end,
                behind = inout(reg) -(size_of_val(a) as isize) => _,
                low = out(reg) _,
                high = out(reg) _,
                zero = out(reg) _,
                s0 = inout(reg) *s0,
                s1 = inout(reg) *s1,
                s2 = inout(reg) *s2,
                s3 = inout(reg) *s3,
                s4 = inout(reg) *s4,
                s5 = inout(reg) *s5,
                out("rdx") _,
                options(pure, readonly, nostack),
            );
        }
        sum
    }
}
