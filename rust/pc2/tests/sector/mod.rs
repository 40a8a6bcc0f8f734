//! A sector of eight small base trees, as PC1 leaves it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pc2::Shape;
use poseidon::Node;
use rand_chacha::rand_core::RngCore;
use rand_chacha::ChaCha8Rng;
use sdr::kernel::parents;
use sdr::layers::Checksum;

pub const NODES: usize = 8 * 4096;
pub const LAYERS: usize = 2;
pub const SUB_ARITY: usize = 8;
pub const TREE_D: &str = "sc-02-data-tree-d.dat";

#[allow(dead_code)]
pub const SHAPE: Shape = Shape {
    nodes: NODES as u64,
    layers: LAYERS as u32,
    sub_arity: SUB_ARITY as u64,
    top_arity: 0,
    rows_to_discard: 0,
};

pub fn layer(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("sc-02-data-layer-{number}.dat"))
}

/// Layers with their checksums, tree_d and the sealed file; returns comm_d.
pub fn write(dir: &Path, random: &mut ChaCha8Rng) -> Node {
    let mut nodes = || {
        let mut nodes = vec![Node::default(); NODES];
        for node in &mut nodes {
            random.fill_bytes(node);
            node[31] &= 0x3f;
        }
        nodes
    };
    for number in 1..=LAYERS {
        let labels = nodes();
        let mut checksum = Checksum::default();
        checksum.update(labels.as_flattened());
        let sidecar = format!(
            r#"{{"format":1,"replica_id":"","porep_id":"","graph_version":"1.1","layer":{number},"size":{},
               "checksum":"{}"}}"#,
            NODES * 32,
            checksum.hex()
        );
        let path = layer(dir, number);
        fs::write(path.with_extension("sum"), sidecar).unwrap();
        fs::write(path, labels.as_flattened()).unwrap();
    }
    let data = nodes();
    fs::write(dir.join("sealed"), data.as_flattened()).unwrap();
    let mut tree = data.clone();
    let mut row = data;
    while row.len() > 1 {
        let mut above = vec![Node::default(); row.len() / 2];
        parents(row.as_flattened(), above.as_flattened_mut());
        tree.extend(&above);
        row = above;
    }
    fs::write(dir.join(TREE_D), tree.as_flattened()).unwrap();
    row[0]
}

/// The sealed file and the trees, by name.
pub fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !name.contains("layer") && !name.contains("tree-d"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}
