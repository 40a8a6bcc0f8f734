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

use anyhow::Result;

#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use lane::{Lane, LaneMemory};
pub use measure::{best_lanes, Throughput};
pub use pairs::parents;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use sha_ni::ShaNi;
pub use tuned::Tuned;

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
