//! Proofs of spacetime: window PoSt with its faults, winning PoSt, and their verification.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{bail, ensure, Result};
use field::canonical;
use filecoin_proofs_api::post::{
    self, generate_fallback_sector_challenges, generate_window_post_with_vanilla,
    generate_winning_post_with_vanilla, get_num_partition_for_fallback_post,
};
use filecoin_proofs_api::{
    ChallengeSeed, PoStType, PublicReplicaInfo, RegisteredPoStProof, SectorId, SnarkProof,
};
use rayon::prelude::*;

use crate::commit::are_groth16_proofs;
use crate::control::Control;
use crate::failure::guarded;
use crate::replica::{self, Challenged};
use crate::sector::prover_id;
use crate::snark::{self, Maker};
use crate::tasks::{PoSt, PublicReplica, Replica, VerifyPoSt, WindowPoStOutput, WinningPoStOutput};

/// Replicas that are read at a time: the cancel flag is looked at between them, and they bound how many
/// files are open at once.
const BATCH: usize = 64;

/// A window PoSt over the replicas, in ascending order of sector number.
///
/// A replica that can't be proven (a file missing or of the wrong size, a tree that doesn't match, another
/// comm_r) is a fault: then there is no proof, and all such sectors are listed. Why each of them is
/// one is logged, a warning per sector. What is the machine's trouble rather than the sector's
/// (too many open files, no memory) is an error.
///
/// Needs the Groth16 parameters of the proof type. The proof is verified before it is returned. Progress is
/// in replicas read, then the prover's. With `DAMOCLES_C2_ENGINE=crate` the proofs library computes the
/// SNARK: then it can't be interrupted.
pub fn window_post(task: &PoSt, control: &mut Control<'_>) -> Result<WindowPoStOutput> {
    guarded(|| {
        let vanilla = vanilla_proofs(PoStType::Window, task, control)?;
        let mut output = WindowPoStOutput {
            proofs: Vec::new(),
            faults: Vec::new(),
        };
        let mut proofs = Vec::with_capacity(vanilla.len());
        for (sector, outcome) in vanilla {
            match outcome {
                Ok(proof) => proofs.push(proof),
                Err(fault) => {
                    let file = sealed_file(task, sector);
                    log::warn!(
                        "window PoSt: sector {sector} ({}) is a fault: {fault}",
                        file.display()
                    );
                    output.faults.push(sector);
                }
            }
        }
        if output.faults.is_empty() {
            let (kind, seed) = (task.proof_type, &task.seed);
            let prover_id = prover_id(task.miner_id);
            let proof = match snark::engine()? {
                Some(arithmetic) => {
                    snark::window_post(kind, seed, prover_id, &proofs, arithmetic, control)?
                }
                None => by_library(
                    task,
                    || generate_window_post_with_vanilla(kind, seed, prover_id, &proofs),
                    verify_window_post,
                )?,
            };
            output.proofs.push(proof);
        }
        control.finish(task.replicas.len() as u64)?;
        Ok(output)
    })
}

/// A winning PoSt over the challenged replica. One that can't be proven is an error that names it.
///
/// Needs the Groth16 parameters of the proof type. The SNARK is computed as that of [`window_post`].
pub fn winning_post(task: &PoSt, control: &mut Control<'_>) -> Result<WinningPoStOutput> {
    guarded(|| {
        let mut proofs = Vec::new();
        for (sector, outcome) in vanilla_proofs(PoStType::Winning, task, control)? {
            match outcome {
                Ok(proof) => proofs.push(proof),
                Err(fault) => bail!("sector {sector}: {fault}"),
            }
        }
        let (kind, seed) = (task.proof_type, &task.seed);
        let prover_id = prover_id(task.miner_id);
        let proof = match snark::engine()? {
            Some(arithmetic) => {
                snark::winning_post(kind, seed, prover_id, &proofs, arithmetic, control)?
            }
            None => by_library(
                task,
                || generate_winning_post_with_vanilla(kind, seed, prover_id, &proofs),
                verify_winning_post,
            )?,
        };
        control.finish(task.replicas.len() as u64)?;
        Ok(WinningPoStOutput {
            proofs: vec![proof],
        })
    })
}

/// Whether a window PoSt holds for the sectors. Bytes that are no proof at all don't hold; an error means
/// that it could not be decided: no verifying key, or a comm_r that no sector can have.
pub fn verify_window_post(task: &VerifyPoSt) -> Result<bool> {
    guarded(|| {
        let replicas = public_replicas(PoStType::Window, task)?;
        let partitions = get_num_partition_for_fallback_post(task.proof_type, replicas.len())?;
        match &task.proofs[..] {
            [proof] if are_groth16_proofs(proof, partitions) => post::verify_window_post(
                &task.seed,
                &[(task.proof_type, proof)],
                &replicas,
                prover_id(task.miner_id),
            ),
            _ => Ok(false),
        }
    })
}

