//! Every operation held against blst, edge values among the operands.

use std::io::{self, Write};

use blst::{blst_fp, blst_fp2};

use super::*;
use crate::cpu::Ifma;

/// Random pairs, besides those of edges.
const SAMPLES: usize = 20_000;

/// Whether this CPU can run the tests; says so if not.
fn possible() -> bool {
    let possible = Ifma::detect().is_some();
    if !possible {
        // Test runners hold back what print macros write.
        let _ = writeln!(io::stderr(), "skipped: this CPU has no AVX-512 IFMA");
    }
    possible
}

/// Random numbers below 2³⁸⁰, so below p (xorshift), after numbers below p around powers of two at the ends of
/// limbs and words, at zero and at p: as the limbs of a value have them.
fn numbers(count: usize) -> Vec<[u64; 6]> {
    let next_to = |number: [u64; 6], addend: [u64; 6]| {
        let mut carry = 0;
        std::array::from_fn(|i| {
            let wide = u128::from(number[i]) + u128::from(addend[i]) + u128::from(carry);
            carry = (wide >> 64) as u64;
            wide as u64
        })
    };
    let (one, minus_one) = ([1, 0, 0, 0, 0, 0], [u64::MAX; 6]);
    let mut numbers = vec![[0; 6], one, next_to(MODULUS, minus_one)];
    for bit in [
        1, 52, 64, 104, 128, 156, 192, 208, 256, 260, 312, 320, 364, 380,
    ] {
        let mut power = [0u64; 6];
        power[bit / 64] = 1 << (bit % 64);
        numbers.extend([power, next_to(power, minus_one), next_to(power, one)]);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    while numbers.len() < count {
        let mut number = [0; 6].map(|_: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        number[5] >>= 4;
        numbers.push(number);
    }
    numbers.truncate(count);
    numbers
}

/// How many of [`numbers`] are edges.
const EDGES: usize = 3 + 14 * 3;

/// Field elements: those whose values are [`numbers`].
fn elements(count: usize) -> Vec<blst_fp> {
    let numbers = numbers(count).into_iter();
    numbers
        .map(|number| Element(from_words(number)).to_blst())
        .collect()
}

/// All pairs of edges, then random ones, eight at a time.
fn many_groups() -> Vec<([blst_fp; LANES], [blst_fp; LANES])> {
    let elements = elements(EDGES + SAMPLES);
    let (edges, random) = elements.split_at(EDGES);
    let mut all = groups(edges);
    let pairs = random
        .chunks_exact(LANES)
        .zip(random.chunks_exact(LANES).rev());
    all.extend(pairs.map(|(a, b)| (a.try_into().unwrap(), b.try_into().unwrap())));
    all
}

type Binary = unsafe extern "C" fn(*mut blst_fp, *const blst_fp, *const blst_fp);

fn binary(a: &blst_fp, b: &blst_fp, operation: Binary) -> blst_fp {
    let mut out = blst_fp::default();
    // SAFETY: all three are one element.
    unsafe { operation(&mut out, a, b) };
    out
}

/// All pairs of `elements`, eight at a time.
fn groups(elements: &[blst_fp]) -> Vec<([blst_fp; LANES], [blst_fp; LANES])> {
    let pairs: Vec<_> = elements
        .iter()
        .flat_map(|a| elements.iter().map(move |b| (*a, *b)))
        .collect();
    let groups = pairs.chunks_exact(LANES);
    groups
        .map(|group| {
            let side =
                |of: fn(&(blst_fp, blst_fp)) -> blst_fp| std::array::from_fn(|i| of(&group[i]));
            (side(|pair| pair.0), side(|pair| pair.1))
        })
        .collect()
}

fn pack(elements: &[blst_fp; LANES]) -> Fp8 {
    let elements = elements.map(|element| Element::from_blst(&element));
    // SAFETY: every test asks for the instructions first.
    unsafe { Fp8::load(|lane| &elements[lane]) }
}

/// The same elements, as values p larger.
fn pack_larger(elements: &[blst_fp; LANES]) -> Fp8 {
    let larger = elements.map(|element| {
        let mut limbs = Element::from_blst(&element).0;
        let mut carry = 0;
        for (limb, p) in limbs.iter_mut().zip(P) {
            let sum = *limb + p + carry;
            *limb = sum & MASK;
            carry = sum >> LIMB_BITS;
        }
        Element(limbs)
    });
    // SAFETY: every test asks for the instructions first.
    unsafe { Fp8::load(|lane| &larger[lane]) }
}

fn unpack(packed: Fp8) -> [blst_fp; LANES] {
    // SAFETY: every test asks for the instructions first.
    unsafe { packed.store() }.map(|element| element.to_blst())
}

#[test]
fn operations_are_those_of_blst() {
    if !possible() {
        return;
    }
    for (a, b) in many_groups() {
        for (x, y) in [
            (pack(&a), pack(&b)),
            (pack_larger(&a), pack(&b)),
            (pack(&a), pack_larger(&b)),
            (pack_larger(&a), pack_larger(&b)),
        ] {
            agree(&a, &b, x, y);
        }
    }
}

/// What the operations make of `x` and `y`, values of `a` and `b`, is what blst makes of them.
fn agree(a: &[blst_fp; LANES], b: &[blst_fp; LANES], x: Fp8, y: Fp8) {
    let expect = |operation| std::array::from_fn(|lane| binary(&a[lane], &b[lane], operation));
    // SAFETY: the CPU has the instructions.
    unsafe {
        assert_eq!(unpack(x.mul(&y)), expect(blst::blst_fp_mul));
        assert_eq!(unpack(x.add(&y)), expect(blst::blst_fp_add));
        assert_eq!(unpack(x.sub(&y)), expect(blst::blst_fp_sub));
        assert_eq!(unpack(x), *a);
        assert_eq!(unpack(x.square()), unpack(x.mul(&x)));
        // Lazy results are only multiplied; a product with one reduces them.
        let one = Fp8::one();
        let difference = x.sub_lazily(&y);
        assert_eq!(unpack(difference.mul(&one)), unpack(x.sub(&y)));
        assert_eq!(unpack(difference.square()), unpack(x.sub(&y).square()));
        let sum = x.add_lazily(&y);
        assert_eq!(
            unpack(sum.mul(&difference)),
            unpack(x.add(&y).mul(&x.sub(&y)))
        );
        let zero = one.sub(&one);
        let negated = unpack(x.negate(0b1010_0101).mul(&one));
        let (kept, all) = (unpack(x), unpack(zero.sub(&x)));
        for lane in 0..LANES {
            let expected = if [0, 2, 5, 7].contains(&lane) {
                all
            } else {
                kept
            };
            assert_eq!(negated[lane], expected[lane]);
        }
    }
}

#[test]
fn unreduced_values_are_taken() {
    if !possible() {
        return;
    }
    // SAFETY: the CPU has the instructions.
    unsafe {
        // 2p − 1, the largest reduced value, stands for −1 / R.
        let mut largest = P_TWICE;
        largest[0] -= 1;
        let largest = Fp8::splat(&largest);
        let same = largest.mul(&Fp8::one());
        assert_eq!(unpack(largest), unpack(same));
        assert_eq!(unpack(largest.add(&largest)), unpack(same.add(&same)));
        assert_eq!(unpack(largest.square()), unpack(same.square()));
        assert_eq!(unpack(same.sub(&largest)), [blst_fp::default(); LANES]);
        let zero = same.sub(&same);
        assert_eq!(unpack(zero.sub(&largest)), unpack(zero.sub(&same)));
    }
}

#[test]
fn inverses_multiply_to_one_and_zero_has_none() {
    if !possible() {
        return;
    }
    let elements = elements(40);
    // SAFETY: the CPU has the instructions.
    unsafe {
        let one = unpack(Fp8::one());
        for group in elements[1..].chunks_exact(LANES) {
            let packed = pack(group.try_into().unwrap());
            let inverse = packed.invert().unwrap();
            assert_eq!(unpack(packed.mul(&inverse)), one);
        }
        for lane in 0..LANES {
            let mut group: [blst_fp; LANES] = elements[8..16].try_into().unwrap();
            group[lane] = blst_fp::default();
            assert!(pack(&group).invert().is_none());
        }
    }
}

#[test]
fn encoded_numbers_are_read() {
    if !possible() {
        return;
    }
    let elements: [blst_fp; LANES] = elements(LANES).try_into().unwrap();
    let numbers = elements.map(|element| {
        let mut bytes = [0; 48];
        // SAFETY: blst writes 48 bytes.
        unsafe { blst::blst_bendian_from_fp(bytes.as_mut_ptr(), &element) };
        read(&bytes)
    });
    // SAFETY: the CPU has the instructions.
    let packed = unsafe { Fp8::load(|lane| &numbers[lane]).into_montgomery() };
    assert_eq!(unpack(packed), elements);
}

#[test]
fn the_extension_is_that_of_blst() {
    if !possible() {
        return;
    }
    let to_blst = |elements: [Element2; LANES]| elements.map(|element| element.to_blst());
    for (a, b) in groups(&elements(EDGES + 19)) {
        // Each pair is an element, and its mirror image another.
        let (x, y) = (pack(&a), pack(&b));
        let (u, v) = (
            Fp2x8 {
                real: x,
                imaginary: y,
            },
            Fp2x8 {
                real: y,
                imaginary: x,
            },
        );
        let element = |real, imaginary| blst_fp2 {
            fp: [real, imaginary],
        };
        // SAFETY: the CPU has the instructions; blst reads and writes one element through each pointer.
        unsafe {
            let (product, square) = (to_blst(u.mul(&v).store()), to_blst(u.square().store()));
            let lazy = to_blst(u.sub_lazily(&v).square().store());
            let exact = to_blst(u.sub(&v).square().store());
            assert_eq!(lazy, exact);
            let (sum, inverse) = (to_blst(u.add(&v).store()), u.invert());
            for lane in 0..LANES {
                let (c, d) = (element(a[lane], b[lane]), element(b[lane], a[lane]));
                let mut expected = blst_fp2::default();
                blst::blst_fp2_mul(&mut expected, &c, &d);
                assert_eq!(product[lane], expected);
                blst::blst_fp2_sqr(&mut expected, &c);
                assert_eq!(square[lane], expected);
                blst::blst_fp2_add(&mut expected, &c, &d);
                assert_eq!(sum[lane], expected);
                if let Some(inverse) = inverse {
                    blst::blst_fp2_eucl_inverse(&mut expected, &c);
                    assert_eq!(to_blst(inverse.store())[lane], expected);
                }
            }
        }
    }
}
