//! Layer files: written while they are hashed, checked before they are trusted.

mod reader;
mod recorded;
mod sidecar;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::graph::GraphSpec;
pub use reader::{check, load, Found};
pub use recorded::{Checksum, Recorded};
pub use writer::Writer;

/// Bytes read, written and checksummed at a time.
const CHUNK: usize = 8 << 20;

/// Which layer of which sector: what a layer's labels depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerId {
    pub spec: GraphSpec,
    pub replica_id: [u8; 32],
    /// From 1.
    pub layer: u32,
}

impl LayerId {
    /// Where the layer is in a sector's cache directory, named as the proofs crate names it.
    pub fn path(&self, cache_dir: &Path) -> PathBuf {
        self.file(cache_dir, "dat")
    }

    /// Where its checksum is. The name starts as the layer's does, so that whoever removes the layers
    /// removes the checksums.
    fn sidecar(&self, cache_dir: &Path) -> PathBuf {
        self.file(cache_dir, "sum")
    }

    /// Where it is while it is written.
    fn partial(&self, cache_dir: &Path) -> PathBuf {
        self.file(cache_dir, "partial")
    }

    fn file(&self, cache_dir: &Path, extension: &str) -> PathBuf {
        layer_file(cache_dir, self.layer, extension)
    }

    fn size(&self) -> u64 {
        self.spec.layer_size()
    }
}

fn layer_file(cache_dir: &Path, layer: u32, extension: &str) -> PathBuf {
    cache_dir.join(format!("sc-02-data-layer-{layer}.{extension}"))
}

/// Removes a file unless it is missing.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
