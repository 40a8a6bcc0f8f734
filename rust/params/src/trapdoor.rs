//! The secrets of a setup, which here are no secrets.
//!
//! Whoever knows tau, alpha, beta, gamma and delta can prove anything. The parameters of a public
//! network come from a ceremony that destroys them; the parameters of a local network are derived
//! from a fixed public seed, so that every host makes the same files and none needs to copy them.

use blstrs::{G1Projective, G2Projective, Scalar};
use ff::Field;
use group::Group;
use sha2::{Digest, Sha256};

/// The public seed of all local parameter sets. A change of it, or of how it is used, changes every
/// file this program generates.
pub const SEED: &str = "damocles-worker local groth16 parameters, insecure, version 1";

/// Everything a Groth16 setup chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Trapdoor {
    pub g1: G1Projective,
    pub g2: G2Projective,
    pub alpha: Scalar,
    pub beta: Scalar,
    pub gamma: Scalar,
    pub delta: Scalar,
    pub tau: Scalar,
}

impl Trapdoor {
    /// Derives the trapdoor of the parameter set called `name` from [`SEED`].
    pub fn public(name: &str) -> Self {
        Self {
            g1: G1Projective::generator(),
            g2: G2Projective::generator(),
            alpha: scalar(name, "alpha"),
            beta: scalar(name, "beta"),
            gamma: scalar(name, "gamma"),
            delta: scalar(name, "delta"),
            tau: scalar(name, "tau"),
        }
    }
}

/// SHA-256 over seed, name, label and a counter, cut to 255 bits; the counter rises until the number
/// is below the field's order and not zero.
fn scalar(name: &str, label: &str) -> Scalar {
    (0u64..)
        .find_map(|counter| {
            let mut hasher = Sha256::new();
            for part in [SEED, name, label] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
            hasher.update(counter.to_le_bytes());
            let mut bytes: [u8; 32] = hasher.finalize().into();
            bytes[31] &= 0x7f;
            let scalar: Option<Scalar> = Scalar::from_bytes_le(&bytes).into();
            scalar.filter(|scalar| !scalar.is_zero_vartime())
        })
        .expect("one hash in two gives a scalar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derivation_is_fixed() {
        let trapdoor = Trapdoor::public("v28-example");
        assert_eq!(trapdoor, Trapdoor::public("v28-example"));
        assert_ne!(trapdoor.tau, Trapdoor::public("v28-other").tau);
        assert_ne!(trapdoor.tau, trapdoor.alpha);
    }
}
