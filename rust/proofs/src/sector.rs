//! Sizes and file names of a sector, and the checks of its files before a stage.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use filecoin_proofs::constants::LAYERS;
use filecoin_proofs::with_shape;
use filecoin_proofs_api::{MerkleTreeTrait, ProverId, RegisteredSealProof};
use storage_proofs_core::merkle::get_base_tree_count;

/// Bytes of a tree node: one leaf, one hash.
pub const NODE_SIZE: u64 = 32;

/// The five sector sizes, in bytes.
const SECTOR_SIZES: [u64; 5] = [2 << 10, 8 << 20, 512 << 20, 32 << 30, 64 << 30];

pub const TREE_D_FILE: &str = "sc-02-data-tree-d.dat";
pub const LAYER_PREFIX: &str = "sc-02-data-layer-";
/// Sectors of 32 GiB and more have several tree_c and tree_r_last files, numbered.
pub const TREE_C_PREFIX: &str = pc2::TREE_C;
pub const TREE_R_LAST_PREFIX: &str = pc2::TREE_R_LAST;
pub const AUX_FILES: [&str; 2] = ["p_aux", "t_aux"];
pub const SYNTHETIC_FILE: &str = "syn-porep-vanilla-proofs.dat";

/// Sector size of a seal proof type.
pub fn size_of(proof: RegisteredSealProof) -> u64 {
    proof.sector_size().into()
}

/// `size` if it is one of the five sector sizes.
pub fn checked_size(size: u64) -> Result<u64> {
    ensure!(
        SECTOR_SIZES.contains(&size),
        "sector size {size}: expected one of {SECTOR_SIZES:?} bytes"
    );
    Ok(size)
}

/// Bytes of the binary tree over a sector of `sector_size`: 2n − 1 nodes over n leaves.
pub fn tree_d_size(sector_size: u64) -> u64 {
    2 * sector_size - NODE_SIZE
}

/// Unpadded bytes that `padded` bytes hold.
pub fn unpadded(padded: u64) -> u64 {
    padded / 128 * 127
}

/// Label layers of a sector of `sector_size` (2 up to 512 MiB, 11 above).
pub fn layers(sector_size: u64) -> Result<usize> {
    LAYERS
        .read()
        .expect("the layer table is never written")
        .get(&sector_size)
        .copied()
        .with_context(|| {
            format!("sector size {sector_size}: the proofs library has no layer count for it")
        })
}

/// Names of the tree_r_last files of a sector of `sector_size`.
pub fn tree_r_last_files(sector_size: u64) -> Vec<String> {
    fn count<Tree: MerkleTreeTrait>() -> usize {
        get_base_tree_count::<Tree>()
    }
    match with_shape!(sector_size, count) {
        1 => vec![format!("{TREE_R_LAST_PREFIX}.dat")],
        files => (0..files)
            .map(|index| format!("{TREE_R_LAST_PREFIX}-{index}.dat"))
            .collect(),
    }
}

/// The prover id of a miner: its actor id as LEB128, zero-padded to 32 bytes.
pub fn prover_id(miner_id: u64) -> ProverId {
    let mut id = ProverId::default();
    let mut rest = miner_id;
    for byte in &mut id {
        *byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            break;
        }
        *byte |= 0x80;
    }
    id
}

/// Path of a label layer; layers count from 1.
pub fn layer_path(cache_dir: &Path, layer: usize) -> PathBuf {
    cache_dir.join(format!("{LAYER_PREFIX}{layer}.dat"))
}

/// Fails unless `path` is a directory; `what` names it in the error.
pub fn require_dir(what: &str, path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("{what} {}: is not a directory", path.display()),
        Err(error) => bail!("{what} {}: {error}", path.display()),
    }
}

/// Fails unless `path` is a regular file; `what` names it in the error. Links are followed.
pub fn require_file(what: &str, path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(found.len()),
        Ok(_) => bail!("{what} {}: is not a regular file", path.display()),
        Err(error) => bail!("{what} {}: {error}", path.display()),
    }
}

/// Fails unless `path` is a regular file of `expected` bytes; `what` names it in the error.
pub fn require_size(what: &str, path: &Path, expected: u64) -> Result<()> {
    let found = require_file(what, path)?;
    ensure!(
        found == expected,
        "{what} {}: {found} bytes found, {expected} expected",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prover_ids_are_leb128() {
        let start = |miner, length| prover_id(miner)[..length].to_vec();
        assert_eq!(start(0, 2), [0, 0]);
        assert_eq!(start(127, 2), [127, 0]);
        assert_eq!(start(10_000, 3), [144, 78, 0]);
        assert_eq!(start(u64::MAX, 11), [&[255; 9][..], &[1, 0]].concat());
    }

    #[test]
    fn large_sectors_have_several_tree_r_last_files() {
        let files = |size| tree_r_last_files(size);
        assert_eq!(files(512 << 20), ["sc-02-data-tree-r-last.dat"]);
        assert_eq!(files(32 << 30).len(), 8);
        assert_eq!(
            files(64 << 30).last().unwrap(),
            "sc-02-data-tree-r-last-15.dat"
        );
    }
}
