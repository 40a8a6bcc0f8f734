//! What PC2 reads is what was written, or it makes nothing of it.

mod sector;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, FileExt};
use std::path::Path;

use anyhow::{bail, Result};
use pc2::{Commitments, DamagedLayer, Engine, Sector};
use poseidon::{Kernel, Node};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sector::{layer, results, LAYERS, SHAPE, TREE_D};
use tempfile::TempDir;

/// A sector and its comm_d.
fn sector(seed: u64) -> (TempDir, Node) {
    let dir = tempfile::tempdir().unwrap();
    let comm_d = sector::write(dir.path(), &mut ChaCha8Rng::seed_from_u64(seed));
    (dir, comm_d)
}

/// PC2 on one thread, with `look` called at every report.
fn run(dir: &Path, comm_d: Node, look: &mut dyn FnMut() -> Result<()>) -> Result<Commitments> {
    let sector = Sector {
        shape: SHAPE,
        cache_dir: dir,
        data: &dir.join(TREE_D),
        comm_d,
        replica: &dir.join("sealed"),
    };
    let engine = Engine {
        kernel: Kernel::best(),
        threads: 1,
    };
    engine.run(&sector, &mut |_, _| look(), &mut |_| Ok(()))
}

/// Flips a bit of the byte at `offset`, or flips it back.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// Ends the run as soon as `path` is there.
fn until(path: &Path) -> impl FnMut() -> Result<()> + '_ {
    move || match path.exists() {
        true => bail!("cut here"),
        false => Ok(()),
    }
}

fn same_as_undisturbed(dir: &Path, seed: u64, commitments: Commitments) {
    let (other, comm_d) = sector(seed);
    let expected = run(other.path(), comm_d, &mut || Ok(())).unwrap();
    assert_eq!(commitments, expected);
    assert!(results(dir) == results(other.path()));
}

#[test]
fn a_flipped_leaf_of_tree_d_makes_no_replica_and_names_the_file_it_is_in() {
    let (dir, comm_d) = sector(1);
    let dir = dir.path();
    let elsewhere = tempfile::tempdir().unwrap();
    let shared = elsewhere.path().canonicalize().unwrap().join("static");
    // As a worker lays them: a link in the cache directory, to the link to the shared file.
    let prepared = elsewhere.path().join("prepared");
    let tree_d = dir.join(TREE_D);
    fs::rename(&tree_d, &shared).unwrap();
    symlink(&shared, &prepared).unwrap();
    symlink(&prepared, &tree_d).unwrap();
    flip(&shared, 32 * 20_000);
    let sealed = fs::read(dir.join("sealed")).unwrap();
    let error = run(dir, comm_d, &mut || Ok(())).unwrap_err().to_string();
    let start = format!(
        "tree_d {}, a link to {}: the root over its leaves is ",
        tree_d.display(),
        shared.display()
    );
    assert!(error.starts_with(&start), "{error}");
    assert!(fs::read(dir.join("sealed")).unwrap() == sealed);
    assert!(!dir.join("sc-02-data-tree-r-last-0.dat").exists());

    flip(&shared, 32 * 20_000);
    let commitments = run(dir, comm_d, &mut || Ok(())).unwrap();
    same_as_undisturbed(dir, 1, commitments);
}

#[test]
fn a_last_layer_that_changes_after_tree_c_is_a_damaged_layer() {
    let (dir, comm_d) = sector(2);
    let dir = dir.path();
    let last = layer(dir, LAYERS);
    let last_tree = dir.join("pc2-c-7.dat");
    let mut flipped = false;
    let error = run(dir, comm_d, &mut || {
        if last_tree.exists() && !flipped {
            flip(&last, SHAPE.size() - 32);
            flipped = true;
        }
        Ok(())
    })
    .unwrap_err();
    assert!(flipped);
    let found: DamagedLayer = error.downcast().unwrap();
    assert_eq!((found.layer, found.path), (LAYERS as u32, last));
    assert_eq!(results(dir).len(), 1, "only the sealed file");
}

#[test]
fn a_tree_made_of_a_bad_read_is_made_again_when_the_disk_gives_good_bytes() {
    let (dir, comm_d) = sector(3);
    let dir = dir.path();
    let first = layer(dir, 1);
    flip(&first, 1000);
    let error = run(dir, comm_d, &mut until(&dir.join("pc2-c-1.dat"))).unwrap_err();
    assert_eq!(error.to_string(), "cut here");
    flip(&first, 1000);
    let commitments = run(dir, comm_d, &mut || Ok(())).unwrap();
    same_as_undisturbed(dir, 3, commitments);
}

#[test]
fn a_tree_made_of_bad_data_is_made_again_when_the_disk_gives_good_bytes() {
    let (dir, comm_d) = sector(4);
    let dir = dir.path();
    let tree_d = dir.join(TREE_D);
    flip(&tree_d, 1000);
    let error = run(dir, comm_d, &mut until(&dir.join("pc2-r-last-1.dat"))).unwrap_err();
    assert_eq!(error.to_string(), "cut here");
    flip(&tree_d, 1000);
    let commitments = run(dir, comm_d, &mut || Ok(())).unwrap();
    same_as_undisturbed(dir, 4, commitments);
}

#[test]
fn what_fails_after_the_files_have_their_names_is_taken_up() {
    let (dir, comm_d) = sector(5);
    let dir = dir.path();
    let sector = Sector {
        shape: SHAPE,
        cache_dir: dir,
        data: &dir.join(TREE_D),
        comm_d,
        replica: &dir.join("sealed"),
    };
    let engine = Engine {
        kernel: Kernel::best(),
        threads: 2,
    };
    let error = engine
        .run(&sector, &mut |_, _| Ok(()), &mut |_| bail!("no p_aux"))
        .unwrap_err();
    assert_eq!(error.to_string(), "no p_aux");
    let mut first = None;
    let commitments = engine
        .run(
            &sector,
            &mut |done, total| {
                // Before the trees are looked at, nothing is known to be done.
                if done > 0 {
                    first.get_or_insert((done, total));
                }
                Ok(())
            },
            &mut |_| Ok(()),
        )
        .unwrap();
    let (done, total) = first.unwrap();
    assert_eq!(done, total, "every tree was there");
    same_as_undisturbed(dir, 5, commitments);
}

#[test]
fn a_run_waits_for_another_in_its_directory_and_can_be_told_not_to() {
    let (dir, comm_d) = sector(6);
    let dir = dir.path();
    let held = File::open(dir).unwrap();
    // SAFETY: flock takes an open descriptor and touches no memory.
    assert_eq!(
        unsafe { libc::flock(held.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) },
        0
    );
    let mut looks = 0;
    let error = run(dir, comm_d, &mut || {
        looks += 1;
        match looks {
            3 => bail!("told not to"),
            _ => Ok(()),
        }
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "told not to");
    assert_eq!(results(dir).len(), 1, "only the sealed file");
    drop(held);
    run(dir, comm_d, &mut || Ok(())).unwrap();
}
