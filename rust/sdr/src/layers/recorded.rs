//! Checking layers while somebody else reads them, without knowing the sector they are of.

use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::layer_file;
use super::sidecar::Sidecar;

/// What the checksum file of a layer says.
pub struct Recorded(Sidecar);

impl Recorded {
    /// That of layer `layer`, from 1; none if it is missing or unreadable.
    pub fn read(cache_dir: &Path, layer: u32) -> Option<Self> {
        Sidecar::read_from(&layer_file(cache_dir, layer, "sum")).map(Recorded)
    }

    /// Whether this is layer `layer` of `size` bytes, of the same sector as `other`.
    pub fn belongs(&self, layer: u32, size: u64, other: &Recorded) -> bool {
        self.0.layer == layer && self.0.size == size && self.0.same_sector(&other.0)
    }

    /// The checksum in hex.
    pub fn checksum(&self) -> &str {
        &self.0.checksum
    }
}

/// The checksum of a layer, made while it is read from its start to its end.
#[derive(Default)]
pub struct Checksum(Xxh3);

impl Checksum {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of the bytes so far, as [`Recorded::checksum`] has it.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}
