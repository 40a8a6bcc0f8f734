//! Numbers of 260 bits as five limbs of 52 bits, and the modulus in that form.

use blstrs::Scalar;

use crate::canonical::MODULUS;
use crate::fr::montgomery_words;

/// Limbs of a number.
pub const LIMBS: usize = 5;
/// Bits of a limb: what the multiplier of IFMA takes.
pub const LIMB_BITS: u32 = 52;
/// The bits of a limb.
pub const MASK: u64 = (1 << LIMB_BITS) - 1;

/// Least significant limb first.
pub type Limbs = [u64; LIMBS];

/// p, the modulus.
pub const P: Limbs = from_words(MODULUS);
/// 2p.
pub const P_TWICE: Limbs = double(P);
/// −1 / p mod 2⁵²: the factor of a Montgomery step.
pub const P_INVERSE: u64 = negated_inverse(P[0]);
/// 2²⁵⁶ mod p: takes a number from the Montgomery form of this module to that of blst.
pub const TO_BLST: Limbs = doubled_mod_p(INTEGER_ONE, 256);
/// 2²⁶⁴ mod p: takes a number from the Montgomery form of blst to that of this module.
pub const FROM_BLST: Limbs = doubled_mod_p(INTEGER_ONE, 264);
/// 2²⁶⁰ mod p, which stands for one.
pub const ONE: Limbs = doubled_mod_p(INTEGER_ONE, 260);
/// 2⁵²⁰ mod p: takes a number into the Montgomery form of this module.
pub const R_SQUARED: Limbs = doubled_mod_p(INTEGER_ONE, 520);

const INTEGER_ONE: Limbs = [1, 0, 0, 0, 0];

/// The limbs of a number of 256 bits in four words.
pub const fn from_words(words: [u64; 4]) -> Limbs {
    let [a, b, c, d] = words;
    [
        a & MASK,
        (a >> 52 | b << 12) & MASK,
        (b >> 40 | c << 24) & MASK,
        (c >> 28 | d << 36) & MASK,
        d >> 16,
    ]
}

/// The Montgomery form x · 2²⁶⁰ mod p of an element.
pub fn constant_limbs(value: &Scalar) -> Limbs {
    // Four doublings take 2²⁵⁶ · x to 2²⁶⁰ · x.
    from_words(montgomery_words(&(*value * Scalar::from(16))))
}

const fn double(a: Limbs) -> Limbs {
    let mut out = [0; LIMBS];
    let mut carry = 0;
    let mut i = 0;
    while i < LIMBS {
        let limb = (a[i] << 1) | carry;
        out[i] = limb & MASK;
        carry = limb >> LIMB_BITS;
        i += 1;
    }
    out
}

/// a · 2ⁿ mod p for a below p.
const fn doubled_mod_p(mut a: Limbs, times: u32) -> Limbs {
    let mut n = 0;
    while n < times {
        a = double(a);
        let (difference, borrow) = subtract(a, P);
        if !borrow {
            a = difference;
        }
        n += 1;
    }
    a
}

/// a − b, and whether b is the larger one.
const fn subtract(a: Limbs, b: Limbs) -> (Limbs, bool) {
    let mut out = [0; LIMBS];
    let mut borrow = 0;
    let mut i = 0;
    while i < LIMBS {
        let difference = a[i].wrapping_sub(b[i] + borrow);
        out[i] = difference & MASK;
        borrow = difference >> 63;
        i += 1;
    }
    (out, borrow == 1)
}

/// −1 / odd mod 2⁵²; every Newton step doubles the bits that are right.
const fn negated_inverse(odd: u64) -> u64 {
    let mut inverse = 1u64;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse.wrapping_neg() & MASK
}
