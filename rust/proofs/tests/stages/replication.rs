//! PC2 by the engine of the `pc2` crate: the library's own PC2 is the judge of all it leaves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sector::{payload, Sector};
use filecoin_proofs_api::seal::{
    seal_pre_commit_phase2, SealPreCommitPhase1Output, SealPreCommitPhase2Output,
};
use filecoin_proofs_api::RegisteredSealProof::{
    self, StackedDrg2KiBV1, StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
    StackedDrg2KiBV1_2_Feat_NonInteractivePoRep, StackedDrg512MiBV1_1, StackedDrg8MiBV1_1,
};
use pc2::DamagedLayer;
use proofs::control::Cancelled;
use proofs::failure::one_line;
use proofs::{Control, PieceInfo};
use sdr::layers::Checksum;

/// A sector with one deal, up to PC1.
fn labelled(proof: RegisteredSealProof) -> (Sector, Vec<PieceInfo>, SealPreCommitPhase1Output) {
    let sector = Sector::new(proof);
    let piece_size = sector.size() / 128 * 127;
    let data = payload(usize::try_from(piece_size).unwrap(), 33);
    let infos = sector.add_pieces(vec![sector.piece("deal", &data, piece_size)]);
    sector.tree_d();
    let pc1out = sector.pc1(&infos);
    (sector, infos, pc1out)
}

/// The checksums of the files that PC2 leaves, by name: the replica and what is in the cache directory
/// but not PC1's.
fn results(sector: &Sector) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([("replica".to_owned(), checksum(&sector.sealed()))]);
    for entry in fs::read_dir(sector.cache()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.contains("layer") && !name.contains("tree-d") {
            files.insert(name, checksum(&entry.path()));
        }
    }
    files
}

/// Of a file that may be large.
pub fn checksum(path: &Path) -> String {
    let mut checksum = Checksum::default();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return checksum.hex(),
            read => checksum.update(&buffer[..read]),
        }
    }
}

/// What the library's PC2 leaves in the same place, where then there is none of it again.
fn library_results(
    sector: &Sector,
    pc1out: &SealPreCommitPhase1Output,
) -> (SealPreCommitPhase2Output, BTreeMap<String, String>) {
    let output = seal_pre_commit_phase2(pc1out.clone(), sector.cache(), sector.sealed()).unwrap();
    let files = results(sector);
    for name in files.keys().filter(|name| *name != "replica") {
        fs::remove_file(sector.cache().join(name)).unwrap();
    }
    fs::copy(sector.staged(), sector.sealed()).unwrap();
    (output, files)
}

fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, contents) in expected {
        assert_eq!(found[name], *contents, "{name} differs");
    }
}

fn leaves_what_the_librarys_leaves(proof: RegisteredSealProof) {
    let (sector, infos, pc1out) = labelled(proof);
    let (expected_output, expected) = library_results(&sector, &pc1out);
    let output = sector.pc2(pc1out.clone());
    assert_eq!(output.comm_r, expected_output.comm_r);
    assert_eq!(output.comm_d, expected_output.comm_d);
    assert_same(&results(&sector), &expected);
    // C1 checks its vanilla proofs against comm_d and comm_r.
    if proof == StackedDrg2KiBV1_1_Feat_SyntheticPoRep {
        sector.synth_proof(&output, &infos);
        fs::remove_file(sector.cache().join("syn-porep-vanilla-proofs.dat")).unwrap();
    } else {
        sector.c1(&output, &infos);
    }
    // The data comes from tree_d: a replica is not encoded twice.
    sector.pc2(pc1out);
    assert_same(&results(&sector), &expected);
}

#[test]
fn pc2_of_2kib_leaves_what_the_librarys_leaves() {
    for proof in [
        StackedDrg2KiBV1,
        StackedDrg2KiBV1_1,
        StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
        StackedDrg2KiBV1_2_Feat_NonInteractivePoRep,
    ] {
        leaves_what_the_librarys_leaves(proof);
    }
}

