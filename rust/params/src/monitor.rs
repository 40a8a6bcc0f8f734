//! What a caller on another thread can see of a running generation, and how it stops it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{bail, Result};

/// Shared between the generation and whoever watches it.
///
/// Work is counted in G1 points; a G2 point counts for several. The total is an upper bound until
/// the circuit is evaluated, and zero until its constraints are counted.
#[derive(Debug, Default)]
pub struct Monitor {
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
}

impl Monitor {
    /// (done, total) in G1 points.
    pub fn progress(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Makes the generation end with an error at the next batch of points.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, points: u64) {
        self.done.fetch_add(points, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            bail!("the generation of parameters was stopped");
        }
        Ok(())
    }
}
