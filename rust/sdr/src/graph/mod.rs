//! The stacked graph: six DRG parents in the same layer and eight expander parents in the layer
//! before, for every node, from a porep id. Equal to the proofs crate's `StackedBucketGraph`.

mod drg;
mod feistel;

use anyhow::{ensure, Result};
use sha2::{Digest, Sha256};

use drg::Drg;
use feistel::Expander;

/// Bytes of a label, and of a node of the sector.
pub const NODE_SIZE: usize = 32;
/// Parents of a node in its own layer.
pub const BASE_DEGREE: usize = 6;
/// Parents of a node in the layer before.
pub const EXP_DEGREE: usize = 8;
/// All parents of a node.
pub const DEGREE: usize = BASE_DEGREE + EXP_DEGREE;

/// The parents of one node: `BASE_DEGREE` in its layer, then `EXP_DEGREE` in the layer before.
pub type Parents = [u32; DEGREE];

/// Which rules the graph follows; it goes with the seal proof type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphVersion {
    /// Proof types `…V1`: the predecessor is the last base parent, and expander indices are
    /// truncated to 32 bits before they are divided (which matters from 32 GiB on).
    V1_0,
    /// Proof types `…V1_1` and `…V1_2`, synthetic and non-interactive ones too: the predecessor is
    /// the first base parent.
    V1_1,
}

/// What decides a graph: two sectors with equal specs have the same parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphSpec {
    /// Id of the proof of replication, 32 bytes, from the seal proof type.
    pub porep_id: [u8; 32],
    pub version: GraphVersion,
    /// Nodes of a layer: sector bytes / 32.
    pub nodes: u32,
}

impl GraphSpec {
    /// A spec for a sector of `sector_size` bytes.
    ///
    /// Fails unless the size is a multiple of 32 bytes with 2 to 2^32 − 1 nodes.
    pub fn new(porep_id: [u8; 32], version: GraphVersion, sector_size: u64) -> Result<Self> {
        let node_size = NODE_SIZE as u64;
        let nodes = sector_size / node_size;
        ensure!(
            sector_size.is_multiple_of(node_size) && (2..=u64::from(u32::MAX)).contains(&nodes),
            "sector size {sector_size}: expected a multiple of {node_size} bytes with 2 to 2^32 - 1 nodes"
        );
        Ok(GraphSpec {
            porep_id,
            version,
            nodes: nodes as u32,
        })
    }

    /// Bytes of one layer, which are those of the sector.
    pub fn layer_size(&self) -> u64 {
        u64::from(self.nodes) * NODE_SIZE as u64
    }
}

/// A graph that answers for any node, with its tables built.
pub struct Graph {
    spec: GraphSpec,
    drg: Drg,
    expander: Expander,
}

impl Graph {
    /// Tabulates the Feistel round function: three tables of 2^half_bits entries, 1.5 MiB and some
    /// 60 ms for 32 GiB.
    pub fn new(spec: GraphSpec) -> Self {
        Graph {
            spec,
            drg: Drg::new(
                domain_seed("Filecoin_DRSample", &spec.porep_id),
                spec.version,
            ),
            expander: Expander::new(feistel_keys(&spec.porep_id), spec),
        }
    }

    pub fn spec(&self) -> &GraphSpec {
        &self.spec
    }

    /// The parents of `node`, which must be below the number of nodes.
    pub fn parents(&self, node: u32) -> Parents {
        assert!(node < self.spec.nodes, "node {node} is beyond the layer");
        let mut parents = [0; DEGREE];
        self.drg.parents(node, &mut parents[..BASE_DEGREE]);
        self.expander.parents(node, &mut parents[BASE_DEGREE..]);
        parents
    }
}

/// SHA-256 of a domain tag and the porep id, the seed of everything random in the graph.
fn domain_seed(tag: &str, porep_id: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(tag)
        .chain_update(porep_id)
        .finalize()
        .into()
}

/// The four keys of the expander's Feistel network (three are used by its rounds, all four name the
/// parents cache file).
pub(crate) fn feistel_keys(porep_id: &[u8; 32]) -> [u64; 4] {
    let seed = domain_seed("Filecoin_Feistel", porep_id);
    let mut keys = [0; 4];
    for (key, bytes) in keys.iter_mut().zip(seed.chunks_exact(8)) {
        *key = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    keys
}