#[test]
fn pc2_of_8mib_leaves_what_the_librarys_leaves() {
    leaves_what_the_librarys_leaves(StackedDrg8MiBV1_1);
}

#[test]
#[ignore = "takes the library's PC2 of 512 MiB, ten minutes of CPU time: make test-slow"]
fn pc2_of_512mib_leaves_what_the_librarys_leaves() {
    leaves_what_the_librarys_leaves(StackedDrg512MiBV1_1);
}

#[test]
fn pc2_after_an_empty_sealed_file_leaves_the_same() {
    let (sector, infos, pc1out) = labelled(StackedDrg2KiBV1_1);
    let (_, expected) = library_results(&sector, &pc1out);
    let task = proofs::tasks::PC1 {
        empty_sealed_file: true,
        ..sector.pc1_task(&infos)
    };
    let pc1out = proofs::pc1(task, &mut Control::none()).unwrap();
    let sealed = fs::metadata(sector.sealed()).unwrap();
    assert_eq!((sealed.len(), sealed.blocks()), (2048, 0));
    sector.pc2(pc1out);
    assert_same(&results(&sector), &expected);
}

#[test]
fn a_damaged_leaf_of_tree_d_is_found_before_there_is_a_replica() {
    let (sector, _, pc1out) = labelled(StackedDrg2KiBV1_1);
    let tree_d = sector.cache().join("sc-02-data-tree-d.dat");
    let mut nodes = fs::read(&tree_d).unwrap();
    nodes[1000] ^= 1;
    fs::write(&tree_d, nodes).unwrap();
    let error = proofs::pc2(sector.pc2_task(pc1out), &mut Control::none()).unwrap_err();
    let text = one_line(&error);
    let start = format!("tree_d {}: the root over its leaves is ", tree_d.display());
    assert!(text.starts_with(&start), "{text}");
    assert!(fs::read(sector.sealed()).unwrap() == fs::read(sector.staged()).unwrap());
}

/// Runs PC2 and cancels it when `when` says so of a report. Returns the reports.
fn pc2_cancelled(
    sector: &Sector,
    pc1out: &SealPreCommitPhase1Output,
    when: impl Fn() -> bool + Sync,
) -> (bool, Vec<(u64, u64)>) {
    let mut seen = Vec::new();
    let flag = AtomicBool::new(false);
    let report = |done, total| {
        seen.push((done, total));
        flag.store(when(), Ordering::Relaxed);
        Ok(())
    };
    let mut control = Control::new(&flag, Box::new(report));
    let result = proofs::pc2(sector.pc2_task(pc1out.clone()), &mut control);
    drop(control);
    let cancelled = result.is_err_and(|error| {
        assert!(error.is::<Cancelled>(), "{error:?}");
        true
    });
    (cancelled, seen)
}

#[test]
fn a_cancelled_pc2_leaves_the_staged_data_and_keeps_finished_trees() {
    let (sector, _, pc1out) = labelled(StackedDrg8MiBV1_1);
    let (_, expected) = library_results(&sector, &pc1out);
    let staged = fs::read(sector.staged()).unwrap();
    let tree_c = sector.cache().join("pc2-c.dat");
    let finished = ["sc-02-data-tree-r-last.dat", "p_aux"].map(|name| sector.cache().join(name));
    // On a busy machine a run may end, or have written all, before it is seen between the two trees.
    let cancelled = (0..20).any(|_| {
        fs::copy(sector.staged(), sector.sealed()).unwrap();
        for path in &finished {
            let _ = fs::remove_file(path);
        }
        let (cancelled, _) = pc2_cancelled(&sector, &pc1out, || tree_c.exists());
        cancelled && !finished.iter().any(|path| path.exists())
    });
    assert!(cancelled, "every run had ended before it was cancelled");
    assert!(tree_c.exists());
    assert!(fs::read(sector.sealed()).unwrap() == staged);

    let (cancelled, seen) = pc2_cancelled(&sector, &pc1out, || false);
    assert!(!cancelled);
    let (_, total) = seen[0];
    // tree_c is more than half of the work.
    assert!(seen.iter().all(|(done, _)| *done > total / 2), "{seen:?}");
    assert_eq!(seen.last(), Some(&(total, total)));
    assert_same(&results(&sector), &expected);
}

