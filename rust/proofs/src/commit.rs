//! From the replica to a proof: synthetic proofs, C1 (vanilla proofs), C2 (SNARK), verification.

use anyhow::{bail, Result};
use bellperson::groth16::aggregate::AggregateProof;
use bellperson::groth16::Proof;
use blstrs::Bls12;
use filecoin_proofs::constants::SINGLE_PARTITION_PROOF_LEN;
use filecoin_proofs_api::seal::{
    self, generate_synth_proofs, seal_commit_phase1, SealCommitPhase1Output, SealCommitPhase2Output,
};
use filecoin_proofs_api::{ApiFeature, RegisteredSealProof};

use crate::cache::{require_aux, require_layers, require_tree_d};
use crate::control::Control;
use crate::durable::sync_dir;
use crate::failure::guarded;
use crate::pieces::fill;
use crate::sector::{require_dir, require_file, require_size, size_of, SYNTHETIC_FILE};
use crate::snark;
use crate::tasks::{SynthProof, VerifySeal, C1, C2};

/// Writes the synthetic vanilla proofs of a sector (`syn-porep-vanilla-proofs.dat` in the cache
/// directory); with them, C1 no longer needs layers, tree_c and tree_d.
///
/// Only for proof types with the SyntheticPoRep feature. Not interruptible.
pub fn synth_proof(task: SynthProof, control: &mut Control<'_>) -> Result<()> {
    guarded(|| {
        control.check()?;
        let proof = task.pc2out.registered_proof;
        if !proof.feature_enabled(ApiFeature::SyntheticPoRep) {
            bail!("{proof:?}: has no synthetic proofs, expected a proof type with SyntheticPoRep");
        }
        let sector_size = size_of(proof);
        require_dir("cache directory", &task.cache_path)?;
        require_size("sealed file", &task.replica_path, sector_size)?;
        require_aux(&task.cache_path)?;
        require_tree_d(&task.cache_path, sector_size)?;
        require_layers(&task.cache_path, sector_size)?;

        generate_synth_proofs(
            &task.cache_path,
            &task.replica_path,
            task.prover_id,
            task.sector_id.into(),
            task.ticket,
            task.pc2out,
            &fill(sector_size, &task.piece_infos)?,
        )?;
        sync_dir(&task.cache_path)?;
        control.finish(sector_size)
    })
}

/// Vanilla proofs for the challenges that follow from `seed`; the library checks them before it
/// returns them. Non-interactive proof types ignore the seed, but C2 wants it to be non-zero.
///
/// Needs `p_aux`, `t_aux` and tree_r_last in the cache directory, and the label layers, tree_c and
/// tree_d or, for synthetic proof types, the synthetic proofs. Not interruptible.
pub fn c1(task: C1, control: &mut Control<'_>) -> Result<SealCommitPhase1Output> {
    guarded(|| {
        control.check()?;
        let proof = task.pc2out.registered_proof;
        let sector_size = size_of(proof);
        require_dir("cache directory", &task.cache_path)?;
        require_size("sealed file", &task.replica_path, sector_size)?;
        require_aux(&task.cache_path)?;
        if proof.feature_enabled(ApiFeature::SyntheticPoRep) {
            require_file("synthetic proofs", &task.cache_path.join(SYNTHETIC_FILE))?;
        } else {
            require_tree_d(&task.cache_path, sector_size)?;
            require_layers(&task.cache_path, sector_size)?;
        }

        let output = seal_commit_phase1(
            &task.cache_path,
            &task.replica_path,
            task.prover_id,
            task.sector_id.into(),
            task.ticket,
            task.seed,
            task.pc2out,
            &fill(sector_size, &task.piece_infos)?,
        )?;
        control.finish(sector_size)?;
        Ok(output)
    })
}

/// The SNARK of a sector's vanilla proofs, verified before it is returned. Needs the Groth16 parameters of
/// the proof type. With `DAMOCLES_C2_ENGINE=crate` the proofs library computes it: then it is not
/// interruptible.
pub fn c2(task: C2, control: &mut Control<'_>) -> Result<SealCommitPhase2Output> {
    guarded(|| {
        control.check()?;
        let sector_size = size_of(task.c1out.registered_proof);
        let output = SealCommitPhase2Output {
            proof: snark::seal(task, snark::engine()?, control)?,
        };
        control.finish(sector_size)?;
        Ok(output)
    })
}

/// Whether a proof holds for the sector. Bytes that are no proof at all (wrong length, not curve
/// points) don't hold either; an error means that it could not be decided: no verifying key, or a
/// commitment that no sector can have. Needs the `.vk` only.
pub fn verify_seal(task: &VerifySeal) -> Result<bool> {
    guarded(|| {
        if !is_proof(task.registered_proof, &task.proof) {
            return Ok(false);
        }
        seal::verify_seal(
            task.registered_proof,
            task.comm_r,
            task.comm_d,
            task.prover_id,
            task.sector_id.into(),
            task.ticket,
            task.seed,
            &task.proof,
        )
    })
}

/// Whether `bytes` decode as a proof of this type: one Groth16 proof per partition, or one
/// aggregate for non-interactive types.
pub fn is_proof(proof: RegisteredSealProof, bytes: &[u8]) -> bool {
    if proof.feature_enabled(ApiFeature::NonInteractivePoRep) {
        return AggregateProof::<Bls12>::read(bytes).is_ok();
    }
    are_groth16_proofs(bytes, usize::from(proof.partitions()))
}

/// Whether `bytes` are `partitions` Groth16 proofs: points of the right curves, one behind the other.
pub fn are_groth16_proofs(bytes: &[u8], partitions: usize) -> bool {
    bytes.len() == SINGLE_PARTITION_PROOF_LEN * partitions
        && bytes
            .chunks_exact(SINGLE_PARTITION_PROOF_LEN)
            .all(|partition| Proof::<Bls12>::read(partition).is_ok())
}
