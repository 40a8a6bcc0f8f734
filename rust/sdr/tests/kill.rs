//! kill -9 in the middle of layers of an 11-layer sector: the next run starts there.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{judge_layers, spec, Random};
use sdr::graph::GraphVersion;
use tempfile::TempDir;

const LAYERS: u32 = 11;
const SIZE: u64 = 2 << 20;

fn labeller(cache_dir: &Path, parents_dir: &Path, replica_id: &[u8; 32]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sdr-label"));
    command
        .args([SIZE.to_string(), LAYERS.to_string()])
        .args([cache_dir, parents_dir])
        .arg(
            replica_id
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>(),
        );
    command
}

/// How many layers are in a cache directory, from the first on.
fn layers_in(dir: &Path) -> u32 {
    let there = |layer: &u32| dir.join(format!("sc-02-data-layer-{layer}.dat")).exists();
    (1..=LAYERS).take_while(there).count() as u32
}

/// The cache directory of a run that was killed anywhere in layer `cut`, with the file of the layer before
/// there.
fn killed_in(cut: u32, parents_dir: &Path, replica_id: &[u8; 32], random: &mut Random) -> TempDir {
    // On a busy machine a run may end before it is killed.
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = labeller(dir.path(), parents_dir, replica_id)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let start = format!("layer {cut} node ");
        lines
            .find(|line| line.as_ref().unwrap().starts_with(&start))
            .unwrap()
            .unwrap();
        let before = dir.path().join(format!("sc-02-data-layer-{}.dat", cut - 1));
        while cut > 1 && !before.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.below(10)));
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            return dir;
        }
    }
    panic!("every run ended before it could be killed in layer {cut}");
}

#[test]
fn resume_starts_at_the_layer_that_was_cut() {
    let mut random = Random(21);
    let parents = tempfile::tempdir().unwrap();
    let replica_id = random.field_element();
    let expected = judge_layers(&spec(5, GraphVersion::V1_1, SIZE), &replica_id, LAYERS);
    for cut in [1, 2, 7, 11] {
        let dir = killed_in(cut, parents.path(), &replica_id, &mut random);
        let there = layers_in(dir.path());
        let output = labeller(dir.path(), parents.path(), &replica_id)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, kept) = text.split_once("kept [").unwrap();
        let kept = kept
            .split(']')
            .next()
            .unwrap()
            .split(", ")
            .filter(|layer| !layer.is_empty())
            .count() as u32;
        assert!(
            kept == there && kept + 1 >= cut && kept < LAYERS,
            "cut in layer {cut}, kept {kept} of {there} layers"
        );
        for (layer, expected) in (1..).zip(&expected) {
            let labels =
                fs::read(dir.path().join(format!("sc-02-data-layer-{layer}.dat"))).unwrap();
            assert!(
                labels == *expected,
                "layer {layer} after a cut in layer {cut}"
            );
        }
    }
}
