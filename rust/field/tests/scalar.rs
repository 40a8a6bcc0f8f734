//! One element at a time against blst.

use blst::blst_fr;
use blstrs::Scalar;
use ff::Field;
use field::fr::{Fr, Sum};

mod common;

use common::scalars;

#[test]
fn sums_of_products_are_those_of_blst() {
    let scalars = scalars(400, 1);
    for length in 0..=25 {
        for (a, b) in scalars.chunks_exact(25).zip(scalars.chunks_exact(25).rev()) {
            let start = a[24] + b[0];
            let elements: Vec<Fr> = a[..length].iter().map(Fr::new).collect();
            let factors: Vec<Fr> = b[..length].iter().map(Fr::new).collect();
            let mut sum = Sum::of(&Fr::new(&start));
            sum.add_dot(&elements, &factors);
            let products = a[..length].iter().zip(b).map(|(a, b)| a * b);
            let expected = products.fold(start, |sum, product| sum + product);
            assert_eq!(sum.reduce().scalar(), expected);
        }
    }
}

#[test]
fn the_largest_sum_is_reduced() {
    let largest = Fr::new(&-Scalar::ONE);
    let mut sum = Sum::of(&largest);
    sum.add_dot(&[largest; 29], &[largest; 29]);
    assert_eq!(sum.reduce().scalar(), Scalar::from(28));
}

/// Words that are all ones hand a carry on: one of these sums ended the program with `attempt to add with
/// overflow`.
#[test]
fn a_carry_goes_through_words_of_ones() {
    let top = field::canonical::MODULUS[3];
    let from_words = |words: [u64; 4]| Scalar::from(blst_fr { l: words });
    let words = [0, 1, u64::MAX - 1, u64::MAX];
    let elements = words
        .into_iter()
        .flat_map(|low| [0, 1, top - 1].map(|high| [low, u64::MAX, u64::MAX, high]));
    let elements: Vec<Scalar> = elements.map(from_words).collect();
    for start in &elements {
        for a in &elements {
            for b in &elements {
                let factors = [Fr::new(a), Fr::new(b)];
                let mut sum = Sum::of(&Fr::new(start));
                sum.add_dot(&factors, &factors);
                let expected = *start + a.square() + b.square();
                assert_eq!(sum.reduce().scalar(), expected, "{start:?} {a:?} {b:?}");
            }
        }
    }
}

#[test]
fn squares_and_sums_are_those_of_blst() {
    let scalars = scalars(200, 2);
    for (a, b) in scalars.iter().zip(scalars.iter().rev()) {
        let (x, y) = (Fr::new(a), Fr::new(b));
        assert_eq!(x.square().scalar(), a.square());
        assert_eq!(x.add_lazily(&y).scalar(), a + b);
        assert_eq!(x.to_number(), a.to_bytes_le());
        assert_eq!(Fr::from_number(&a.to_bytes_le()), Some(x));
    }
    assert_eq!(Fr::from_number(&[0xff; 32]), None);
}
