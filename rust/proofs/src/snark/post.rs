//! The SNARKs of proofs of spacetime.

use std::collections::BTreeMap;

use anyhow::{ensure, Context, Result};
use filecoin_proofs::constants::{
    SectorShape32GiB, SectorShape64GiB, SectorShapeBase, SECTOR_SIZE_32_GIB, SECTOR_SIZE_64_GIB,
};
use filecoin_proofs::parameters::{window_post_public_params, winning_post_public_params};
use filecoin_proofs::types::{FallbackPoStSectorProof, PublicReplicaInfo};
use filecoin_proofs::{
    as_safe_commitment, commitment_from_fr, get_num_partition_for_fallback_post,
    partition_vanilla_proofs, verify_window_post, verify_winning_post, PoStConfig,
};
use filecoin_proofs_api::{
    ChallengeSeed, MerkleTreeTrait, ProverId, RegisteredPoStProof, SectorId,
};
use storage_proofs_post::fallback::{
    FallbackPoSt, FallbackPoStCircuit, FallbackPoStCompound, PublicInputs, PublicParams,
    PublicSector,
};

use super::{bytes, prove_partitions, verified, Maker, Synthesis};
use groth16::Arithmetic;

use crate::commit::are_groth16_proofs;
use crate::control::Control;

/// What both kinds of proof are made of.
struct Post<'a> {
    proof_type: RegisteredPoStProof,
    seed: &'a ChallengeSeed,
    prover_id: ProverId,
    /// The sectors' vanilla proofs, in ascending order of sector number.
    vanilla_proofs: &'a [Vec<u8>],
}

/// The window PoSt of the sectors' vanilla proofs, verified: one Groth16 proof per partition.
pub fn window_post(
    proof_type: RegisteredPoStProof,
    seed: &ChallengeSeed,
    prover_id: ProverId,
    vanilla_proofs: &[Vec<u8>],
    arithmetic: Arithmetic,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let post = Post {
        proof_type,
        seed,
        prover_id,
        vanilla_proofs,
    };
    with_tree!(
        u64::from(proof_type.sector_size()),
        window_post_shaped,
        post,
        arithmetic,
        control
    )
}

/// The winning PoSt of the challenged sector's vanilla proof, verified.
pub fn winning_post(
    proof_type: RegisteredPoStProof,
    seed: &ChallengeSeed,
    prover_id: ProverId,
    vanilla_proofs: &[Vec<u8>],
    arithmetic: Arithmetic,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let post = Post {
        proof_type,
        seed,
        prover_id,
        vanilla_proofs,
    };
    with_tree!(
        u64::from(proof_type.sector_size()),
        winning_post_shaped,
        post,
        arithmetic,
        control
    )
}

fn window_post_shaped<Tree: 'static + MerkleTreeTrait>(
    post: Post<'_>,
    arithmetic: Arithmetic,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let config = post.proof_type.as_v1_config();
    let public_params = window_post_public_params::<Tree>(&config)?;
    let partitions = get_num_partition_for_fallback_post(&config, post.vanilla_proofs.len());
    post.prove::<Tree>(
        &config,
        &public_params,
        partitions,
        arithmetic,
        control,
        |sectors, proof| {
            let sectors = sectors.iter().cloned().collect::<BTreeMap<_, _>>();
            verify_window_post::<Tree>(&config, post.seed, &sectors, post.prover_id, proof)
        },
    )
}

fn winning_post_shaped<Tree: 'static + MerkleTreeTrait>(
    post: Post<'_>,
    arithmetic: Arithmetic,
    control: &mut Control<'_>,
) -> Result<Vec<u8>> {
    let config = post.proof_type.as_v1_config();
    let public_params = winning_post_public_params::<Tree>(&config)?;
    let (found, expected) = (post.vanilla_proofs.len(), config.sector_count);
    ensure!(
        found == expected,
        "vanilla proofs: {found} found, {expected} expected"
    );
    post.prove::<Tree>(
        &config,
        &public_params,
        1,
        arithmetic,
        control,
        |sectors, proof| {
            verify_winning_post::<Tree>(&config, post.seed, sectors, post.prover_id, proof)
        },
    )
}

impl Post<'_> {
    fn prove<Tree: 'static + MerkleTreeTrait>(
        &self,
        config: &PoStConfig,
        public_params: &PublicParams,
        partitions: usize,
        arithmetic: Arithmetic,
        control: &mut Control<'_>,
        verify: impl Fn(&[(SectorId, PublicReplicaInfo)], &[u8]) -> Result<bool>,
    ) -> Result<Vec<u8>> {
        let proofs = self.vanilla_proofs.iter().map(|proof| {
            let proof: FallbackPoStSectorProof<Tree> = bincode::deserialize(proof)?;
            anyhow::Ok(proof)
        });
        let proofs: Vec<_> = proofs.collect::<Result<_>>().context("vanilla proofs")?;
        let public_inputs = PublicInputs {
            randomness: as_safe_commitment(self.seed, "seed")?,
            prover_id: as_safe_commitment(&self.prover_id, "prover id")?,
            sectors: proofs
                .iter()
                .map(|proof| PublicSector {
                    id: proof.sector_id,
                    comm_r: proof.comm_r,
                })
                .collect(),
            k: None,
        };
        let sectors: Vec<_> = proofs
            .iter()
            .map(|proof| {
                let info = PublicReplicaInfo::new(commitment_from_fr(proof.comm_r.into()))?;
                anyhow::Ok((proof.sector_id, info))
            })
            .collect::<Result<_>>()?;
        let vanilla_proofs = partition_vanilla_proofs::<Tree>(
            config,
            public_params,
            &public_inputs,
            partitions,
            &proofs,
        )?;
        let prove = || {
            let proofs = prove_partitions::<
                FallbackPoSt<'_, Tree>,
                FallbackPoStCircuit<Tree>,
                FallbackPoStCompound<Tree>,
            >(
                &public_inputs,
                &vanilla_proofs,
                public_params,
                Synthesis::Joined,
                arithmetic,
                control,
            )?;
            bytes(&proofs)
        };
        let maker = Maker {
            arithmetic: Some(arithmetic),
            parameters: self.proof_type.cache_params_path()?,
        };
        let decodes = |proof: &[u8]| are_groth16_proofs(proof, partitions);
        verified("proof of spacetime", &maker, prove, decodes, |proof| {
            verify(&sectors, proof)
        })
    }
}
