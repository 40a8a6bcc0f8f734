//! Proofs of spacetime over 2 KiB sectors, and the faults that need no parameters.

use std::fs;
use std::os::unix::net::UnixListener;

use crate::parameters::run_with_parameters;
use crate::sector::{Sector, PROVER_ID};
use crate::upgrade::Upgrade;
use filecoin_proofs_api::RegisteredPoStProof::{
    self, StackedDrgWindow2KiBV1_2, StackedDrgWinning2KiBV1,
};
use filecoin_proofs_api::RegisteredSealProof::StackedDrg2KiBV1_1;
use proofs::failure::one_line;
use proofs::tasks::{PoSt, PublicReplica, Replica, VerifyPoSt};
use proofs::Control;

const MINER: u64 = 10_000;
const SEED: [u8; 32] = [6; 32];

/// A sealed sector and how a PoSt task names it.
fn replica(sector_id: u64) -> (Sector, Replica) {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let infos = sector.add_pieces(vec![]);
    sector.tree_d();
    let pc2out = sector.pc2(sector.pc1(&infos));
    let replica = Replica {
        sector_id,
        comm_r: pc2out.comm_r,
        cache_dir: sector.cache(),
        sealed_file: sector.sealed(),
    };
    (sector, replica)
}

fn task(proof_type: RegisteredPoStProof, replicas: &[&Replica]) -> PoSt {
    PoSt {
        miner_id: MINER,
        proof_type,
        replicas: replicas.iter().map(|replica| (*replica).clone()).collect(),
        seed: SEED,
    }
}

fn window_error(task: &PoSt) -> String {
    one_line(&proofs::window_post(task, &mut Control::none()).unwrap_err())
}

/// A wrong mode on a network mount had a whole partition declared faulty.
#[test]
fn a_file_that_this_machine_can_not_open_is_an_error_and_no_fault() {
    let (sector, replica) = replica(1);
    let aux = sector.cache().join("p_aux");
    fs::remove_file(&aux).unwrap();
    // A socket can't be opened by root either, who may read everything.
    let _socket = UnixListener::bind(&aux).unwrap();
    let error = window_error(&task(StackedDrgWindow2KiBV1_2, &[&replica]));
    assert!(
        error.contains("sector 1") && error.contains("p_aux") && error.contains("os error 6"),
        "{error}"
    );
}

#[test]
fn sectors_that_can_not_be_proven_are_faults() {
    let (_good, good) = replica(1);
    let (missing, missing_replica) = replica(2);
    fs::remove_file(missing.sealed()).unwrap();
    let (truncated, truncated_replica) = replica(3);
    fs::write(truncated.sealed(), [0; 1024]).unwrap();
    let (_mistaken, mut mistaken) = replica(4);
    mistaken.comm_r[0] ^= 1;
    let (damaged, damaged_replica) = replica(5);
    fs::write(damaged.cache().join("sc-02-data-tree-r-last.dat"), b"").unwrap();
    let (overwritten, overwritten_replica) = replica(6);
    fs::write(overwritten.sealed(), [1; 2048]).unwrap();
    let (bare, bare_replica) = replica(7);
    fs::remove_dir_all(bare.cache()).unwrap();

    let all = [
        &bare_replica,
        &overwritten_replica,
        &good,
        &missing_replica,
        &damaged_replica,
        &mistaken,
        &truncated_replica,
    ];
    let output =
        proofs::window_post(&task(StackedDrgWindow2KiBV1_2, &all), &mut Control::none()).unwrap();
    assert_eq!(output.faults, [2, 3, 4, 5, 6, 7]);
    assert_eq!(
        serde_json::to_string(&output).unwrap(),
        r#"{"proofs":[],"faults":[2,3,4,5,6,7]}"#
    );

    let error = proofs::winning_post(
        &task(StackedDrgWinning2KiBV1, &[&truncated_replica]),
        &mut Control::none(),
    );
    assert_eq!(
        one_line(&error.unwrap_err()),
        format!(
            "sector 3: sealed file {}: 1024 bytes found, 2048 expected",
            truncated.sealed().display()
        )
    );
}

