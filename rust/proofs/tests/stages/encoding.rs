//! The encoding of an upgrade: the library's own is the judge of all it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::replication::checksum;
use crate::sector::{payload, Sector};
use filecoin_proofs_api::update::empty_sector_update_encode_into;
use filecoin_proofs_api::RegisteredSealProof::{StackedDrg2KiBV1_1, StackedDrg8MiBV1_1};
use filecoin_proofs_api::{RegisteredSealProof, RegisteredUpdateProof};
use proofs::control::Cancelled;
use proofs::failure::one_line;
use proofs::tasks::SnapEncode;
use proofs::Control;

/// A sealed sector without data, and a deal of its whole size staged for it.
fn staged(proof: RegisteredSealProof) -> (Sector, SnapEncode) {
    let sector = Sector::new(proof);
    sector.seal(vec![]);
    let size = sector.size() / 128 * 127;
    let deal = payload(usize::try_from(size).unwrap(), 21);
    let pieces = sector.add_pieces(vec![sector.piece("deal", &deal, size)]);
    let cache = sector.dir.path().join("update-cache");
    fs::create_dir(&cache).unwrap();
    let registered_proof = match proof {
        StackedDrg8MiBV1_1 => RegisteredUpdateProof::StackedDrg8MiBV1,
        _ => RegisteredUpdateProof::StackedDrg2KiBV1,
    };
    let task = SnapEncode {
        registered_proof,
        new_replica_path: sector.dir.path().join("update"),
        new_cache_path: cache,
        sector_path: sector.sealed(),
        sector_cache_path: sector.cache(),
        staged_data_path: sector.staged(),
        piece_infos: pieces,
    };
    (sector, task)
}

/// Checksums of the update file and of what is in the update-cache, by name.
fn results(update: &Path, cache: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([("update".to_owned(), checksum(update))]);
    for entry in fs::read_dir(cache).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        files.insert(name, checksum(&entry.path()));
    }
    files
}

fn leaves_what_the_librarys_leaves(proof: RegisteredSealProof) {
    let (sector, task) = staged(proof);
    let (update, cache) = ["their-update", "their-cache"]
        .map(|name| sector.dir.path().join(name))
        .into();
    fs::create_dir(&cache).unwrap();
    fs::write(&update, vec![0; usize::try_from(sector.size()).unwrap()]).unwrap();
    let expected = empty_sector_update_encode_into(
        task.registered_proof,
        &update,
        &cache,
        &task.sector_path,
        &task.sector_cache_path,
        &task.staged_data_path,
        &task.piece_infos,
    )
    .unwrap();

    let mut seen = Vec::new();
    let flag = AtomicBool::new(false);
    let report = |done, total| {
        seen.push((done, total));
        Ok(())
    };
    let mut control = Control::new(&flag, Box::new(report));
    let found = proofs::snap_encode(&task, &mut control).unwrap();
    drop(control);
    assert_eq!(found.comm_r_new, expected.comm_r_new);
    assert_eq!(found.comm_r_last_new, expected.comm_r_last_new);
    assert_eq!(found.comm_d_new, expected.comm_d_new);
    let found = results(&task.new_replica_path, &task.new_cache_path);
    assert_eq!(found, results(&update, &cache));
    let (done, total) = seen[seen.len() - 1];
    assert!(done == total && total > 0, "{seen:?}");
}

#[test]
fn an_encoded_2kib_sector_has_the_files_of_the_librarys() {
    leaves_what_the_librarys_leaves(StackedDrg2KiBV1_1);
}

#[test]
fn an_encoded_8mib_sector_has_the_files_of_the_librarys() {
    leaves_what_the_librarys_leaves(StackedDrg8MiBV1_1);
}

#[test]
fn a_cancelled_encoding_leaves_the_update_file_as_it_was() {
    let (_sector, task) = staged(StackedDrg8MiBV1_1);
    fs::write(&task.new_replica_path, b"of an earlier run").unwrap();
    let flag = AtomicBool::new(false);
    // The first report may be of tree_d, which goes on for one step more.
    let report = |_, _| {
        flag.store(true, Ordering::Relaxed);
        Ok(())
    };
    let mut control = Control::new(&flag, Box::new(report));
    let error = proofs::snap_encode(&task, &mut control).unwrap_err();
    assert!(error.is::<Cancelled>(), "{error:?}");
    assert_eq!(
        fs::read(&task.new_replica_path).unwrap(),
        b"of an earlier run"
    );
    for name in ["p_aux", "t_aux", "sc-02-data-tree-r-last.dat"] {
        assert!(!task.new_cache_path.join(name).exists(), "{name}");
    }
}

#[test]
fn a_tree_d_with_a_damaged_leaf_is_not_encoded() {
    let (_sector, task) = staged(StackedDrg2KiBV1_1);
    proofs::snap_encode(&task, &mut Control::none()).unwrap();
    let before = fs::read(&task.new_replica_path).unwrap();
    let tree_d = task.new_cache_path.join("sc-02-data-tree-d.dat");
    let mut nodes = fs::read(&tree_d).unwrap();
    nodes[1000] ^= 1;
    fs::write(&tree_d, nodes).unwrap();
    let error = proofs::snap_encode(&task, &mut Control::none()).unwrap_err();
    let text = one_line(&error);
    let start = format!("tree_d {}: the root over its leaves is ", tree_d.display());
    assert!(text.starts_with(&start), "{text}");
    assert!(fs::read(&task.new_replica_path).unwrap() == before);
}
