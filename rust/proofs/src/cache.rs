//! The cache directory of a sector: what stages need there, and what may go at the end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::durable::sync_file;
use crate::failure::guarded;
use crate::sector::{
    layer_path, layers, require_dir, require_file, require_size, tree_d_size, tree_r_last_files,
    AUX_FILES, LAYER_PREFIX, TREE_C_PREFIX, TREE_D_FILE, TREE_R_LAST_PREFIX,
};
use crate::tasks::ClearCache;

/// Removes layers, tree_c and tree_d. tree_r_last, `p_aux`, `t_aux` and synthetic proofs stay: they
/// are what later proofs need. Files that are gone already are no error.
pub fn clear_cache(task: &ClearCache) -> Result<()> {
    guarded(|| {
        require_dir("cache directory", &task.cache_path)?;
        remove_files(&task.cache_path, |name| {
            name == TREE_D_FILE
                || name.starts_with(TREE_C_PREFIX)
                || name.starts_with(LAYER_PREFIX)
                || name.starts_with(pc2::UNFINISHED_PREFIX)
        })?;
        sync_file(&task.cache_path)
    })
}

/// Removes what an earlier PC1 left. The proofs library takes any file of the right size for a
/// finished layer, whatever ticket it was made with.
pub fn remove_pc1_results(cache_dir: &Path) -> Result<()> {
    remove_files(cache_dir, |name| name.starts_with(LAYER_PREFIX))
}

/// Removes what an earlier PC2 left: the library takes any tree file of the right size for this
/// sector's, and then finds its own proofs invalid.
pub fn remove_pc2_results(cache_dir: &Path) -> Result<()> {
    remove_files(cache_dir, |name| {
        AUX_FILES.contains(&name)
            || name.starts_with(TREE_C_PREFIX)
            || name.starts_with(TREE_R_LAST_PREFIX)
            || name.starts_with(pc2::UNFINISHED_PREFIX)
    })
}

/// Removes the aux files of an earlier PC2.
pub fn remove_aux(cache_dir: &Path) -> Result<()> {
    remove_files(cache_dir, |name| AUX_FILES.contains(&name))
}

/// Fails unless tree_d is there (a link will do) with the size of the sector's tree.
pub fn require_tree_d(cache_dir: &Path, sector_size: u64) -> Result<()> {
    require_size(
        "tree_d",
        &cache_dir.join(TREE_D_FILE),
        tree_d_size(sector_size),
    )
}

/// Fails unless every label layer is there, whole.
pub fn require_layers(cache_dir: &Path, sector_size: u64) -> Result<()> {
    (1..=layers(sector_size)?).try_for_each(|layer| {
        require_size("label layer", &layer_path(cache_dir, layer), sector_size)
    })
}

/// Fails unless PC2's `p_aux` and `t_aux` are there.
pub fn require_aux(cache_dir: &Path) -> Result<()> {
    for name in AUX_FILES {
        require_file("PC2 result", &cache_dir.join(name))?;
    }
    Ok(())
}

/// Fails unless every file of tree_r_last is there. How long they are depends on the rows that were
/// left out when the sector was sealed: the library compares it.
pub fn require_tree_r_last(cache_dir: &Path, sector_size: u64) -> Result<()> {
    for name in tree_r_last_files(sector_size) {
        require_file("tree_r_last", &cache_dir.join(name))?;
    }
    Ok(())
}

fn remove_files(dir: &Path, chosen: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        if entry.file_name().to_str().is_some_and(&chosen) {
            let path = entry.path();
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
