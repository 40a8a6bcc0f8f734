//! Eight elements at a time against blst.
#![cfg(target_arch = "x86_64")]

use blstrs::Scalar;
use ff::Field;
use field::cpu::Ifma;
use field::fr8::{batch_invert, Constant, Fr8, Sum, WordLanes, LANES};

mod common;

use common::{edges, scalars};

const SAMPLES: usize = 20_000;

/// Runs `test` where the CPU can, and says so where it can't.
fn with_ifma(test: impl FnOnce()) {
    match Ifma::detect() {
        Some(_) => test(),
        None => common::skip("this CPU has no AVX-512 IFMA"),
    }
}

/// Every lane of an operation of two elements against blst's, for pairs of edges and random ones.
fn agrees(
    name: &str,
    ours: impl Fn(&[Scalar; LANES], &[Scalar; LANES]) -> [Scalar; LANES],
    theirs: impl Fn(Scalar, Scalar) -> Scalar,
) {
    let edges = edges();
    let edge_pairs = edges.iter().flat_map(|a| edges.iter().map(|b| (*a, *b)));
    let random = scalars(SAMPLES, 3)
        .into_iter()
        .zip(scalars(2 * SAMPLES, 4).into_iter().rev());
    let pairs: Vec<(Scalar, Scalar)> = edge_pairs.chain(random).collect();
    for pairs in pairs.chunks_exact(LANES) {
        let a = std::array::from_fn(|lane| pairs[lane].0);
        let b = std::array::from_fn(|lane| pairs[lane].1);
        let found = ours(&a, &b);
        for (found, (a, b)) in found.iter().zip(pairs) {
            assert_eq!(*found, theirs(*a, *b), "{name} of {a:?}, {b:?}");
        }
    }
}

/// Wraps operations on eight elements for [`agrees`].
macro_rules! eight {
    (|$a:ident, $b:ident| $result:expr) => {{
        #[target_feature(enable = "avx512f,avx512ifma")]
        fn compute(a: &[Scalar; LANES], b: &[Scalar; LANES]) -> [Scalar; LANES] {
            let ($a, $b) = (Fr8::from_scalars(a), Fr8::from_scalars(b));
            $result.to_scalars()
        }
        // SAFETY: only run by `with_ifma`.
        |a: &[Scalar; LANES], b: &[Scalar; LANES]| unsafe { compute(a, b) }
    }};
}

#[test]
fn products_and_squares_are_those_of_blst() {
    with_ifma(|| {
        agrees("product", eight!(|a, b| a.mul(&b)), |a, b| a * b);
        agrees("square", eight!(|a, b| a.mul(&b).square()), |a, b| {
            (a * b).square()
        });
    });
}

#[test]
fn sums_and_differences_are_those_of_blst() {
    with_ifma(|| {
        agrees("sum", eight!(|a, b| a.add(&b)), |a, b| a + b);
        agrees("difference", eight!(|a, b| a.sub(&b)), |a, b| a - b);
        agrees("double", eight!(|a, b| a.sub(&b).double()), |a, b| {
            (a - b).double()
        });
        agrees("lazy sum", eight!(|a, b| a.add_lazily(&b)), |a, b| a + b);
    });
}

#[test]
fn values_that_are_not_reduced_come_out_right() {
    with_ifma(|| {
        let ours = eight!(|a, b| {
            // 16 times a, as a value 16 times as large.
            let mut many = a;
            for _ in 0..4 {
                many = many.add_lazily(&many);
            }
            let mut sum = Sum::of(&many);
            sum.add_product(&many, &b);
            sum.add_square(&many);
            sum.reduce()
        });
        agrees("unreduced", ours, |a, b| {
            let many = a * Scalar::from(16);
            many + many * b + many.square()
        });
    });
}

#[test]
fn sums_of_many_products_are_those_of_blst() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn compute(scalars: &[Scalar]) {
        let constants: Vec<Constant> = scalars.iter().map(Constant::new).collect();
        let lanes = |from: usize| -> [Scalar; LANES] {
            std::array::from_fn(|lane| scalars[(from * 7 + lane * 31) % scalars.len()])
        };
        for length in [0, 1, 2, 12, 25, 400] {
            let elements: Vec<[Scalar; LANES]> = (0..length).map(lanes).collect();
            let wide: Vec<Fr8> = elements.iter().map(|e| Fr8::from_scalars(e)).collect();
            let mut sum = Sum::of(&constants[5].splat());
            sum.add_dot(&wide, &constants);
            let found = sum.reduce().to_scalars();
            for (lane, found) in found.into_iter().enumerate() {
                let products = elements.iter().zip(scalars).map(|(e, c)| e[lane] * c);
                let expected = products.fold(scalars[5], |sum, product| sum + product);
                assert_eq!(found, expected, "{length} products, lane {lane}");
            }
        }
    }
    // SAFETY: the CPU has been asked.
    with_ifma(|| unsafe { compute(&scalars(500, 6)) });
}

#[test]
fn numbers_that_are_not_canonical_stand_for_their_remainders() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn compute() {
        let [a, b, c, d] = field::canonical::MODULUS;
        let numbers = [
            [0, 0, 0, 0],
            [1, 0, 0, 0],
            [a - 1, b, c, d],
            [a, b, c, d],
            [a + 1, b, c, d],
            [2 * (a & !(1 << 63)), 0, 0, 0],
            [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1],
            [u64::MAX; 4],
        ];
        let words: WordLanes = std::array::from_fn(|row| numbers.map(|number| number[row]));
        let elements = Fr8::from_numbers(&words);
        let back = elements.to_numbers();
        for (lane, scalar) in elements.to_scalars().into_iter().enumerate() {
            let two_64 = Scalar::from(u64::MAX) + Scalar::ONE;
            let expected = numbers[lane]
                .iter()
                .rev()
                .fold(Scalar::ZERO, |sum, word| sum * two_64 + Scalar::from(*word));
            assert_eq!(scalar, expected, "lane {lane}");
            let found: Vec<u8> = (0..4)
                .flat_map(|row| back[row][lane].to_le_bytes())
                .collect();
            assert_eq!(found, expected.to_bytes_le(), "lane {lane}");
        }
    }
    // SAFETY: the CPU has been asked.
    with_ifma(|| unsafe { compute() });
}

#[test]
fn batches_are_inverted_and_zeros_stay() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn compute(scalars: &[Scalar]) {
        let chunks: Vec<[Scalar; LANES]> = scalars
            .chunks_exact(LANES)
            .map(|chunk| chunk.try_into().unwrap())
            .collect();
        let mut wide: Vec<Fr8> = chunks
            .iter()
            .map(|chunk| Fr8::from_scalars(chunk))
            .collect();
        // Zero as a difference too, whose value need not be 0.
        wide.push(wide[1].sub(&wide[1]));
        batch_invert(&mut wide);
        let zeros = wide.pop().unwrap().to_scalars();
        assert_eq!(zeros, [Scalar::ZERO; LANES]);
        for (wide, chunk) in wide.iter().zip(&chunks) {
            let expected = chunk.map(|scalar| scalar.invert().unwrap_or(Scalar::ZERO));
            assert_eq!(wide.to_scalars(), expected);
        }
    }
    // SAFETY: the CPU has been asked.
    with_ifma(|| unsafe { compute(&scalars(800, 8)) });
}
