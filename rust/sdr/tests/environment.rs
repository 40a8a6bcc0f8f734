//! What the environment makes of a run: without SHA instructions, without NUMA nodes.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{assert_layers, judge_layers, spec, Random};
use sdr::arena::{create_files, file_prefix};
use sdr::graph::GraphVersion;

const SIZE: u64 = 64 << 10;
const LAYERS: u32 = 3;

/// Labels a sector in a process with these variables; answers whether it ended well and what it said. The
/// labels are the crate's.
fn label(variables: &[(&str, &str)], dir: &Path) -> (bool, String) {
    let replica_id = Random(31).field_element();
    let cache = dir.join("cache");
    fs::create_dir_all(&cache).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sdr-label"))
        .args([SIZE.to_string(), LAYERS.to_string()])
        .args([&cache, &dir.join("parents")])
        .arg(hex::encode(replica_id))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    if output.status.success() {
        let layers = judge_layers(&spec(5, GraphVersion::V1_1, SIZE), &replica_id, LAYERS);
        assert_layers(&cache, &layers);
    }
    (
        output.status.success(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn without_sha_instructions_the_labels_are_the_crates_and_the_user_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (well, said) = label(&[("DAMOCLES_PC1_KERNEL", "portable")], dir.path());
    assert!(well, "{said}");
    assert!(
        said.contains("several times slower, by portable code"),
        "{said}"
    );
    let (well, said) = label(&[("DAMOCLES_PC1_KERNEL", "fast")], dir.path());
    assert!(!well);
    assert!(
        said.contains("DAMOCLES_PC1_KERNEL=fast: expected portable"),
        "{said}"
    );
}

/// Files of a node that this machine has no core of; the proofs library's fork took them as well.
#[test]
fn huge_page_files_of_every_node_are_used_when_numa_is_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("huge/numa_63");
    create_files(&pool, SIZE, 2, None).unwrap();
    let path = dir.path().join("huge");
    let huge = ("HUGEPAGE_FILES_PATH", path.to_str().unwrap());
    let (well, said) = label(&[huge, ("FIL_PROOFS_DISABLE_NUMA", "1")], dir.path());
    assert!(well, "{said}");
    assert!(
        said.contains("of any NUMA node are taken") && !said.contains("no free file"),
        "{said}"
    );
    // The last two layers are in them.
    for file in 0..2 {
        let found = fs::read(pool.join(format!("{}_{file}", file_prefix(SIZE)))).unwrap();
        let layers = [2, 3].map(|layer| common::layer_path(&dir.path().join("cache"), layer));
        assert!(layers.iter().any(|path| fs::read(path).unwrap() == found));
    }
}
