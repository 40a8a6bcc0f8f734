//! The field arithmetic a proof is computed with.

use std::fmt;

use blst::{blst_fp, blst_fp2};
use blstrs::Scalar;
use field::cpu::Ifma;

use crate::fft;
use crate::msm::{self, G1, G2};

/// What proofs are computed with. They are the same with either.
#[derive(Clone, Copy, Debug)]
pub enum Arithmetic {
    /// One field element at a time, on any machine.
    Portable,
    /// Eight field elements at a time.
    Wide(Ifma),
}

impl Arithmetic {
    /// The fastest that this CPU can do.
    pub fn best() -> Self {
        Ifma::detect().map_or(Self::Portable, Self::Wide)
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable arithmetic",
            Self::Wide(_) => "AVX-512 IFMA arithmetic",
        })
    }
}

/// Lanes for each of the three fields.
pub trait Fields {
    type Fr: fft::Lanes;
    type Fp: msm::Lanes<G1>;
    type Fp2: msm::Lanes<G2>;
}

/// One element at a time, by blst.
pub struct Portable;

impl Fields for Portable {
    type Fr = Scalar;
    type Fp = blst_fp;
    type Fp2 = blst_fp2;
}

/// Eight elements at a time. Only for a CPU with [`Ifma`].
#[cfg(target_arch = "x86_64")]
pub struct Wide;

#[cfg(target_arch = "x86_64")]
impl Fields for Wide {
    type Fr = field::fr8::Fr8;
    type Fp = field::fp8::Fp8;
    type Fp2 = field::fp8::Fp2x8;
}

/// No CPU of another architecture has [`Ifma`].
#[cfg(not(target_arch = "x86_64"))]
pub type Wide = Portable;
