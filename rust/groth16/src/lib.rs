//! Groth16 proofs over BLS12-381 for the circuits of the proofs crate, on CPUs.
//!
//! A circuit is synthesised by its own code into an [`Assignment`](assignment::Assignment); the parameter
//! file is mapped and read where it is needed. The transforms and the multi-scalar multiplications are
//! written once, over lanes of field elements: one element wide by blst, which any CPU can do, and
//! eight wide where the CPU has AVX-512 IFMA. Proofs are those of `bellperson`, byte for byte when the
//! random blinding is the same.

mod arithmetic;
mod assignment;
mod density;
mod fft;
mod kernel;
mod memory;
mod msm;
mod parameters;
mod prover;
mod quotient;
#[cfg(test)]
mod testing;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use arithmetic::Arithmetic;
pub use assignment::{Assignment, Stopped};
pub use memory::Memory;
pub use parameters::Parameters;
pub use prover::{prove, synthesise, Progress};
pub use quotient::Unsatisfied;
