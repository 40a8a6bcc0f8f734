//! Elements of the scalar field of BLS12-381, as 32 little-endian bytes: what a sector's nodes are.

/// The modulus r of the field, least significant word first.
pub const MODULUS: [u64; 4] = [
    0xffff_ffff_0000_0001,
    0x53bd_a402_fffe_5bfe,
    0x3339_d808_09a1_d805,
    0x73ed_a753_299d_7d48,
];

/// A number of 256 bits, least significant word first.
pub type Words = [u64; 4];

/// Whether `node` is the canonical form of an element: a number below r.
#[inline]
pub fn is_element(node: &[u8; 32]) -> bool {
    subtract_words(words(node), MODULUS).1
}

/// `minuend` − `subtrahend` mod r in place of `minuend`; both are elements.
pub fn subtract(minuend: &mut [u8; 32], subtrahend: &[u8; 32]) {
    let (mut difference, borrow) = subtract_words(words(minuend), words(subtrahend));
    if borrow {
        difference = add_words(difference, MODULUS);
    }
    write(minuend, difference);
}

/// `sum` + `addend` mod r in place of `sum`; both are elements.
#[inline]
pub fn add(sum: &mut [u8; 32], addend: &[u8; 32]) {
    write(sum, sum_of(words(sum), words(addend)));
}

/// a + b mod r of two elements.
#[inline]
pub(crate) fn sum_of(a: Words, b: Words) -> Words {
    // Below 2r, which is below 2²⁵⁶.
    reduce_once(add_words(a, b))
}

/// A number below 2r modulo r.
#[inline]
pub(crate) fn reduce_once(number: Words) -> Words {
    let (reduced, borrow) = subtract_words(number, MODULUS);
    if borrow {
        number
    } else {
        reduced
    }
}

#[inline]
fn write(node: &mut [u8; 32], words: Words) {
    for (bytes, word) in node.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// The words of a node, least significant first.
#[inline]
pub fn words(node: &[u8; 32]) -> Words {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(node.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    words
}

/// a − b mod 2²⁵⁶, and whether b is the larger one.
#[inline]
fn subtract_words(a: Words, b: Words) -> (Words, bool) {
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

/// a + b mod 2²⁵⁶.
#[inline]
fn add_words(a: Words, b: Words) -> Words {
    let mut sum = [0; 4];
    let mut carry = false;
    for (out, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        let (partial, first) = a.overflowing_add(b);
        let (word, second) = partial.overflowing_add(carry.into());
        *out = word;
        carry = first || second;
    }
    sum
}

#[cfg(test)]
mod tests {
    use blstrs::Scalar;

    use super::*;

    fn node(words: Words) -> [u8; 32] {
        words
            .map(u64::to_le_bytes)
            .as_flattened()
            .try_into()
            .unwrap()
    }

    #[test]
    fn elements_are_below_the_modulus() {
        let [low, rest @ ..] = MODULUS;
        let with_low = |low| node([low, rest[0], rest[1], rest[2]]);
        assert!(is_element(&[0; 32]));
        assert!(is_element(&with_low(low - 1)));
        assert!(!is_element(&with_low(low)));
        assert!(!is_element(&[0xff; 32]));
    }

    #[test]
    fn sums_and_differences_are_those_of_the_field() {
        let mut samples = vec![
            [0; 32],
            node([1, 0, 0, 0]),
            node([u64::MAX, u64::MAX, 0, 1]),
        ];
        let [low, a, b, c] = MODULUS;
        samples.push(node([low - 1, a, b, c]));
        samples.extend((1..9u64).map(|i| node([1, 2, 3, 4].map(|k| (i * k) << (i * 3)))));
        for minuend in &samples {
            for subtrahend in &samples {
                let mut ours = *minuend;
                subtract(&mut ours, subtrahend);
                let scalar = |node| Scalar::from_bytes_le(node).unwrap();
                let expected = scalar(minuend) - scalar(subtrahend);
                assert_eq!(ours, expected.to_bytes_le());
                add(&mut ours, subtrahend);
                assert_eq!(ours, *minuend);
            }
        }
    }
}
