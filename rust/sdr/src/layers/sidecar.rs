//! The file beside a layer that says what the layer is and what its checksum is.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::LayerId;
use crate::durable::publish;
use crate::graph::GraphVersion;

/// JSON contents of a sidecar file.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
pub struct Sidecar {
    format: u32,
    replica_id: String,
    porep_id: String,
    graph_version: String,
    pub(super) layer: u32,
    /// Bytes of the layer.
    pub(super) size: u64,
    /// XXH3 with 128 bits over the whole layer, hex.
    pub(super) checksum: String,
}

impl Sidecar {
    /// The sidecar of a layer with these bytes digested.
    pub fn new(id: &LayerId, digested: &Xxh3) -> Self {
        Sidecar {
            format: 1,
            replica_id: hex::encode(id.replica_id),
            porep_id: hex::encode(id.spec.porep_id),
            graph_version: match id.spec.version {
                GraphVersion::V1_0 => "1.0".to_owned(),
                GraphVersion::V1_1 => "1.1".to_owned(),
            },
            layer: id.layer,
            size: id.size(),
            checksum: format!("{:032x}", digested.digest128()),
        }
    }

    /// The sidecar of a layer; none if it is missing or unreadable.
    pub fn read(id: &LayerId, cache_dir: &Path) -> Option<Self> {
        Self::read_from(&id.sidecar(cache_dir))
    }

    /// The same of a sidecar file.
    pub fn read_from(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Puts it on the disk.
    pub fn write(&self, id: &LayerId, cache_dir: &Path) -> Result<()> {
        publish(&id.sidecar(cache_dir), &serde_json::to_vec(self)?)
    }

    /// Whether both are of the same layer of the same sector; the checksums may differ.
    pub fn same_layer(&self, other: &Sidecar) -> bool {
        self.same_sector(other) && self.layer == other.layer
    }

    /// Whether both are of the same sector; the layers may differ.
    pub fn same_sector(&self, other: &Sidecar) -> bool {
        let sector = |of: &Sidecar| {
            let Sidecar {
                format,
                replica_id,
                porep_id,
                graph_version,
                size,
                ..
            } = of;
            (
                *format,
                replica_id.clone(),
                porep_id.clone(),
                graph_version.clone(),
                *size,
            )
        };
        sector(self) == sector(other)
    }
}