#[test]
fn a_request_that_makes_no_sense_is_explained() {
    let (_sector, replica) = replica(1);
    assert_eq!(
        window_error(&task(StackedDrgWinning2KiBV1, &[&replica])),
        "proof_type StackedDrgWinning2KiBV1: expected one of Window PoSt"
    );
    assert_eq!(
        window_error(&task(StackedDrgWindow2KiBV1_2, &[])),
        "replicas: none found, expected one or more"
    );
    assert_eq!(
        window_error(&task(StackedDrgWindow2KiBV1_2, &[&replica, &replica])),
        "replicas: sector 1 is listed twice"
    );
    let mut seeded = task(StackedDrgWindow2KiBV1_2, &[&replica]);
    seeded.seed[31] = 0xff;
    assert!(
        window_error(&seeded).starts_with("seed: ends with byte 0xff, expected a field element")
    );
    let two = task(StackedDrgWinning2KiBV1, &[&replica, &replica]);
    assert_eq!(
        one_line(&proofs::winning_post(&two, &mut Control::none()).unwrap_err()),
        "replicas: 2 found, 1 expected, the challenged one"
    );
}

#[test]
fn a_window_post_holds_for_its_sectors_and_seed_only() {
    for engine in ["groth16", "crate"] {
        run_with_parameters("post::a_window_post_is_proven_and_verified", engine);
    }
}

#[test]
fn a_winning_post_holds_for_its_sector_and_seed_only() {
    for engine in ["groth16", "crate"] {
        run_with_parameters("post::a_winning_post_is_proven_and_verified", engine);
    }
}

/// The task's sectors as a verifier knows them, and the proofs.
fn public(task: &PoSt, proofs: Vec<Vec<u8>>) -> VerifyPoSt {
    let public = |replica: &Replica| PublicReplica {
        sector_id: replica.sector_id,
        comm_r: replica.comm_r,
    };
    VerifyPoSt {
        miner_id: MINER,
        proof_type: task.proof_type,
        replicas: task.replicas.iter().map(public).collect(),
        seed: task.seed,
        proofs,
    }
}

/// Holds as it is, and not with another seed, sector or length.
fn holds_only(good: VerifyPoSt, verify: fn(&VerifyPoSt) -> anyhow::Result<bool>) {
    assert!(verify(&good).unwrap());
    let mut other = good.clone();
    other.seed[0] ^= 1;
    assert!(!verify(&other).unwrap());
    other = good.clone();
    other.replicas[0].comm_r = PROVER_ID;
    assert!(!verify(&other).unwrap());
    other = good;
    other.proofs[0].pop();
    assert!(!verify(&other).unwrap());
}

/// Three sectors are two partitions at 2 KiB; one of them is upgraded.
#[test]
#[ignore = "run by the test above, with parameters"]
fn a_window_post_is_proven_and_verified() {
    let (_first, first) = replica(3);
    let (_second, second) = replica(1);
    let upgrade = Upgrade::staged();
    let upgraded = Replica {
        sector_id: 2,
        comm_r: upgrade.encode().comm_r_new,
        cache_dir: upgrade.update_cache(),
        sealed_file: upgrade.update_file(),
    };
    let task = task(StackedDrgWindow2KiBV1_2, &[&first, &second, &upgraded]);
    let output = proofs::window_post(&task, &mut Control::none()).unwrap();
    assert!(output.faults.is_empty());
    assert_eq!(output.proofs.len(), 1);
    holds_only(public(&task, output.proofs), proofs::verify_window_post);
}

#[test]
#[ignore = "run by the test above, with parameters"]
fn a_winning_post_is_proven_and_verified() {
    let (_sector, replica) = replica(7);
    let task = task(StackedDrgWinning2KiBV1, &[&replica]);
    let output = proofs::winning_post(&task, &mut Control::none()).unwrap();
    assert_eq!(output.proofs.len(), 1);
    holds_only(public(&task, output.proofs), proofs::verify_winning_post);
}

#[test]
fn bytes_that_are_no_proof_do_not_verify() {
    for proof in [vec![], vec![0; 192], vec![0xff; 192]] {
        let task = |proof_type| VerifyPoSt {
            miner_id: MINER,
            proof_type,
            replicas: vec![PublicReplica {
                sector_id: 1,
                comm_r: [1; 32],
            }],
            seed: SEED,
            proofs: vec![proof.clone()],
        };
        assert!(!proofs::verify_window_post(&task(StackedDrgWindow2KiBV1_2)).unwrap());
        assert!(!proofs::verify_winning_post(&task(StackedDrgWinning2KiBV1)).unwrap());
    }
}
