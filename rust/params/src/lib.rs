//! Groth16 parameters: which sets there are, what they are called, and a generator for the local
//! networks' ones.
//!
//! The proving library can generate parameters too, with 255 doublings for every group element:
//! over twenty CPU minutes for the sealing circuit of 2 KiB sectors. The generator here multiplies
//! with fixed-base window tables and affine additions that share their inversions. Given the same
//! trapdoor it writes the same bytes.

mod circuits;
mod curve;
mod field;
mod fixed_base;
mod generator;
mod layout;
mod monitor;
mod qap;
mod shapes;
mod trapdoor;

use std::fs::File;
use std::path::PathBuf;

use anyhow::Result;
use bellperson::Circuit;
use blstrs::Scalar;
use storage_proofs_core::parameter_cache;

pub use circuits::{
    CircuitVisitor, Identity, Kind, ParameterSet, LOCAL_SECTOR_SIZES, SECTOR_SIZES,
};
pub use generator::{generate, Generated};
pub use monitor::Monitor;
pub use qap::Shape;
pub use trapdoor::{Trapdoor, SEED};

/// Where the proving library looks for parameters: `FIL_PROOFS_PARAMETER_CACHE`, or its default.
///
/// The library reads its settings once per process.
pub fn cache_dir() -> PathBuf {
    parameter_cache::parameter_cache_dir()
}

/// The published digest of every published file: (file name, first 32 hexadecimal digits of
/// BLAKE2b-512).
pub fn published_digests() -> impl Iterator<Item = (&'static str, &'static str)> {
    let published = parameter_cache::PARAMETERS.iter();
    published.map(|(name, data)| (name.as_str(), data.digest.as_str()))
}

/// Generates the local, insecure parameters of `set` into `file`, as [`generate`] does.
///
/// The trapdoor comes from the public [`SEED`], so the bytes are the same on every host. An error
/// for sector sizes that public networks use.
pub fn generate_local(set: &ParameterSet, file: &File, monitor: &Monitor) -> Result<Generated> {
    struct Generate<'a> {
        file: &'a File,
        monitor: &'a Monitor,
    }

    impl CircuitVisitor for Generate<'_> {
        type Output = Generated;

        fn visit<C: Circuit<Scalar>>(
            self,
            identity: Identity,
            blank: &(dyn Fn() -> C + Sync),
        ) -> Result<Generated> {
            let trapdoor = Trapdoor::public(&identity.name);
            generate(blank, &trapdoor, self.file, self.monitor)
        }
    }

    set.visit_local(Generate { file, monitor })
}
