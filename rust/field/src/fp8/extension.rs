//! Eight elements of Fp2 = Fp\[i\] at a time, i² = −1.

use blst::blst_fp2;

use super::memory::Element;
use super::{Fp8, LANES};

/// Eight elements; both parts are reduced where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Fp2x8 {
    pub real: Fp8,
    pub imaginary: Fp8,
}

/// One element in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Element2 {
    pub real: Element,
    pub imaginary: Element,
}

impl Element2 {
    /// The negative one.
    pub fn negate(&self) -> Self {
        Self {
            real: self.real.negate(),
            imaginary: self.imaginary.negate(),
        }
    }

    pub fn to_blst(&self) -> blst_fp2 {
        blst_fp2 {
            fp: [self.real.to_blst(), self.imaginary.to_blst()],
        }
    }
}

impl Fp2x8 {
    /// One in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn one() -> Self {
        let real = Fp8::one();
        Self {
            real,
            imaginary: real.sub(&real),
        }
    }

    /// `element` gives each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn load<'a>(element: impl Fn(usize) -> &'a Element2) -> Self {
        Self {
            real: Fp8::load(|lane| &element(lane).real),
            imaginary: Fp8::load(|lane| &element(lane).imaginary),
        }
    }

    /// Each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn store(&self) -> [Element2; LANES] {
        let (real, imaginary) = (self.real.store(), self.imaginary.store());
        std::array::from_fn(|lane| Element2 {
            real: real[lane],
            imaginary: imaginary[lane],
        })
    }

    /// The product of values whose parts are at most 4p, with three products in Fp.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn mul(&self, other: &Self) -> Self {
        let real = self.real.mul(&other.real);
        let imaginary = self.imaginary.mul(&other.imaginary);
        let sum = self.real.add_lazily(&self.imaginary);
        let other_sum = other.real.add_lazily(&other.imaginary);
        Self {
            real: real.sub(&imaginary),
            imaginary: sum.mul(&other_sum).sub(&real).sub(&imaginary),
        }
    }

    /// The square, with two products in Fp: (a + b)(a − b) and 2ab.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn square(&self) -> Self {
        let sum = self.real.add_lazily(&self.imaginary);
        let difference = self.real.sub_lazily(&self.imaginary);
        let twice = self.real.add_lazily(&self.real);
        Self {
            real: sum.mul(&difference),
            imaginary: twice.mul(&self.imaginary),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn add(&self, other: &Self) -> Self {
        Self {
            real: self.real.add(&other.real),
            imaginary: self.imaginary.add(&other.imaginary),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn sub(&self, other: &Self) -> Self {
        Self {
            real: self.real.sub(&other.real),
            imaginary: self.imaginary.sub(&other.imaginary),
        }
    }

    /// The difference, whose parts are below 4p.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn sub_lazily(&self, other: &Self) -> Self {
        Self {
            real: self.real.sub_lazily(&other.real),
            imaginary: self.imaginary.sub_lazily(&other.imaginary),
        }
    }

    /// Negates the lanes whose bit is set.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn negate(&self, lanes: u8) -> Self {
        Self {
            real: self.real.negate(lanes),
            imaginary: self.imaginary.negate(lanes),
        }
    }

    /// The inverses, or nothing if a lane is zero: (a − bi) / (a² + b²).
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn invert(&self) -> Option<Self> {
        let norm = self.real.square().add(&self.imaginary.square());
        let inverse = norm.invert()?;
        let zero = inverse.sub(&inverse);
        Some(Self {
            real: self.real.mul(&inverse),
            imaginary: zero.sub(&self.imaginary.mul(&inverse)),
        })
    }
}
