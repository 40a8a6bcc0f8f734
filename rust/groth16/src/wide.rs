//! Kernels on CPUs with AVX-512 IFMA.

use crate::kernel::Kernel;

/// Runs a kernel, compiled for AVX-512 F and IFMA.
///
/// # Safety
///
/// The CPU has both.
#[target_feature(enable = "avx512f,avx512ifma")]
pub unsafe fn with_ifma<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
