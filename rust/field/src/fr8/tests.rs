//! Every operation on reduced values that are not the smallest ones, held against blst.

use std::arch::x86_64::_mm512_loadu_si512;
use std::io::{self, Write};

use blst::blst_fr;
use blstrs::Scalar;
use ff::Field;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::canonical::{reduce_once, MODULUS};
use crate::cpu::Ifma;
use crate::limbs::from_words;

/// Random pairs, besides those of edges.
const SAMPLES: usize = 20_000;

/// A value as the limbs have it, and the element it stands for.
#[derive(Clone, Copy, Debug)]
struct Value {
    number: [u64; 4],
    element: Scalar,
}

/// A number below p.
fn value(number: [u64; 4]) -> Value {
    // blst divides by 2²⁵⁶, this module by 2²⁶⁰.
    let sixteenth = Scalar::from(16).invert().unwrap();
    Value {
        number,
        element: Scalar::from(blst_fr { l: number }) * sixteenth,
    }
}

/// a + b mod 2²⁵⁶
fn sum(a: [u64; 4], b: [u64; 4]) -> [u64; 4] {
    let mut carry = 0;
    std::array::from_fn(|i| {
        let wide = u128::from(a[i]) + u128::from(b[i]) + u128::from(carry);
        carry = (wide >> 64) as u64;
        wide as u64
    })
}

/// Numbers below p around powers of two at the ends of limbs and words, at zero and at p.
fn edges() -> Vec<Value> {
    let [a, b, c, d] = MODULUS;
    let mut numbers = vec![[0; 4], [1, 0, 0, 0], [a - 1, b, c, d]];
    for bit in [1, 51, 52, 63, 64, 104, 128, 156, 192, 208, 253, 254] {
        let mut power = [0u64; 4];
        power[bit / 64] = 1 << (bit % 64);
        numbers.extend([power, sum(power, [u64::MAX; 4]), sum(power, [1, 0, 0, 0])]);
    }
    numbers.into_iter().map(value).collect()
}

/// Pairs of all edges, then random ones, a multiple of the lanes.
fn pairs() -> Vec<(Value, Value)> {
    let edges = edges();
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let mut any = || {
        let mut number = [0; 4].map(|_: u64| random.next_u64());
        // Below 2²⁵⁵, so below 2p.
        number[3] >>= 1;
        value(reduce_once(number))
    };
    let all = edges.iter().flat_map(|a| edges.iter().map(|b| (*a, *b)));
    let mut pairs: Vec<_> = all.collect();
    pairs.extend((0..SAMPLES).map(|_| (any(), any())));
    while !pairs.len().is_multiple_of(LANES) {
        pairs.push((any(), any()));
    }
    pairs
}

/// The values as they are, or p larger.
#[target_feature(enable = "avx512f,avx512ifma")]
fn packed(values: &[Value; LANES], larger: bool) -> Fr8 {
    let limbs = values.map(|value| {
        from_words(match larger {
            true => sum(value.number, MODULUS),
            false => value.number,
        })
    });
    Fr8(std::array::from_fn(|row| {
        let row = limbs.map(|limbs| limbs[row]);
        // SAFETY: a row is 64 bytes.
        unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
    }))
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn compare(a: &[Value; LANES], b: &[Value; LANES], larger: (bool, bool)) {
    let (x, y) = (packed(a, larger.0), packed(b, larger.1));
    let expect = |found: Fr8, what: &str, of: &dyn Fn(Scalar, Scalar, usize) -> Scalar| {
        for (lane, found) in found.to_scalars().into_iter().enumerate() {
            let expected = of(a[lane].element, b[lane].element, lane);
            let operands = (a[lane].number, b[lane].number, larger);
            assert_eq!(found, expected, "{what} of {operands:x?}");
        }
    };
    expect(x, "value", &|a, _, _| a);
    expect(x.add(&y), "sum", &|a, b, _| a + b);
    expect(x.sub(&y), "difference", &|a, b, _| a - b);
    expect(x.double(), "double", &|a, _, _| a.double());
    expect(x.mul(&y), "product", &|a, b, _| a * b);
    expect(x.square(), "square", &|a, _, _| a.square());
    expect(x.negate(0b1010_0101), "negative", &|a, _, lane| {
        if 0b1010_0101 >> lane & 1 == 1 {
            -a
        } else {
            a
        }
    });
    // A result is taken as an operand again.
    expect(x.sub(&y).add(&y).sub(&x), "zero", &|_, _, _| Scalar::ZERO);
}

#[test]
fn reduced_values_above_the_modulus_are_taken() {
    if Ifma::detect().is_none() {
        // Test runners hold back what print macros write.
        let _ = writeln!(io::stderr(), "skipped: this CPU has no AVX-512 IFMA");
        return;
    }
    for group in pairs().chunks_exact(LANES) {
        let a = std::array::from_fn(|lane| group[lane].0);
        let b = std::array::from_fn(|lane| group[lane].1);
        for larger in [(false, false), (false, true), (true, false), (true, true)] {
            // SAFETY: the CPU has been asked.
            unsafe { compare(&a, &b, larger) };
        }
    }
}
