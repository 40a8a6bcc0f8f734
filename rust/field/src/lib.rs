//! Arithmetic in the two fields of BLS12-381: one element at a time on any machine, four at a time with
//! AVX2 (scalar field), eight with AVX-512 IFMA.
//!
//! The wide types need a CPU that has the instructions: whoever holds the module [`cpu`]'s proof of them
//! need not ask again.

pub mod canonical;
pub mod cpu;
// The functions of the wide modules are unsafe to call for one reason only, which their attribute states:
// the CPU must have the instructions.
#[allow(clippy::missing_safety_doc)]
#[cfg(target_arch = "x86_64")]
pub mod fp8;
pub mod fr;
#[allow(clippy::missing_safety_doc)]
#[cfg(target_arch = "x86_64")]
pub mod fr4;
#[allow(clippy::missing_safety_doc)]
#[cfg(target_arch = "x86_64")]
pub mod fr8;
#[cfg(target_arch = "x86_64")]
mod limbs;
#[cfg(target_arch = "x86_64")]
mod radix;
