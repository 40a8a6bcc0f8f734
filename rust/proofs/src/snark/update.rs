//! The SNARK of an upgrade.

use std::path::PathBuf;

use anyhow::{Context, Result};
use filecoin_hashers::{Domain, Hasher};
use filecoin_proofs::constants::{
    DefaultPieceDomain, SectorShape32GiB, SectorShape64GiB, SectorShapeBase, SECTOR_SIZE_32_GIB,
    SECTOR_SIZE_64_GIB,
};
use filecoin_proofs::types::SectorUpdateConfig;
use filecoin_proofs::{
    generate_empty_sector_update_proof_with_vanilla, verify_empty_sector_update_proof, TreeRHasher,
};
use filecoin_proofs_api::{MerkleTreeTrait, PartitionProofBytes};
use storage_proofs_core::parameter_cache::{parameter_cache_params_path, CacheableParameters};
use storage_proofs_update::{
    EmptySectorUpdate, EmptySectorUpdateCircuit, EmptySectorUpdateCompound, PartitionProof,
    PublicInputs, PublicParams,
};

use super::{bytes, prove_partitions, verified, Maker, Synthesis};
use groth16::Arithmetic;

use crate::commit::are_groth16_proofs;
use crate::control::Control;
use crate::snap::size_of;
use crate::tasks::SnapProve;

/// The proof of the task's vanilla proofs, which `vanilla_proofs` are, verified: one Groth16 proof per
/// partition. Without an arithmetic the library proves.
pub fn update(
    task: &SnapProve,
    vanilla_proofs: &[PartitionProofBytes],
    arithmetic: Option<Arithmetic>,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    with_tree!(
        size_of(task.registered_proof),
        update_shaped,
        task,
        vanilla_proofs,
        arithmetic,
        control
    )
}

fn parameters_of<Tree: 'static + MerkleTreeTrait<Hasher = TreeRHasher>>(
    public_params: &PublicParams,
) -> PathBuf {
    let identifier = <EmptySectorUpdateCompound<Tree> as CacheableParameters<
        EmptySectorUpdateCircuit<Tree>,
        PublicParams,
    >>::cache_identifier(public_params);
    parameter_cache_params_path(&identifier)
}

fn update_shaped<Tree: 'static + MerkleTreeTrait<Hasher = TreeRHasher>>(
    task: &SnapProve,
    vanilla_proofs: &[PartitionProofBytes],
    arithmetic: Option<Arithmetic>,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let (comm_r_old, comm_r_new, comm_d_new) = (task.comm_r_old, task.comm_r_new, task.comm_d_new);
    let config = task.registered_proof.as_v1_config();
    // They can't be copied, and the library takes them away.
    let decoded = || -> Result<Vec<PartitionProof<Tree>>> {
        let proofs = vanilla_proofs.iter();
        let proofs = proofs.map(|proof| Ok(bincode::deserialize(&proof.0)?));
        proofs.collect::<Result<_>>().context("vannilla_proofs")
    };
    let update = SectorUpdateConfig::from_porep_config(&config);
    type Commitment = <TreeRHasher as Hasher>::Domain;
    let public_inputs = PublicInputs {
        k: update.update_partitions.into(),
        comm_r_old: Commitment::try_from_bytes(&comm_r_old)?,
        comm_d_new: DefaultPieceDomain::try_from_bytes(&comm_d_new)?,
        comm_r_new: Commitment::try_from_bytes(&comm_r_new)?,
        h: update.h,
    };
    let public_params = PublicParams::from_sector_size(size_of(task.registered_proof));

    let by_engine = |arithmetic: Arithmetic, control: &mut Control<'_>| {
        let proofs = prove_partitions::<
            EmptySectorUpdate<Tree>,
            EmptySectorUpdateCircuit<Tree>,
            EmptySectorUpdateCompound<Tree>,
        >(
            &public_inputs,
            &decoded()?,
            &public_params,
            Synthesis::Whole,
            arithmetic,
            control,
        )?;
        bytes(&proofs)
    };
    let by_library = || {
        let proof = generate_empty_sector_update_proof_with_vanilla(
            &config,
            decoded()?,
            comm_r_old,
            comm_r_new,
            comm_d_new,
        )?;
        Ok(proof.0)
    };
    let prove = || match arithmetic {
        Some(arithmetic) => by_engine(arithmetic, control),
        None => by_library(),
    };
    let maker = Maker {
        arithmetic,
        // What the proof type names are the parameters of the sector's first sealing.
        parameters: parameters_of::<Tree>(&public_params),
    };
    let decodes = |proof: &[u8]| are_groth16_proofs(proof, vanilla_proofs.len());
    verified("proof of an upgrade", &maker, prove, decodes, |proof| {
        verify_empty_sector_update_proof::<Tree>(&config, proof, comm_r_old, comm_r_new, comm_d_new)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of the proof named the parameters of C2 as those that may be rotten.
    #[test]
    fn the_parameters_of_an_upgrade_are_its_own() {
        let path = parameters_of::<SectorShapeBase>(&PublicParams::from_sector_size(2048));
        let path = path.to_string_lossy();
        assert!(path.contains("v28-empty-sector-update-"), "{path}");
    }
}
