//! The SNARK of a sector's sealing: C2.

use anyhow::{ensure, Result};
use bellperson::groth16::aggregate::AggregateVersion;
use blstrs::Scalar;
use filecoin_hashers::{Domain, Hasher};
use filecoin_proofs::constants::{
    DefaultPieceDomain, DefaultPieceHasher, SectorShape32GiB, SectorShape64GiB, SectorShapeBase,
    SECTOR_SIZE_32_GIB, SECTOR_SIZE_64_GIB,
};
use filecoin_proofs::parameters::public_params;
use filecoin_proofs::types::{self, SealCommitOutput, VanillaSealProof};
use filecoin_proofs::{
    aggregate_seal_commit_proofs, as_safe_commitment, seal_commit_phase2_circuit_proofs,
    verify_seal,
};
use filecoin_proofs_api::seal::SealCommitPhase1Output;
use filecoin_proofs_api::{ApiFeature, MerkleTreeTrait};
use storage_proofs_porep::stacked::{
    PublicInputs, StackedCircuit, StackedCompound, StackedDrg, Tau,
};

use super::{bytes, prove_partitions, verified, Maker, Synthesis};
use groth16::Arithmetic;

use crate::commit::is_proof;
use crate::control::Control;
use crate::sector::size_of;
use crate::tasks::C2;

/// The proof of the task's vanilla proofs, verified: one Groth16 proof per partition, or for
/// non-interactive proof types one aggregate of them. Without an arithmetic the library proves.
pub fn seal(
    task: C2,
    arithmetic: Option<Arithmetic>,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    with_tree!(
        size_of(task.c1out.registered_proof),
        seal_shaped,
        task,
        arithmetic,
        control
    )
}

fn seal_shaped<Tree: 'static + MerkleTreeTrait>(
    task: C2,
    arithmetic: Option<Arithmetic>,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let SealCommitPhase1Output {
        registered_proof,
        vanilla_proofs,
        comm_r,
        comm_d,
        replica_id,
        seed,
        ticket,
    } = task.c1out;
    for (name, value) in [("comm_d", comm_d), ("comm_r", comm_r), ("seed", seed)] {
        ensure!(
            value != [0; 32],
            "{name}: is zero, expected that of a sector"
        );
    }
    let config = registered_proof.as_v1_config();
    let vanilla_proofs: Vec<Vec<VanillaSealProof<Tree>>> = vanilla_proofs.try_into()?;
    let (found, expected) = (vanilla_proofs.len(), usize::from(config.partitions));
    ensure!(
        found == expected && vanilla_proofs.iter().all(|proofs| !proofs.is_empty()),
        "vanilla_proofs: {found} found, {expected} expected, one or more for each partition"
    );
    let public_inputs = PublicInputs::<<Tree::Hasher as Hasher>::Domain, DefaultPieceDomain> {
        replica_id: Scalar::from(replica_id).into(),
        tau: Some(Tau {
            comm_d: DefaultPieceDomain::try_from_bytes(&comm_d)?,
            comm_r: as_safe_commitment(&comm_r, "comm_r")?,
        }),
        k: None,
        seed: Some(seed),
    };
    let public_params = public_params::<Tree>(&config)?;

    let by_library = || {
        let c1out = types::SealCommitPhase1Output::<Tree> {
            vanilla_proofs: vanilla_proofs.clone(),
            comm_r,
            comm_d,
            replica_id: public_inputs.replica_id,
            seed,
            ticket,
        };
        let output = seal_commit_phase2_circuit_proofs(&config, c1out, task.sector_id.into())?;
        anyhow::Ok(output.proof)
    };
    let prove = || {
        let proof = match arithmetic {
            Some(arithmetic) => bytes(&prove_partitions::<
                StackedDrg<'_, Tree, DefaultPieceHasher>,
                StackedCircuit<Tree, DefaultPieceHasher>,
                StackedCompound<Tree, DefaultPieceHasher>,
            >(
                &public_inputs,
                &vanilla_proofs,
                &public_params,
                Synthesis::Whole,
                arithmetic,
                control,
            )?)?,
            None => by_library()?,
        };
        if !registered_proof.feature_enabled(ApiFeature::NonInteractivePoRep) {
            return Ok(proof);
        }
        aggregate_seal_commit_proofs::<Tree>(
            &config,
            &[comm_r],
            &[seed],
            &[SealCommitOutput { proof }],
            AggregateVersion::V2,
        )
    };
    let maker = Maker {
        arithmetic,
        parameters: registered_proof.cache_params_path()?,
    };
    verified(
        &format!("C2 of sector {}", task.sector_id),
        &maker,
        prove,
        |proof| is_proof(registered_proof, proof),
        |proof| {
            verify_seal::<Tree>(
                &config,
                comm_r,
                comm_d,
                task.prover_id,
                task.sector_id.into(),
                ticket,
                seed,
                proof,
            )
        },
    )
}
