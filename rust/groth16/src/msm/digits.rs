//! Scalars in signed digits.

use blstrs::Scalar;
use ff::PrimeField;
use field::canonical::{self, Words, MODULUS};

/// A scalar or its negative is below 2²⁵⁴; one more bit leaves room for the carry of signed digits.
const BITS: usize = 255;

/// In the highest bit of a [`Recoded`], which is above [`BITS`]: the digits are those of the negative.
const NEGATIVE: u64 = 1 << 63;

/// The fewest bits of a window, of which the topmost may have one less. With fewer, half the range of every
/// digit and half the modulus can come to 2²⁵⁵.
const MIN_WIDTH: usize = 5;

/// How scalars are cut into digits, from the least significant on.
#[derive(Clone, Debug)]
pub struct Windows {
    windows: Vec<Window>,
    /// Half the range of every digit, as one number.
    offset: Recoded,
}

#[derive(Clone, Copy, Debug)]
pub struct Window {
    start: usize,
    width: usize,
}

/// A scalar or its negative, the smaller one, plus half the range of every digit: each digit can be read
/// off by itself, with no carry from below.
pub type Recoded = [u64; 4];

impl Windows {
    /// The cut that makes the fewest additions for so many terms, with windows of at most `max_width` bits,
    /// where what is done once for each bucket costs as much as `bucket_cost` additions.
    pub fn for_terms(terms: usize, max_width: usize, bucket_cost: usize) -> Self {
        let cost = |width: &usize| BITS.div_ceil(*width) * (terms + (bucket_cost << (width - 1)));
        let width = (MIN_WIDTH..=max_width)
            .min_by_key(cost)
            .unwrap_or(max_width);
        Self::of_width(width)
    }

    /// Windows of at most `width` bits, as even as possible.
    fn of_width(width: usize) -> Self {
        let count = BITS.div_ceil(width);
        let mut start = 0;
        let windows: Vec<_> = (0..count)
            .map(|number| {
                let width = (BITS - start).div_ceil(count - number);
                start += width;
                Window {
                    start: start - width,
                    width,
                }
            })
            .collect();
        let mut offset = [0; 4];
        for window in &windows {
            let bit = window.start + window.width - 1;
            offset[bit / 64] |= 1 << (bit % 64);
        }
        Self { windows, offset }
    }

    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// From the least significant one on.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Window> + ExactSizeIterator + '_ {
        self.windows.iter().copied()
    }

    pub fn recode(&self, scalar: &Scalar) -> Recoded {
        let bytes = scalar.to_repr();
        let mut words = canonical::words(&bytes);
        let (negated, _) = subtract(MODULUS, words);
        // Both are below the modulus, so the difference tells which one is the smaller.
        let (_, negative) = subtract(negated, words);
        if negative {
            words = negated;
        }
        let mut carry = false;
        for (word, offset) in words.iter_mut().zip(self.offset) {
            let (sum, first) = word.overflowing_add(offset);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = first || second;
        }
        assert!(words[3] & NEGATIVE == 0, "half a scalar of 255 bits");
        words[3] |= if negative { NEGATIVE } else { 0 };
        words
    }
}

impl Window {
    /// Bits of a digit.
    pub fn width(self) -> usize {
        self.width
    }

    /// Buckets for digits other than zero, without their sign.
    pub fn buckets(self) -> usize {
        1 << (self.width - 1)
    }

    /// The digit of a scalar in this window: at most [`Self::buckets`] in size.
    pub fn digit(self, recoded: &Recoded) -> i32 {
        let (word, bit) = (self.start / 64, self.start % 64);
        let mut bits = recoded[word] >> bit;
        if bit + self.width > 64 {
            bits |= recoded[word + 1] << (64 - bit);
        }
        let digit = bits & ((1 << self.width) - 1);
        let digit = digit as i32 - self.buckets() as i32;
        if recoded[3] & NEGATIVE == 0 {
            digit
        } else {
            -digit
        }
    }
}

/// a − b mod 2²⁵⁶, and whether b is the larger one.
fn subtract(a: Words, b: Words) -> (Words, bool) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for (out, (a, b)) in difference.iter_mut().zip(a.into_iter().zip(b)) {
        let (partial, first) = a.overflowing_sub(b);
        let (word, second) = partial.overflowing_sub(borrow.into());
        *out = word;
        borrow = first || second;
    }
    (difference, borrow)
}

#[cfg(test)]
mod tests {
    use ff::Field;

    use super::*;
    use crate::testing::scalars;

    #[test]
    fn digits_add_up_to_the_scalar() {
        let mut examples = scalars(3, 20);
        // Half the modulus, rounded either way, is as large as a digit's number gets.
        let half = Scalar::from(2).invert().unwrap();
        examples.extend([Scalar::ZERO, Scalar::ONE, -Scalar::ONE]);
        examples.extend([half, half - Scalar::ONE, half + Scalar::ONE]);
        for width in MIN_WIDTH..=18 {
            let windows = Windows::of_width(width);
            for scalar in &examples {
                let recoded = windows.recode(scalar);
                let sum = windows.iter().rev().fold(Scalar::ZERO, |sum, window| {
                    let digit = window.digit(&recoded);
                    assert!(digit.unsigned_abs() as usize <= window.buckets());
                    let shifted = (0..window.width()).fold(sum, |sum, _| sum.double());
                    let size = Scalar::from(u64::from(digit.unsigned_abs()));
                    if digit < 0 {
                        shifted - size
                    } else {
                        shifted + size
                    }
                });
                assert_eq!(sum, *scalar, "windows of {width} bits");
            }
        }
    }
}