fn layer(sector: &Sector, number: u32) -> PathBuf {
    sector
        .cache()
        .join(format!("sc-02-data-layer-{number}.dat"))
}

/// The damaged layer that PC2 names.
fn damaged(sector: &Sector, pc1out: &SealPreCommitPhase1Output) -> DamagedLayer {
    let task = sector.pc2_task(pc1out.clone());
    let error = proofs::pc2(task, &mut Control::none()).unwrap_err();
    let text = one_line(&error);
    let damaged = error.downcast::<DamagedLayer>().expect(&text);
    assert_eq!(damaged.path, layer(sector, damaged.layer));
    assert_eq!(results(sector).len(), 1, "only the sealed file");
    damaged
}

#[test]
fn pc2_names_a_damaged_layer_and_pc1_makes_it_again() {
    let (sector, infos, pc1out) = labelled(StackedDrg2KiBV1_1);
    let (_, expected) = library_results(&sector, &pc1out);
    let path = layer(&sector, 1);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[1000] ^= 1;
    let cases = [
        (Some(&flipped[..]), "its checksum is wrong"),
        (Some(&whole[..2016]), "2016 bytes found, 2048 expected"),
        (None, "is missing"),
    ];
    for (contents, why) in cases {
        match contents {
            Some(contents) => fs::write(&path, contents).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let found = damaged(&sector, &pc1out);
        assert_eq!((found.layer, found.why.as_str()), (1, why));
        assert_eq!(sector.pc1(&infos).comm_d, pc1out.comm_d);
        assert!(fs::read(&path).unwrap() == whole, "{why}");
    }
    sector.pc2(pc1out);
    assert_same(&results(&sector), &expected);
}

#[test]
fn layers_need_checksums_of_one_sector_or_none_at_all() {
    let (sector, _, pc1out) = labelled(StackedDrg2KiBV1_1);
    let (_, expected) = library_results(&sector, &pc1out);
    let checksums = [1, 2].map(|number| layer(&sector, number).with_extension("sum"));
    let second = fs::read_to_string(&checksums[1]).unwrap();

    fs::write(
        &checksums[1],
        second.replace(r#""layer":2"#, r#""layer":1"#),
    )
    .unwrap();
    assert_eq!(damaged(&sector, &pc1out).layer, 2);
    fs::remove_file(&checksums[1]).unwrap();
    let found = damaged(&sector, &pc1out);
    assert_eq!(found.layer, 2);
    assert_eq!(found.why, "it has no checksum file");
    // As the library's PC1 leaves them.
    fs::remove_file(&checksums[0]).unwrap();
    let whole = fs::read(layer(&sector, 2)).unwrap();
    let mut foreign = whole.clone();
    foreign[32 * 7 + 31] = 0xff;
    fs::write(layer(&sector, 2), foreign).unwrap();
    let found = damaged(&sector, &pc1out);
    assert_eq!(found.layer, 2);
    assert_eq!(found.why, "node 7 is no field element");
    fs::write(layer(&sector, 2), whole).unwrap();
    sector.pc2(pc1out);
    assert_same(&results(&sector), &expected);
}

#[test]
fn a_tree_d_of_other_data_is_refused() {
    let (sector, _, mut pc1out) = labelled(StackedDrg2KiBV1_1);
    pc1out.comm_d = proofs::zero_commitment(2048);
    let task = sector.pc2_task(pc1out);
    let error = proofs::pc2(task, &mut Control::none()).unwrap_err();
    let tree_d = sector.cache().join("sc-02-data-tree-d.dat");
    let text = one_line(&error);
    assert!(
        text.starts_with(&format!("tree_d {}: its root is ", tree_d.display())),
        "{text}"
    );
}
