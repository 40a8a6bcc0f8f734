//! One element of the scalar field at a time, in the representation of blst, with sums of products
//! that are reduced once.

mod dot;

use blst::blst_fr;
use blstrs::Scalar;
use ff::Field;

use crate::canonical::{self, Words, MODULUS};

const _: () = assert!(MODULUS[0] == 0xffff_ffff_0000_0001);

/// ⌊p / 2²⁴⁰⌋ + 1.
const TOP_OF_MODULUS: u64 = (MODULUS[3] >> 48) + 1;
/// ⌊2⁴⁰ / (⌊p / 2²⁴⁰⌋ + 1)⌋.
const TOP_RECIPROCAL: u64 = (1 << 40) / TOP_OF_MODULUS;

/// An element: x · 2²⁵⁶ mod p, below p.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fr(Words);

/// What the sums of this module multiply with: any element, known as such to [`Sum::add_multiple`].
pub type Constant = Fr;

impl Fr {
    /// An element of blst.
    pub fn new(value: &Scalar) -> Self {
        Fr(montgomery_words(value))
    }

    /// Zero.
    #[inline]
    pub fn zero() -> Self {
        Fr([0; 4])
    }

    /// The element that a number below p stands for; none if it isn't below.
    pub fn from_number(number: &[u8; 32]) -> Option<Self> {
        Option::from(Scalar::from_bytes_le(number)).map(|scalar| Fr::new(&scalar))
    }

    /// The number below p that stands for the element.
    pub fn to_number(self) -> [u8; 32] {
        self.scalar().to_bytes_le()
    }

    /// The element as blst has it.
    #[inline]
    pub fn scalar(self) -> Scalar {
        blst_fr { l: self.0 }.into()
    }

    /// The square.
    #[inline]
    pub fn square(&self) -> Fr {
        Fr::new(&self.scalar().square())
    }

    /// The product.
    #[inline]
    pub fn mul(&self, other: &Fr) -> Fr {
        Fr::new(&(self.scalar() * other.scalar()))
    }

    /// The product with `factor`, and `addend` added.
    #[inline]
    pub fn mul_add(&self, factor: &Fr, addend: &Constant) -> Fr {
        self.mul(factor).add_lazily(addend)
    }

    /// The sum.
    #[inline]
    pub fn add_lazily(&self, other: &Fr) -> Fr {
        Fr(canonical::sum_of(self.0, other.0))
    }

    /// The element itself: the eight-wide constants take less room than the elements.
    #[inline]
    pub fn splat(&self) -> Fr {
        *self
    }
}

/// The words of blst's Montgomery form: x · 2²⁵⁶ mod p.
#[inline]
pub fn montgomery_words(scalar: &Scalar) -> Words {
    blst_fr::from(*scalar).l
}

/// The words of several elements.
#[inline]
fn words(elements: &[Fr]) -> &[Words] {
    // SAFETY: an element is its words (repr(transparent)).
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), elements.len()) }
}

/// A sum of at most 30 products and elements, not reduced.
#[derive(Clone, Copy)]
pub struct Sum([u64; dot::WORDS]);

impl Sum {
    /// Nothing added yet.
    #[inline]
    pub fn zero() -> Self {
        Sum([0; dot::WORDS])
    }

    /// A sum that reduces to `a` when nothing is added.
    #[inline]
    pub fn of(a: &Fr) -> Self {
        let mut sum = Sum::zero();
        sum.0[4..8].copy_from_slice(&a.0);
        sum
    }

    /// Adds the products of every element with its constant.
    #[inline]
    pub fn add_dot(&mut self, elements: &[Fr], constants: &[Constant]) {
        dot::add_dot(&mut self.0, words(elements), words(constants));
    }

    /// The sum divided by 2²⁵⁶ modulo p, which makes the Montgomery form of a sum of products of
    /// Montgomery forms.
    #[inline]
    pub fn reduce(self) -> Fr {
        let mut sum = self.0;
        let mut above = 0;
        for i in 0..4 {
            let (m, mut carry) = montgomery_step(sum[i]);
            for j in 1..4 {
                (sum[i + j], carry) = multiply_add(m, MODULUS[j], sum[i + j], carry);
            }
            (sum[i + 4], above) = add(sum[i + 4], carry, above);
        }
        let [.., a, b, c, d, e] = sum;
        below_modulus([a, b, c, d], e + above)
    }
}

/// The element of `low` + 2²⁵⁶ · `high`, which is below 30 p.
#[inline]
fn below_modulus(low: Words, high: u64) -> Fr {
    // The quotient is that of the top bits, or one more: of 2²⁶⁰ at most, the error of the reciprocal
    // and of the bits left out is below one together.
    let top = high << 16 | low[3] >> 48;
    let quotient = (top * TOP_RECIPROCAL) >> 40;
    let mut rest = [0; 4];
    let mut carry = 0;
    let mut borrow = 0;
    for i in 0..4 {
        let product;
        (product, carry) = multiply_add(quotient, MODULUS[i], 0, carry);
        (rest[i], borrow) = subtract(low[i], product, borrow);
    }
    Fr(canonical::reduce_once(rest))
}

/// The m that makes `word` + m · p end in a word of zeros, and what that word carries: of p's lowest word
/// only. This is 2⁶⁴ − 2³² + 1, whose inverse is 2³² + 1: no product is needed for either.
#[inline]
fn montgomery_step(word: u64) -> (u64, u64) {
    let m = word.wrapping_add(word << 32).wrapping_neg();
    // m · p₀ + word is 2⁶⁴ m − 2³² m + m + word.
    let wide = (u128::from(m) << 64) - (u128::from(m) << 32) + u128::from(m) + u128::from(word);
    (m, (wide >> 64) as u64)
}

/// a · b + c + d as low and high word; it can't overflow.
#[inline]
fn multiply_add(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    let wide = u128::from(a) * u128::from(b) + u128::from(c) + u128::from(d);
    (wide as u64, (wide >> 64) as u64)
}

/// a + b + carry, and the carry of that.
#[inline]
fn add(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    (wide as u64, (wide >> 64) as u64)
}

/// a − b − borrow, and the borrow of that.
#[inline]
fn subtract(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let (difference, first) = a.overflowing_sub(b);
    let (difference, second) = difference.overflowing_sub(borrow);
    (difference, u64::from(first | second))
}
