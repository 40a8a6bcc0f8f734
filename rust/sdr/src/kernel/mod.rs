//! Hashing: kernels advance several lanes, each one sector's chain of labels, together on one thread.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod lane;
mod measure;
mod pairs;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sha256;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod tuned;

use std::env;
use std::ffi::OsStr;

use anyhow::{bail, Result};

#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use lane::{Lane, LaneMemory};
pub use measure::{best_lanes, Throughput};
pub use pairs::parents;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use sha_ni::ShaNi;
pub use tuned::Tuned;

/// Who hashes: `portable`, or no value for the fastest.
pub const CHOICE: &str = "DAMOCLES_PC1_KERNEL";

/// A way to compute labels.
///
/// A label is SHA-256 of replica id, layer and node, then 37 parents: 20 compressions, whatever the
/// layer. So lanes may be at different nodes and layers, with different graphs.
pub trait Kernel: Send + Sync {
    /// Name for people: the instructions it uses.
    fn name(&self) -> &str;

    /// Most lanes that [`Kernel::label`] takes at once.
    fn max_lanes(&self) -> usize;

    /// Numbers of lanes to be measured, in order, the most among them. Fewer lanes than one of them take
    /// no longer.
    fn groups(&self) -> Vec<usize> {
        (1..=self.max_lanes()).collect()
    }

    /// Computes the labels of the next `count` nodes of every lane, and moves the lanes on.
    ///
    /// # Safety
    ///
    /// Every lane must have had its next `count` rows of parents checked ([`Lane::check`]), and have
    /// that many nodes left.
    unsafe fn label(&self, lanes: &mut [&mut Lane], count: u32);
}

/// The kernels that this machine has the instructions for: the one that is fastest for a single lane,
/// then those for many.
pub fn available() -> Vec<Box<dyn Kernel>> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut kernels: Vec<Box<dyn Kernel>> = Vec::new();
        match ShaNi::detect() {
            Some(kernel) => kernels.push(Box::new(kernel)),
            None => kernels.push(Box::new(Portable)),
        }
        if let Some(kernel) = Avx512::detect() {
            kernels.push(Box::new(kernel));
        }
        kernels
    }
    #[cfg(not(target_arch = "x86_64"))]
    vec![Box::new(Portable)]
}

/// The kernels that the environment names ([`CHOICE`]): [`Portable`] to do without special instructions,
/// else those of [`available`].
pub fn chosen() -> Result<Vec<Box<dyn Kernel>>> {
    named(&env::var_os(CHOICE).unwrap_or_default())
}

fn named(value: &OsStr) -> Result<Vec<Box<dyn Kernel>>> {
    match value.to_str() {
        Some("") => Ok(available()),
        Some("portable") => Ok(vec![Box::new(Portable)]),
        _ => bail!(
            "{CHOICE}={}: expected portable, or no value for the fastest that the CPU can do",
            value.display()
        ),
    }
}

/// Computes the labels of the next `count` nodes of every lane (fewer than that for none of them: see
/// [`Lane::left`]).
///
/// Fails if a parent of one of them is out of bounds, before any label is computed.
pub fn advance(kernel: &dyn Kernel, lanes: &mut [&mut Lane], count: u32) -> Result<()> {
    assert!(
        lanes.len() <= kernel.max_lanes(),
        "more lanes than the kernel takes"
    );
    for lane in lanes.iter() {
        lane.check(count)?;
    }
    // SAFETY: each lane's rows were checked in the line above, which includes that `count` are left.
    unsafe { kernel.label(lanes, count) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kernel_is_refused() {
        let error = named(OsStr::new("sha-ni")).err().unwrap().to_string();
        assert!(
            error.starts_with("DAMOCLES_PC1_KERNEL=sha-ni: expected portable"),
            "{error}"
        );
        assert_eq!(named(OsStr::new("")).unwrap().len(), available().len());
    }
}
