//! Whole 2 KiB sectors from pieces to vanilla proofs, for each kind of proof type.

use std::fs;

use crate::sector::{payload, Sector, SEED};
use filecoin_proofs_api::RegisteredSealProof::{
    self, StackedDrg2KiBV1, StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
    StackedDrg2KiBV1_2_Feat_NonInteractivePoRep,
};
use proofs::tasks::{ClearCache, PieceFile, PieceSource};

fn seal_without_deals(proof: RegisteredSealProof) {
    let sector = Sector::new(proof);
    let (infos, c1out) = sector.seal(vec![]);
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].size.0, 2032);
    assert_eq!(infos[0].commitment, proofs::zero_commitment(2048));
    assert_eq!(c1out.comm_d, infos[0].commitment);
    assert_eq!(c1out.registered_proof, proof);
}

#[test]
fn a_sector_without_deals_is_sealed() {
    seal_without_deals(StackedDrg2KiBV1_1);
}

#[test]
fn an_old_v1_sector_is_sealed() {
    seal_without_deals(StackedDrg2KiBV1);
}

#[test]
fn a_non_interactive_sector_is_sealed() {
    seal_without_deals(StackedDrg2KiBV1_2_Feat_NonInteractivePoRep);
}

#[test]
fn a_sector_with_two_deals_has_the_comm_d_of_its_pieces() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let pieces = vec![
        sector.piece("first", &payload(1016, 1), 1016),
        sector.piece("second", &payload(600, 2), 1016),
    ];
    let (infos, c1out) = sector.seal(pieces);
    assert_eq!(c1out.comm_d, proofs::data_commitment(2048, &infos).unwrap());
    assert_ne!(c1out.comm_d, proofs::zero_commitment(2048));
}

#[test]
fn pieces_that_leave_gaps_are_sealed_with_zeros_between() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let pieces = vec![
        sector.piece("small", &payload(127, 3), 127),
        sector.piece("larger", &payload(500, 4), 508),
        PieceSource {
            piece_file: PieceFile::Pledge,
            payload_size: 254,
            piece_size: 254,
        },
    ];
    let (infos, c1out) = sector.seal(pieces);
    assert_eq!(c1out.comm_d, proofs::data_commitment(2048, &infos).unwrap());
}

#[test]
fn a_synthetic_sector_is_proven_after_its_layers_are_gone() {
    let sector = Sector::new(StackedDrg2KiBV1_1_Feat_SyntheticPoRep);
    let infos = sector.add_pieces(vec![]);
    sector.tree_d();
    let pc2out = sector.pc2(sector.pc1(&infos));
    sector.synth_proof(&pc2out, &infos);
    let task = ClearCache {
        registered_proof: sector.proof,
        cache_path: sector.cache(),
    };
    proofs::clear_cache(&task).unwrap();
    proofs::clear_cache(&task).expect("nothing left to clear");

    let mut left: Vec<String> = fs::read_dir(sector.cache())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "p_aux",
            "sc-02-data-tree-r-last.dat",
            "syn-porep-vanilla-proofs.dat",
            "t_aux"
        ]
    );
    assert_eq!(sector.c1(&pc2out, &infos).seed, SEED);
}

#[test]
fn a_second_pc1_does_not_take_the_layers_of_another_ticket() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let infos = sector.add_pieces(vec![]);
    sector.tree_d();
    let first = sector.pc2(sector.pc1(&infos));
    let mut task = sector.pc1_task(&infos);
    task.ticket = [9; 32];
    let second = sector.pc2(proofs::pc1(task, &mut proofs::Control::none()).unwrap());
    assert_ne!(first.comm_r, second.comm_r);
    let mut c1_task = sector.c1_task(&second, &infos);
    c1_task.ticket = [9; 32];
    proofs::c1(c1_task, &mut proofs::Control::none()).unwrap();
}
