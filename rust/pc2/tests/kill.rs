//! kill -9 anywhere in PC2: nothing that looks whole is not, and the next run ends with the same files.

mod sector;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sector::{results, LAYERS, NODES, SUB_ARITY};

const KILLS: u64 = 10;

fn replicate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pc2-replicate"));
    command
        .args([NODES, LAYERS, SUB_ARITY].map(|number| number.to_string()))
        .args([dir, &dir.join("sealed")]);
    command
}

/// Runs PC2 to its end: how much of the work was done when it began, and comm_r.
fn finish(dir: &Path) -> (f64, String) {
    let output = replicate(dir).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let first = text.lines().next().unwrap();
    let numbers: Vec<f64> = first
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let comm_r = text.lines().last().unwrap();
    (numbers[0] / numbers[1], comm_r.to_owned())
}

#[test]
fn a_killed_pc2_is_taken_up_to_the_same_files() {
    let mut random = ChaCha8Rng::seed_from_u64(77);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    sector::write(dir, &mut random);
    let staged = fs::read(dir.join("sealed")).unwrap();
    let started = Instant::now();
    let (_, expected_comm_r) = finish(dir);
    let a_tenth = started.elapsed() / KILLS as u32;
    let expected = results(dir);
    assert_eq!(expected.len(), 1 + 2 * SUB_ARITY);

    let mut resumed = 0;
    for kill in 0..KILLS {
        for name in expected.keys() {
            fs::remove_file(dir.join(name)).unwrap();
        }
        fs::write(dir.join("sealed"), &staged).unwrap();
        let mut child = replicate(dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At a random moment of the tenth of the run that is this one's; the last ones may be when the files
        // get their names.
        let reached = lines.by_ref().map_while(Result::ok).find(|line| {
            let numbers: Vec<u64> = line
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect();
            numbers.len() == 2 && numbers[0] * KILLS >= numbers[1] * kill
        });
        assert!(reached.is_some());
        std::thread::sleep(a_tenth.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX)));
        child.kill().unwrap();
        child.wait().unwrap();

        for (name, contents) in results(dir) {
            let whole = match name.as_str() {
                "sealed" => contents == staged || contents == expected[&name],
                name if name.starts_with("sc-02") => contents == expected[name],
                _ => true,
            };
            assert!(whole, "{name} after kill {kill}");
        }
        let (done, comm_r) = finish(dir);
        resumed += u32::from(done > 0.0);
        assert_eq!(comm_r, expected_comm_r, "kill {kill}");
        assert!(results(dir) == expected, "files after kill {kill}");
    }
    assert!(resumed > 0, "no run found a finished tree");
}
