//! PC1 by the engine of the `sdr` crate: the library's own PC1 is the judge of all it leaves.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sector::{payload, Sector, PROVER_ID, SECTOR_ID, TICKET};
use filecoin_proofs_api::seal::{seal_pre_commit_phase1, SealPreCommitPhase1Output};
use filecoin_proofs_api::RegisteredSealProof::{
    self, StackedDrg2KiBV1, StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
    StackedDrg2KiBV1_2_Feat_NonInteractivePoRep, StackedDrg8MiBV1_1,
};
use proofs::control::Cancelled;
use proofs::failure::one_line;
use proofs::{Control, PieceInfo};

const LAYERS: u64 = 2;

/// A sector with one deal, up to tree_d.
fn staged(proof: RegisteredSealProof) -> (Sector, Vec<PieceInfo>) {
    let sector = Sector::new(proof);
    let piece_size = sector.size() / 128 * 127;
    let data = payload(usize::try_from(piece_size).unwrap(), 21);
    let infos = sector.add_pieces(vec![sector.piece("deal", &data, piece_size)]);
    sector.tree_d();
    (sector, infos)
}

/// The library's PC1 in the same place, where no layer is left.
fn library_pc1(sector: &Sector, infos: &[PieceInfo]) -> SealPreCommitPhase1Output {
    for entry in fs::read_dir(sector.cache()).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("sc-02-data-tree-d.dat") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(sector.sealed(), []).unwrap();
    seal_pre_commit_phase1(
        sector.proof,
        sector.cache(),
        sector.staged(),
        sector.sealed(),
        PROVER_ID,
        SECTOR_ID.into(),
        TICKET,
        infos,
    )
    .unwrap()
}

fn layer(sector: &Sector, number: u64) -> PathBuf {
    sector
        .cache()
        .join(format!("sc-02-data-layer-{number}.dat"))
}

/// The output as JSON, the layers and the sealed file, as PC1 leaves them; then comm_r of PC2.
fn results(sector: &Sector, output: SealPreCommitPhase1Output) -> (String, Vec<Vec<u8>>, [u8; 32]) {
    let json = serde_json::to_string(&output).unwrap();
    let files = (1..=LAYERS).map(|number| layer(sector, number));
    let files = files
        .chain([sector.sealed()])
        .map(|path| fs::read(path).unwrap())
        .collect();
    (json, files, sector.pc2(output).comm_r)
}

fn same_results_as_the_library(proof: RegisteredSealProof) {
    let (sector, infos) = staged(proof);
    let found = results(&sector, sector.pc1(&infos));
    let expected = results(&sector, library_pc1(&sector, &infos));
    assert_eq!(found.0, expected.0, "PC1 output");
    for (index, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
        assert!(
            found == expected,
            "file {index} of the layers and the sealed file"
        );
    }
    assert_eq!(found.2, expected.2, "comm_r");
}

#[test]
fn pc1_of_2kib_leaves_what_the_librarys_leaves() {
    for proof in [
        StackedDrg2KiBV1,
        StackedDrg2KiBV1_1,
        StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
        StackedDrg2KiBV1_2_Feat_NonInteractivePoRep,
    ] {
        same_results_as_the_library(proof);
    }
}

#[test]
fn pc1_of_8mib_leaves_what_the_librarys_leaves() {
    same_results_as_the_library(StackedDrg8MiBV1_1);
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_cancelled_pc1_keeps_the_layers_it_had() {
    let (sector, infos) = staged(StackedDrg8MiBV1_1);
    let labels = sector.size() / 32;
    let first = layer(&sector, 1);
    let last = layer(&sector, 2);
    // On a busy machine a run may end, or have written its second layer, before it is seen in that layer.
    let cancelled = (0..20).any(|_| {
        let _ = fs::remove_file(&last);
        let flag = AtomicBool::new(false);
        let report = |done, _| {
            flag.store(done > labels && first.exists(), Ordering::Relaxed);
            Ok(())
        };
        let mut control = Control::new(&flag, Box::new(report));
        match proofs::pc1(sector.pc1_task(&infos), &mut control) {
            Ok(_) => false,
            Err(error) => {
                assert!(error.is::<Cancelled>(), "{error:?}");
                !last.exists()
            }
        }
    });
    assert!(
        cancelled,
        "every run had its second layer before it was cancelled"
    );
    let kept = inode(&first);

    let mut seen = Vec::new();
    let flag = AtomicBool::new(false);
    let report = |done, total| {
        seen.push((done, total));
        Ok(())
    };
    proofs::pc1(
        sector.pc1_task(&infos),
        &mut Control::new(&flag, Box::new(report)),
    )
    .unwrap();
    assert_eq!(inode(&first), kept, "layer 1 was computed again");
    assert_eq!(seen.last(), Some(&(LAYERS * labels, LAYERS * labels)));
    // A layer that is computed would be seen on its way.
    assert!(
        seen.iter().all(|(done, _)| *done == 0 || *done >= labels),
        "{seen:?}"
    );
}

#[test]
fn pieces_that_are_not_those_of_tree_d_are_refused() {
    let (sector, mut infos) = staged(StackedDrg2KiBV1_1);
    infos[0].commitment = proofs::zero_commitment(2048);
    let error = proofs::pc1(sector.pc1_task(&infos), &mut Control::none()).unwrap_err();
    let text = one_line(&error);
    let tree_d = sector.cache().join("sc-02-data-tree-d.dat");
    assert!(
        text.starts_with(&format!("tree_d {}: its root is ", tree_d.display())),
        "{text}"
    );
    assert!(!sector.sealed().exists());
}
