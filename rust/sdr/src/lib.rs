//! PC1 labelling engine (stacked DRG, SDR): writes byte for byte the label layers that the proofs
//! crate writes, for several sectors at once on each core.
//!
//! SHA-256 of one sector's labels is a strict chain, bound by the latency of the SHA instructions. A
//! core that hashes the chains of several sectors in turn is bound by their throughput instead.

#[cfg(not(target_endian = "little"))]
compile_error!("the parents cache is mapped as little-endian numbers");

pub mod arena;
pub mod durable;
pub mod engine;
pub mod graph;
pub mod kernel;
pub mod layers;
pub mod lock;
pub mod parents;
mod progress;
mod sector;
pub mod topology;

pub use engine::Engine;
pub use progress::{Progress, Watch};
pub use sector::{label_sector, last_layer, Labels, Outcome, Sector};

/// Receives `(done, total)` of a work's own unit; an error it returns ends the work with that error.
pub type Report<'a> = dyn FnMut(u64, u64) -> anyhow::Result<()> + 'a;
