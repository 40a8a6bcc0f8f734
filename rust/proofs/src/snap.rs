//! Upgrading a sector without data to one with data: vanilla proofs, SNARK, verification.

use anyhow::{ensure, Context, Result};
use filecoin_proofs::types::SectorUpdateConfig;
use filecoin_proofs_api::update::{
    generate_partition_proofs, verify_empty_sector_update_proof, verify_partition_proofs,
};
use filecoin_proofs_api::{PartitionProofBytes, RegisteredUpdateProof};

use crate::cache::{require_aux, require_tree_d, require_tree_r_last};
use crate::commit::are_groth16_proofs;
use crate::control::Control;
use crate::failure::guarded;
use crate::sector::{require_dir, require_size};
use crate::snark;
use crate::tasks::{SnapProve, SnapVanilla, VerifySnap};

/// The vanilla proofs of an upgrade, one per partition, for [`snap_prove`]. They are verified before
/// they are returned, which tells a wrong commitment from wrong files in time: before the SNARK.
///
/// Needs tree_r_last, `p_aux` and `t_aux` in both cache directories, tree_d in the new one, and the
/// sealed and the update file. Not interruptible.
pub fn snap_vanilla(task: &SnapVanilla, control: &mut Control<'_>) -> Result<Vec<Vec<u8>>> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.registered_proof);
        require_size("sealed file", &task.sector_path, sector_size)?;
        require_dir("cache directory", &task.sector_cache_path)?;
        require_aux(&task.sector_cache_path)?;
        require_tree_r_last(&task.sector_cache_path, sector_size)?;
        require_size("update file", &task.new_replica_path, sector_size)?;
        require_dir("update-cache directory", &task.new_cache_path)?;
        require_aux(&task.new_cache_path)?;
        require_tree_r_last(&task.new_cache_path, sector_size)?;
        require_tree_d(&task.new_cache_path, sector_size)?;

        let proofs = generate_partition_proofs(
            task.registered_proof,
            task.comm_r_old,
            task.comm_r_new,
            task.comm_d_new,
            &task.sector_path,
            &task.sector_cache_path,
            &task.new_replica_path,
            &task.new_cache_path,
        )?;
        let hold = verify_partition_proofs(
            task.registered_proof,
            &proofs,
            task.comm_r_old,
            task.comm_r_new,
            task.comm_d_new,
        )?;
        ensure!(
            hold,
            "the vanilla proofs of {} over {} don't hold: comm_r_old, comm_r_new or comm_d_new is not \
             that of the files",
            task.new_replica_path.display(),
            task.sector_path.display()
        );
        control.finish(sector_size)?;
        Ok(proofs.into_iter().map(|proof| proof.0).collect())
    })
}

/// The SNARK of an upgrade. Needs the Groth16 parameters of the update proof type. The vanilla proofs are
/// verified first, the SNARK before it is returned. With `DAMOCLES_C2_ENGINE=crate` the proofs library
/// computes it: then it is not interruptible.
pub fn snap_prove(mut task: SnapProve, control: &mut Control<'_>) -> Result<Vec<u8>> {
    guarded(|| {
        control.check()?;
        let expected = partitions(task.registered_proof);
        let found = task.vannilla_proofs.len();
        ensure!(
            found == expected,
            "vannilla_proofs: {found} found, {expected} expected, one per partition"
        );
        let vanilla = std::mem::take(&mut task.vannilla_proofs);
        let vanilla: Vec<_> = vanilla.into_iter().map(PartitionProofBytes).collect();
        // They may come from another process; the SNARK of wrong ones takes as long as that of good ones.
        let hold = verify_partition_proofs(
            task.registered_proof,
            &vanilla,
            task.comm_r_old,
            task.comm_r_new,
            task.comm_d_new,
        )
        .context("vannilla_proofs")?;
        ensure!(
            hold,
            "vannilla_proofs: don't hold for comm_r_old, comm_r_new and comm_d_new"
        );
        let proof = snark::update(&task, &vanilla, snark::engine()?, control)?;
        control.finish(size_of(task.registered_proof))?;
        Ok(proof)
    })
}

/// Whether the proof of an upgrade holds. Bytes that are no proof at all don't hold; an error means
/// that it could not be decided: no verifying key, or a commitment that no sector can have.
pub fn verify_snap(task: &VerifySnap) -> Result<bool> {
    guarded(|| {
        if !are_groth16_proofs(&task.proof, partitions(task.registered_proof)) {
            return Ok(false);
        }
        verify_empty_sector_update_proof(
            task.registered_proof,
            &task.proof,
            task.comm_r_old,
            task.comm_r_new,
            task.comm_d_new,
        )
    })
}

/// Sector size of an update proof type.
pub fn size_of(proof: RegisteredUpdateProof) -> u64 {
    proof.sector_size().into()
}

/// Partitions of an update proof. `RegisteredUpdateProof::partitions` counts those of the seal proof.
fn partitions(proof: RegisteredUpdateProof) -> usize {
    SectorUpdateConfig::from_porep_config(&proof.as_v1_config())
        .update_partitions
        .into()
}
