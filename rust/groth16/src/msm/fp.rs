//! Sums and differences in the base field and its extension. A call of blst's costs as much as the sum: a
//! third of the batched addition's operations are of this kind. Elements are blst's, below p.

use blst::{blst_fp, blst_fp2};

const WORDS: usize = 6;

type Words = [u64; WORDS];

/// p, least significant word first.
const MODULUS: Words = [
    0xb9fe_ffff_ffff_aaab,
    0x1eab_fffe_b153_ffff,
    0x6730_d2a0_f6b0_f624,
    0x6477_4b84_f385_12bf,
    0x4b1b_a7b6_434b_acd7,
    0x1a01_11ea_397f_e69a,
];

/// a + b + carry, and the carry of that.
#[inline(always)]
fn add_word(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// a − b − borrow, and the borrow of that.
#[inline(always)]
fn subtract_word(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (difference, first) = a.overflowing_sub(b);
    let (difference, second) = difference.overflowing_sub(u64::from(borrow));
    (difference, first | second)
}

#[inline(always)]
fn subtract_words(a: &Words, b: &Words) -> (Words, bool) {
    let mut difference = [0; WORDS];
    let mut borrow = false;
    for i in 0..WORDS {
        (difference[i], borrow) = subtract_word(a[i], b[i], borrow);
    }
    (difference, borrow)
}

/// a + b
#[inline(always)]
pub fn add(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let mut sum = [0; WORDS];
    let mut carry = false;
    for (i, word) in sum.iter_mut().enumerate() {
        // Below 2p, which leaves two bits of the last word.
        (*word, carry) = add_word(a.l[i], b.l[i], carry);
    }
    let (reduced, below) = subtract_words(&sum, &MODULUS);
    let keep = u64::from(below).wrapping_neg();
    let mut l = [0; WORDS];
    for i in 0..WORDS {
        l[i] = (sum[i] & keep) | (reduced[i] & !keep);
    }
    blst_fp { l }
}

/// a − b
#[inline(always)]
pub fn sub(a: &blst_fp, b: &blst_fp) -> blst_fp {
    let (difference, negative) = subtract_words(&a.l, &b.l);
    let add = u64::from(negative).wrapping_neg();
    let mut l = [0; WORDS];
    let mut carry = false;
    for (i, word) in l.iter_mut().enumerate() {
        (*word, carry) = add_word(difference[i], MODULUS[i] & add, carry);
    }
    blst_fp { l }
}

/// −a where `negative`, else a. It comes out of no branch: signs are random.
#[inline(always)]
pub fn negate(a: &blst_fp, negative: bool) -> blst_fp {
    let negated = sub(&blst_fp { l: [0; WORDS] }, a);
    let keep = u64::from(negative).wrapping_sub(1);
    let mut l = [0; WORDS];
    for (i, word) in l.iter_mut().enumerate() {
        *word = (a.l[i] & keep) | (negated.l[i] & !keep);
    }
    blst_fp { l }
}

/// a + b
#[inline(always)]
pub fn add2(a: &blst_fp2, b: &blst_fp2) -> blst_fp2 {
    blst_fp2 {
        fp: [add(&a.fp[0], &b.fp[0]), add(&a.fp[1], &b.fp[1])],
    }
}

/// a − b
#[inline(always)]
pub fn sub2(a: &blst_fp2, b: &blst_fp2) -> blst_fp2 {
    blst_fp2 {
        fp: [sub(&a.fp[0], &b.fp[0]), sub(&a.fp[1], &b.fp[1])],
    }
}

/// −a where `negative`, else a.
#[inline(always)]
pub fn negate2(a: &blst_fp2, negative: bool) -> blst_fp2 {
    blst_fp2 {
        fp: a.fp.each_ref().map(|part| negate(part, negative)),
    }
}

#[cfg(test)]
mod tests {
    use blst::{blst_fp_add, blst_fp_cneg, blst_fp_sub};
    use rand_chacha::rand_core::RngCore;

    use super::*;
    use crate::testing::rng;

    /// Elements at the edges of the field and of its words, then random ones.
    fn elements(count: usize) -> Vec<blst_fp> {
        let mut elements = vec![blst_fp::default()];
        for bit in 0..381 {
            let mut power = [0; WORDS];
            power[bit / 64] = 1 << (bit % 64);
            let (below, _) = subtract_words(&power, &[1, 0, 0, 0, 0, 0]);
            let (negative, _) = subtract_words(&MODULUS, &power);
            elements.extend([power, below, negative].map(|l| blst_fp { l }));
        }
        let mut rng = rng(21);
        while elements.len() < count {
            let mut l = [0; WORDS].map(|_: u64| rng.next_u64());
            l[WORDS - 1] >>= 4;
            elements.push(blst_fp { l });
        }
        elements
    }

    #[test]
    fn sums_differences_and_negatives_are_those_of_blst() {
        let elements = elements(4000);
        let mut expected = blst_fp::default();
        for (number, a) in elements.iter().enumerate() {
            for other in [1, 2, 3, 5, 64, 192, 777, 2000, 3999] {
                let b = &elements[(number + other) % elements.len()];
                // SAFETY, here and below: blst reads and writes one element through each pointer.
                unsafe { blst_fp_add(&mut expected, a, b) };
                assert_eq!(add(a, b), expected, "{a:?} + {b:?}");
                unsafe { blst_fp_sub(&mut expected, a, b) };
                assert_eq!(sub(a, b), expected, "{a:?} − {b:?}");
            }
            unsafe { blst_fp_cneg(&mut expected, a, true) };
            assert_eq!(negate(a, true), expected, "−{a:?}");
            assert_eq!(negate(a, false), *a);
        }
    }
}