/// Whether a winning PoSt holds for the challenged sector; as [`verify_window_post`].
pub fn verify_winning_post(task: &VerifyPoSt) -> Result<bool> {
    guarded(|| {
        let replicas = public_replicas(PoStType::Winning, task)?;
        match &task.proofs[..] {
            [proof] if are_groth16_proofs(proof, 1) => {
                post::verify_winning_post(&task.seed, proof, &replicas, prover_id(task.miner_id))
            }
            _ => Ok(false),
        }
    })
}

/// The vanilla proof of each replica, or why it has none, by sector number.
fn vanilla_proofs(
    kind: PoStType,
    task: &PoSt,
    control: &mut Control<'_>,
) -> Result<Vec<(u64, replica::Outcome)>> {
    control.check()?;
    let mut replicas: Vec<_> = task.replicas.iter().collect();
    replicas.sort_by_key(|replica| replica.sector_id);
    let sectors: Vec<SectorId> = replicas
        .iter()
        .map(|replica| replica.sector_id.into())
        .collect();
    check_request(kind, task.proof_type, &task.seed, &sectors)?;
    // The challenges follow from the sectors' places in the ascending order, which is how verifiers
    // take them.
    let challenges = generate_fallback_sector_challenges(
        task.proof_type,
        &task.seed,
        &sectors,
        prover_id(task.miner_id),
    )?;

    let mut outcomes = Vec::with_capacity(replicas.len());
    for batch in replicas.chunks(BATCH) {
        control.step(outcomes.len() as u64, replicas.len() as u64)?;
        let proven = batch.par_iter().map(|replica| {
            let challenged = Challenged {
                proof_type: task.proof_type,
                challenges: &challenges[&replica.sector_id.into()],
                replica,
            };
            Ok((replica.sector_id, challenged.prove()?))
        });
        outcomes.extend(proven.collect::<Result<Vec<_>>>()?);
    }
    Ok(outcomes)
}

fn public_replicas(
    kind: PoStType,
    task: &VerifyPoSt,
) -> Result<BTreeMap<SectorId, PublicReplicaInfo>> {
    let mut sectors: Vec<SectorId> = task
        .replicas
        .iter()
        .map(|replica| replica.sector_id.into())
        .collect();
    sectors.sort();
    check_request(kind, task.proof_type, &task.seed, &sectors)?;
    let public = |replica: &PublicReplica| {
        let info = PublicReplicaInfo::new(task.proof_type, replica.comm_r);
        (replica.sector_id.into(), info)
    };
    Ok(task.replicas.iter().map(public).collect())
}

/// `sectors` are in ascending order.
fn check_request(
    kind: PoStType,
    proof_type: RegisteredPoStProof,
    seed: &ChallengeSeed,
    sectors: &[SectorId],
) -> Result<()> {
    ensure!(
        proof_type.typ() == kind,
        "proof_type {proof_type:?}: expected one of {kind:?} PoSt"
    );
    ensure!(
        canonical::is_element(seed),
        "seed: ends with byte {:#04x}, expected a field element (the top two bits of the last byte \
         cleared)",
        seed[31]
    );
    ensure!(
        !sectors.is_empty(),
        "replicas: none found, expected one or more"
    );
    if kind == PoStType::Winning {
        let (found, expected) = (sectors.len(), proof_type.sector_count());
        ensure!(
            found == expected,
            "replicas: {found} found, {expected} expected, the challenged one"
        );
    }
    if let Some(pair) = sectors.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("replicas: sector {} is listed twice", u64::from(pair[0]));
    }
    Ok(())
}

/// The proof that `make`, a function of the library, makes of the task: which looks at none itself.
fn by_library(
    task: &PoSt,
    make: impl Fn() -> Result<Vec<(RegisteredPoStProof, SnarkProof)>>,
    verify: fn(&VerifyPoSt) -> Result<bool>,
) -> Result<SnarkProof> {
    let maker = Maker {
        arithmetic: None,
        parameters: task.proof_type.cache_params_path()?,
    };
    let public = |replica: &Replica| PublicReplica {
        sector_id: replica.sector_id,
        comm_r: replica.comm_r,
    };
    let prove = || match &mut make()?[..] {
        [(_, proof)] => Ok(std::mem::take(proof)),
        proofs => bail!("{} proofs of spacetime found, one expected", proofs.len()),
    };
    let holds = |proof: &[u8]| {
        verify(&VerifyPoSt {
            miner_id: task.miner_id,
            proof_type: task.proof_type,
            replicas: task.replicas.iter().map(public).collect(),
            seed: task.seed,
            proofs: vec![proof.to_vec()],
        })
    };
    // Bytes that are no proof don't verify here.
    snark::verified("proof of spacetime", &maker, prove, |_| true, holds)
}

/// The sealed file of one of the task's sectors.
fn sealed_file(task: &PoSt, sector: u64) -> &Path {
    let mut replicas = task.replicas.iter();
    let replica = replicas.find(|replica| replica.sector_id == sector);
    replica.map_or(Path::new(""), |replica| &replica.sealed_file)
}
