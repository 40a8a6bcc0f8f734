//! Four elements at a time against blst.
#![cfg(target_arch = "x86_64")]

use blstrs::Scalar;
use ff::Field;
use field::cpu::Avx2;
use field::fr4::{Constant, Fr4, Sum, WordLanes, LANES};

mod common;

use common::{edges, scalars};

const SAMPLES: usize = 20_000;

/// Runs `test` where the CPU can, and says so where it can't.
fn with_avx2(test: impl FnOnce()) {
    match Avx2::detect() {
        Some(_) => test(),
        None => common::skip("this CPU has no AVX2"),
    }
}

fn words(scalars: &[Scalar; LANES]) -> WordLanes {
    let numbers = scalars.map(|scalar| field::canonical::words(&scalar.to_bytes_le()));
    std::array::from_fn(|row| numbers.map(|number| number[row]))
}

#[test]
fn products_squares_and_sums_are_those_of_blst() {
    #[target_feature(enable = "avx2")]
    fn compute(pairs: &[(Scalar, Scalar)]) {
        let c = Scalar::from(77);
        for pairs in pairs.chunks_exact(LANES) {
            let a = std::array::from_fn(|lane| pairs[lane].0);
            let b = std::array::from_fn(|lane| pairs[lane].1);
            let (x, y) = (Fr4::from_numbers(&words(&a)), Fr4::from_numbers(&words(&b)));
            let each = |of: fn(Scalar, Scalar) -> Scalar| -> [Scalar; LANES] {
                std::array::from_fn(|lane| of(a[lane], b[lane]))
            };
            assert_eq!(x.to_numbers(), words(&a));
            assert_eq!(x.mul(&y).to_numbers(), words(&each(|a, b| a * b)));
            assert_eq!(x.square().to_numbers(), words(&each(|a, _| a.square())));
            assert_eq!(x.add_lazily(&y).to_numbers(), words(&each(|a, b| a + b)));
            // A value 16 times as large as it needs to be.
            let mut many = x;
            for _ in 0..4 {
                many = many.add_lazily(&many);
            }
            assert_eq!(
                many.mul_add(&y, &Constant::new(&c)).to_numbers(),
                words(&each(|a, b| a * Scalar::from(16) * b + Scalar::from(77)))
            );
        }
    }
    let edges = edges();
    let edge_pairs = edges.iter().flat_map(|a| edges.iter().map(|b| (*a, *b)));
    let random = scalars(SAMPLES, 3)
        .into_iter()
        .zip(scalars(2 * SAMPLES, 4).into_iter().rev());
    let pairs: Vec<_> = edge_pairs.chain(random).collect();
    // SAFETY: the CPU has been asked.
    with_avx2(|| unsafe { compute(&pairs) });
}

#[test]
fn sums_of_many_products_are_those_of_blst() {
    #[target_feature(enable = "avx2")]
    fn compute(scalars: &[Scalar]) {
        let constants: Vec<Constant> = scalars.iter().map(Constant::new).collect();
        for length in [0, 1, 2, 12, 25, 400] {
            let lanes = |from: usize| -> [Scalar; LANES] {
                std::array::from_fn(|lane| scalars[(from * 7 + lane * 31) % scalars.len()])
            };
            let elements: Vec<[Scalar; LANES]> = (0..length).map(lanes).collect();
            let wide: Vec<Fr4> = elements
                .iter()
                .map(|e| Fr4::from_numbers(&words(e)))
                .collect();
            let mut sum = Sum::of(&constants[5].splat());
            sum.add_dot(&wide, &constants);
            let expected: [Scalar; LANES] = std::array::from_fn(|lane| {
                let products = elements.iter().zip(scalars).map(|(e, c)| e[lane] * c);
                products.fold(scalars[5], |sum, product| sum + product)
            });
            assert_eq!(
                sum.reduce().to_numbers(),
                words(&expected),
                "{length} products"
            );
        }
    }
    // SAFETY: the CPU has been asked.
    with_avx2(|| unsafe { compute(&scalars(500, 6)) });
}

#[test]
fn numbers_that_are_not_canonical_stand_for_their_remainders() {
    #[target_feature(enable = "avx2")]
    fn compute() {
        let [a, b, c, d] = field::canonical::MODULUS;
        let numbers = [
            [a, b, c, d],
            [a + 1, b, c, d],
            [a - 1, b, c, d],
            [u64::MAX; 4],
        ];
        let two_64 = Scalar::from(u64::MAX) + Scalar::ONE;
        let value = |number: [u64; 4]| {
            let words = number.iter().rev();
            words.fold(Scalar::ZERO, |sum, word| sum * two_64 + Scalar::from(*word))
        };
        let found = Fr4::from_numbers(&std::array::from_fn(|row| {
            numbers.map(|number| number[row])
        }));
        assert_eq!(found.to_numbers(), words(&numbers.map(value)));
    }
    // SAFETY: the CPU has been asked.
    with_avx2(|| unsafe { compute() });
}
