//! SNARKs by the prover of the `groth16` crate over the library's circuits: what the library's own
//! `CompoundProof::circuit_proofs` does, a partition at a time.

/// Calls `$call` with the tree type of a sector of `$size` bytes as type argument. Of the proofs library's
/// shapes those of the five sector sizes: each makes every circuit once more.
macro_rules! with_tree {
    ($size:expr, $call:ident, $($argument:expr),*) => {
        match $size {
            SECTOR_SIZE_32_GIB => $call::<SectorShape32GiB>($($argument),*),
            SECTOR_SIZE_64_GIB => $call::<SectorShape64GiB>($($argument),*),
            _ => $call::<SectorShapeBase>($($argument),*),
        }
    };
}

mod budget;
mod partitions;
mod post;
mod seal;
mod update;
mod verified;

use std::env;
use std::ffi::OsStr;

use anyhow::{bail, Result};
use bellperson::groth16::Proof;
use blstrs::Bls12;
use groth16::Arithmetic;

use crate::engine_choice::Computer;

use partitions::{prove_partitions, Synthesis};
pub use post::{window_post, winning_post};
pub use seal::seal;
pub use update::update;
pub use verified::{verified, Maker};

/// Environment variable that chooses who proves: `crate` or `groth16`.
const CHOICE: &str = "DAMOCLES_C2_ENGINE";

/// Environment variable that chooses the engine's arithmetic.
const ARITHMETIC: &str = "DAMOCLES_C2_ARITHMETIC";

/// The arithmetic that the prover of the `groth16` crate computes with, or nothing if
/// `DAMOCLES_C2_ENGINE=crate` leaves proving to the library. `DAMOCLES_C2_ARITHMETIC=portable` does without
/// the instructions that not every CPU has.
pub fn engine() -> Result<Option<Arithmetic>> {
    Ok(match Computer::from_env(CHOICE, "groth16")? {
        Computer::Engine => Some(arithmetic(&env::var_os(ARITHMETIC).unwrap_or_default())?),
        Computer::Library => None,
    })
}

fn arithmetic(name: &OsStr) -> Result<Arithmetic> {
    match name.to_str() {
        Some("") => Ok(Arithmetic::best()),
        Some("portable") => Ok(Arithmetic::Portable),
        _ => bail!(
            "{ARITHMETIC}={}: expected portable, or no value for the fastest that the CPU can do",
            name.display()
        ),
    }
}

/// The proofs one behind the other, as they are stored and verified.
fn bytes(proofs: &[Proof<Bls12>]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for proof in proofs {
        proof.write(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arithmetic_is_chosen_by_name() {
        let named = |name: &str| arithmetic(OsStr::new(name));
        assert!(named("").is_ok());
        assert!(matches!(named("portable"), Ok(Arithmetic::Portable)));
        let error = named("avx").unwrap_err().to_string();
        assert!(
            error.starts_with("DAMOCLES_C2_ARITHMETIC=avx: expected portable"),
            "{error}"
        );
    }
}
