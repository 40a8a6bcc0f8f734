//! The Poseidon hashes of sectors: neptune's instances of arity 2, 8 and 11 over the scalar field of
//! BLS12-381, many at a time.
//!
//! On a CPU with AVX-512 IFMA sixteen are computed at a time, with AVX2 eight, elsewhere one element
//! after the other; sums of products are reduced once on all of them. The constants are neptune's, computed by it when an instance is first used.

#[cfg(target_arch = "x86_64")]
mod lanes;
mod one;
mod permutation;
mod preimages;
mod schedule;

use std::sync::LazyLock;

use blstrs::Scalar;
use field::cpu::{Avx2, Ifma};
use field::fr;
#[cfg(target_arch = "x86_64")]
use field::{fr4, fr8};
use neptune::poseidon::{Arity, PoseidonConstants};
use typenum::{U11, U2, U8};

pub use preimages::{Node, NotAnElement, Preimages};
use schedule::Schedule;

/// Columns of sectors with two layers; the top of the trees of 64 GiB; comm_r.
pub static ARITY_2: LazyLock<Poseidon> = LazyLock::new(Poseidon::new::<U2>);
/// The trees.
pub static ARITY_8: LazyLock<Poseidon> = LazyLock::new(Poseidon::new::<U8>);
/// Columns of sectors with eleven layers.
pub static ARITY_11: LazyLock<Poseidon> = LazyLock::new(Poseidon::new::<U11>);

/// What computes the hashes.
#[derive(Clone, Copy, Debug)]
pub enum Kernel {
    /// One element at a time, on any machine.
    One,
    /// Eight hashes at a time.
    Avx2(Avx2),
    /// Sixteen hashes at a time.
    Ifma(Ifma),
}

impl Kernel {
    /// Those of this machine, the fastest last.
    pub fn all() -> Vec<Self> {
        let wide = [
            Avx2::detect().map(Kernel::Avx2),
            Ifma::detect().map(Kernel::Ifma),
        ];
        [Kernel::One]
            .into_iter()
            .chain(wide.into_iter().flatten())
            .collect()
    }

    /// The fastest of this machine.
    pub fn best() -> Self {
        Self::all().pop().unwrap_or(Kernel::One)
    }

    /// Its name for logs and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::One => "one at a time",
            Kernel::Avx2(_) => "AVX2",
            Kernel::Ifma(_) => "AVX-512 IFMA",
        }
    }
}

/// One instance.
pub struct Poseidon {
    arity: usize,
    one: Schedule<fr::Constant>,
    #[cfg(target_arch = "x86_64")]
    four: Schedule<fr4::Constant>,
    #[cfg(target_arch = "x86_64")]
    eight: Schedule<fr8::Constant>,
}

impl Poseidon {
    fn new<A: Arity<Scalar>>() -> Self {
        let constants = PoseidonConstants::<Scalar, A>::new();
        Poseidon {
            arity: constants.arity(),
            one: Schedule::new(&constants, fr::Constant::new),
            #[cfg(target_arch = "x86_64")]
            four: Schedule::new(&constants, fr4::Constant::new),
            #[cfg(target_arch = "x86_64")]
            eight: Schedule::new(&constants, fr8::Constant::new),
        }
    }

    /// Nodes in a preimage.
    pub fn arity(&self) -> usize {
        self.arity
    }

    /// Writes the hashes of as many preimages as there are `digests`, and fails if a node is no field
    /// element. Panics if there are more or fewer preimages, or they are of another arity.
    pub fn hash(
        &self,
        kernel: Kernel,
        preimages: Preimages<'_>,
        digests: &mut [Node],
    ) -> Result<(), NotAnElement> {
        preimages.assert_shape(self.arity, digests.len());
        if let Some(foreign) = preimages.first_foreign() {
            return Err(foreign);
        }
        match (kernel, self.arity) {
            (Kernel::One, 2) => one::hash::<3>(&self.one, preimages, digests),
            (Kernel::One, 8) => one::hash::<9>(&self.one, preimages, digests),
            (Kernel::One, 11) => one::hash::<12>(&self.one, preimages, digests),
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx2(avx2), 2) => lanes::four::hash::<3>(avx2, &self.four, preimages, digests),
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx2(avx2), 8) => lanes::four::hash::<9>(avx2, &self.four, preimages, digests),
            #[cfg(target_arch = "x86_64")]
            (Kernel::Avx2(avx2), 11) => {
                lanes::four::hash::<12>(avx2, &self.four, preimages, digests)
            }
            #[cfg(target_arch = "x86_64")]
            (Kernel::Ifma(ifma), 2) => {
                lanes::eight::hash::<3>(ifma, &self.eight, preimages, digests)
            }
            #[cfg(target_arch = "x86_64")]
            (Kernel::Ifma(ifma), 8) => {
                lanes::eight::hash::<9>(ifma, &self.eight, preimages, digests)
            }
            #[cfg(target_arch = "x86_64")]
            (Kernel::Ifma(ifma), 11) => {
                lanes::eight::hash::<12>(ifma, &self.eight, preimages, digests)
            }
            _ => unreachable!("no instance of arity {}", self.arity),
        }
        Ok(())
    }

    /// The hash of one preimage.
    pub fn hash_one(&self, preimage: &[Node]) -> Result<Node, NotAnElement> {
        let mut digest = [Node::default()];
        self.hash(Kernel::One, Preimages::Rows(preimage), &mut digest)?;
        Ok(digest[0])
    }
}
