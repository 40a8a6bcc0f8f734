//! The parents cache file of a proof type, as it is found.

use std::path::PathBuf;

use anyhow::Result;
use filecoin_proofs_api::RegisteredSealProof;
pub use sdr::parents::Check as ParentsCacheCheck;
use sdr::parents::{default_dir, file_size, look};

use crate::control::Control;
use crate::labelling::graph;

/// A parents cache file that PC1 would use.
pub struct ParentsCacheFile {
    pub path: PathBuf,
    /// Bytes that it has to have.
    pub size: u64,
    /// None: its digest was never compared.
    pub check: Option<ParentsCacheCheck>,
}

/// Looks at the parents cache of a proof type where PC1 looks for it, and leaves it as it is. With `read`
/// a digest that was never compared is; progress is then in nodes.
pub fn look_at_parents_cache(
    registered_proof: RegisteredSealProof,
    read: bool,
    control: &mut Control<'_>,
) -> Result<ParentsCacheFile> {
    let spec = graph(&registered_proof.as_v1_config())?;
    let mut report = |done, total| control.step(done, total);
    let (path, check) = look(
        &default_dir(),
        &spec,
        if read { Some(&mut report) } else { None },
    )?;
    Ok(ParentsCacheFile {
        path,
        size: file_size(&spec),
        check,
    })
}
