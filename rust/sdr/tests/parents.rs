//! Parents cache files: the proofs crate's names and bytes, published digests, damage.

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::{judge_graph, judge_parents, specs};
use sdr::graph::{GraphSpec, DEGREE};
use sdr::parents::{distrust, file_name, file_size, look, Check, ParentsCache};

fn obtain(dir: &Path, spec: GraphSpec) -> (ParentsCache, Vec<String>) {
    let mut said = Vec::new();
    let cache = ParentsCache::obtain(dir, spec, 2, &mut |_, _| Ok(()), &mut |text| {
        said.push(text)
    });
    (cache.unwrap(), said)
}

#[test]
fn name_and_bytes_are_the_crates() {
    let dir = tempfile::tempdir().unwrap();
    // The crate reads its settings once per process, and this is the only test here that uses them.
    std::env::set_var("FIL_PROOFS_PARENT_CACHE", dir.path().join("judge"));
    fs::create_dir(dir.path().join("judge")).unwrap();
    let sizes = [2 << 10, 8 << 20];
    // At 8 MiB the crate needs some seconds per file: one proof type with a published digest, one without.
    let checked = specs(sizes[0])
        .into_iter()
        .chain([specs(sizes[1])[1], specs(sizes[1])[3]]);
    for spec in checked {
        let judge = judge_graph(&spec).parent_cache().unwrap();
        let (ours, said) = obtain(&dir.path().join("ours"), spec);
        assert_eq!(judge.path.file_name(), ours.path().file_name());
        assert!(
            fs::read(&judge.path).unwrap() == fs::read(ours.path()).unwrap(),
            "{spec:?}"
        );
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn published_digests_accept_what_was_generated_at_8_mib() {
    let dir = tempfile::tempdir().unwrap();
    for spec in &specs(8 << 20)[..2] {
        let (cache, _) = obtain(dir.path(), *spec);
        let judge = judge_graph(spec);
        for node in (0..spec.nodes).step_by(997) {
            assert_eq!(cache.rows()[node as usize], judge_parents(&judge, node));
        }
    }
}

#[test]
fn damaged_files_are_made_again_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let all = specs(2 << 10);
    for (spec, why) in [(all[1], "published digest"), (all[2], "recorded digest")] {
        let path = dir.path().join(file_name(&spec));
        let (good, _) = obtain(dir.path(), spec);
        let expected: Vec<[u32; DEGREE]> = good.rows().to_vec();
        drop(good);

        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (again, said) = obtain(dir.path(), spec);
        assert_eq!(again.rows(), expected, "{why}");
        assert!(said.len() == 1 && said[0].contains("SHA-256"), "{said:?}");
        drop(again);

        fs::write(&path, &bytes[..1000]).unwrap();
        let (again, said) = obtain(dir.path(), spec);
        assert_eq!(again.rows(), expected, "{why}");
        let sizes = format!("1000 bytes found, {} expected", file_size(&spec));
        assert!(said.len() == 1 && said[0].contains(&sizes), "{said:?}");
    }
}

#[test]
fn a_file_of_unknown_origin_without_published_digest_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let spec = specs(2 << 10)[3];
    fs::write(
        dir.path().join(file_name(&spec)),
        vec![0; file_size(&spec) as usize],
    )
    .unwrap();
    let (cache, said) = obtain(dir.path(), spec);
    assert_eq!(cache.rows()[63], judge_parents(&judge_graph(&spec), 63));
    assert!(
        said.len() == 1 && said[0].contains("no digest is known"),
        "{said:?}"
    );
}

#[test]
fn an_error_of_the_report_ends_the_work_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let spec = specs(8 << 20)[0];
    let result = ParentsCache::obtain(
        dir.path(),
        spec,
        2,
        &mut |done, _| {
            anyhow::ensure!(done == 0, "enough");
            Ok(())
        },
        &mut |_| (),
    );
    assert_eq!(result.err().unwrap().root_cause().to_string(), "enough");
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [format!("{}.lock", file_name(&spec))]);
}

#[test]
fn a_look_tells_what_is_known_and_leaves_the_file_alone() {
    let dir = tempfile::tempdir().unwrap();
    let spec = specs(2 << 10)[1];
    let quick = || look(dir.path(), &spec, None).unwrap().1;
    let read = || look(dir.path(), &spec, Some(&mut |_, _| Ok(()))).unwrap().1;
    let path = dir.path().join(file_name(&spec));
    assert_eq!(quick(), Some(Check::Missing));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    drop(obtain(dir.path(), spec));
    assert_eq!(quick(), Some(Check::Good));
    // A copy has another inode: the record no longer fits, and the digest counts again.
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(quick(), None);
    assert_eq!(read(), Some(Check::Good));
    assert_eq!(quick(), Some(Check::Good));

    fs::write(&path, vec![0; bytes.len()]).unwrap();
    assert_eq!(quick(), None);
    assert!(matches!(read(), Some(Check::Bad(why)) if why.contains("SHA-256")));
    fs::write(&path, &bytes[1..]).unwrap();
    assert!(matches!(quick(), Some(Check::Bad(why)) if why.contains("bytes found")));
}

/// A disk that rots changes neither size, nor inode, nor time.
fn rot(path: &Path, change: impl FnOnce(&mut [u8])) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let times = fs::FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    file.write_all_at(&bytes, 0).unwrap();
    file.set_times(times).unwrap();
}

#[test]
fn a_file_that_rotted_after_its_digest_was_recorded_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    for spec in &specs(2 << 10)[1..3] {
        let (good, _) = obtain(dir.path(), *spec);
        let expected: Vec<[u32; DEGREE]> = good.rows().to_vec();
        let path = good.path().to_owned();
        drop(good);
        rot(&path, |bytes| bytes[100] ^= 1);
        let (again, said) = obtain(dir.path(), *spec);
        assert_eq!(again.rows(), expected);
        assert!(said[0].contains("node 1 "), "{said:?}");
    }
}

#[test]
fn a_distrusted_file_is_read_as_a_whole_and_kept_if_it_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let spec = specs(2 << 10)[2];
    let (good, _) = obtain(dir.path(), spec);
    let inode = fs::metadata(good.path()).unwrap().ino();
    assert!(matches!(
        look(dir.path(), &spec, None),
        Ok((_, Some(Check::Good)))
    ));
    distrust(dir.path(), &spec);
    assert!(matches!(look(dir.path(), &spec, None), Ok((_, None))));
    let (again, said) = obtain(dir.path(), spec);
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(fs::metadata(again.path()).unwrap().ino(), inode);
}
