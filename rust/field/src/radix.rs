//! Numbers as limbs of 52 bits, what the multiplier of IFMA takes: the constants of a modulus, computed
//! when this crate is compiled.

/// Bits of a limb.
pub const LIMB_BITS: u32 = 52;
/// The bits of a limb.
pub const MASK: u64 = (1 << LIMB_BITS) - 1;

/// The N limbs of a number in words of 64 bits, least significant first.
pub const fn from_words<const N: usize, const W: usize>(words: [u64; W]) -> [u64; N] {
    let mut limbs = [0; N];
    let mut i = 0;
    while i < N {
        let bit = i * LIMB_BITS as usize;
        let (word, shift) = (bit / 64, bit % 64);
        if word < W {
            limbs[i] = words[word] >> shift;
            if shift > 0 && word + 1 < W {
                limbs[i] |= words[word + 1] << (64 - shift);
            }
            limbs[i] &= MASK;
        }
        i += 1;
    }
    limbs
}

/// 2a.
pub const fn double<const N: usize>(a: [u64; N]) -> [u64; N] {
    let mut out = [0; N];
    let mut carry = 0;
    let mut i = 0;
    while i < N {
        let limb = (a[i] << 1) | carry;
        out[i] = limb & MASK;
        carry = limb >> LIMB_BITS;
        i += 1;
    }
    out
}

/// 2ⁿ modulo the odd number `modulus`.
pub const fn power_of_two<const N: usize>(n: u32, modulus: [u64; N]) -> [u64; N] {
    let mut power = [0; N];
    power[0] = 1;
    let mut i = 0;
    while i < n {
        power = double(power);
        let (difference, borrow) = subtract(power, modulus);
        if !borrow {
            power = difference;
        }
        i += 1;
    }
    power
}

/// a − b, and whether b is the larger one.
pub const fn subtract<const N: usize>(a: [u64; N], b: [u64; N]) -> ([u64; N], bool) {
    let mut out = [0; N];
    let mut borrow = 0;
    let mut i = 0;
    while i < N {
        let difference = a[i].wrapping_sub(b[i] + borrow);
        out[i] = difference & MASK;
        borrow = difference >> 63;
        i += 1;
    }
    (out, borrow == 1)
}

/// −1 / `odd` mod 2⁵²; every Newton step doubles the bits that are right.
pub const fn negated_inverse(odd: u64) -> u64 {
    let mut inverse = 1u64;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse.wrapping_neg() & MASK
}
