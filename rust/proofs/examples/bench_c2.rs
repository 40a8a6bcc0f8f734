//! C2 of a 2 KiB sector by the proofs library and by this program's prover: CPU seconds and peak memory,
//! each in a process of its own, as ratios. `make bench-proving` runs it; `crate`, `portable` or `best` as
//! argument leaves the others out.
//!
//! Needs the Groth16 parameters of 2 KiB sectors in the parameter cache.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use proofs::tasks::{AddPieces, TreeD, C1, C2, PC1, PC2};
use proofs::{Control, RegisteredSealProof, SealCommitPhase1Output};

const PROOF: RegisteredSealProof = RegisteredSealProof::StackedDrg2KiBV1_1;

/// Argument, `DAMOCLES_C2_ENGINE`, `DAMOCLES_C2_ARITHMETIC`, what it is called.
type Engine = [&'static str; 4];
const ENGINES: [Engine; 3] = [
    ["crate", "crate", "", "proofs library"],
    ["portable", "groth16", "portable", "this prover, portable"],
    ["best", "groth16", "", "this prover, the CPU's best"],
];
const SECTOR_ID: u64 = 1;
const PROVER_ID: [u8; 32] = [1; 32];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(&ENGINES),
        ["--c1", path] => prove(Path::new(path)),
        [engine] => match ENGINES.iter().find(|[name, ..]| *name == engine) {
            Some(engine) => compare(&[*engine]),
            None => bail!("{engine}: no engine, one of {ENGINES:?} expected"),
        },
        _ => bail!("one engine at most expected"),
    }
}

fn compare(engines: &[Engine]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let c1 = dir.path().join("c1.json");
    fs::write(&c1, serde_json::to_vec(&seal(dir.path())?)?)?;
    println!("C2 of a 2 KiB sector     CPU s  x less  wall s  peak MB");
    let mut first = None;
    for [_, engine, arithmetic, name] in engines {
        let output = Command::new(env::current_exe()?)
            .arg("--c1")
            .arg(&c1)
            .env("DAMOCLES_C2_ENGINE", engine)
            .env("DAMOCLES_C2_ARITHMETIC", arithmetic)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let numbers: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
        let [cpu, wall, peak] = numbers[..] else {
            bail!("{name}: printed {text:?}");
        };
        let ratio = *first.get_or_insert(cpu) / cpu;
        println!("{name:<28}{cpu:>8.1}{ratio:>8.2}{wall:>8.1}{peak:>9.0}");
    }
    Ok(())
}

/// A sector without deals up to C1.
fn seal(dir: &Path) -> Result<SealCommitPhase1Output> {
    let (staged, sealed, cache) = (dir.join("staged"), dir.join("sealed"), dir.join("cache"));
    fs::create_dir(&cache)?;
    let control = &mut Control::none();
    let piece_infos = proofs::add_pieces(
        &AddPieces {
            seal_proof_type: PROOF,
            pieces: Vec::new(),
            staged_filepath: staged.clone(),
        },
        control,
    )?;
    proofs::tree_d(
        &TreeD {
            registered_proof: PROOF,
            staged_file: staged.clone(),
            cache_dir: cache.clone(),
        },
        control,
    )?;
    let ticket = [1; 32];
    let pc1out = proofs::pc1(
        PC1 {
            registered_proof: PROOF,
            cache_path: cache.clone(),
            in_path: staged,
            out_path: sealed.clone(),
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket,
            piece_infos: piece_infos.clone(),
            empty_sealed_file: false,
        },
        control,
    )?;
    let pc2out = proofs::pc2(
        PC2 {
            pc1out,
            cache_dir: cache.clone(),
            sealed_file: sealed.clone(),
        },
        control,
    )?;
    proofs::c1(
        C1 {
            cache_path: cache,
            replica_path: sealed,
            prover_id: PROVER_ID,
            sector_id: SECTOR_ID,
            ticket,
            seed: [5; 32],
            pc2out,
            piece_infos,
        },
        control,
    )
}

/// Proves the C1 output in the file and prints CPU seconds, wall seconds and the peak memory in MB.
fn prove(c1: &Path) -> Result<()> {
    let c1out: SealCommitPhase1Output = serde_json::from_slice(&fs::read(c1)?)?;
    let task = C2 {
        c1out,
        prover_id: PROVER_ID,
        sector_id: SECTOR_ID,
        miner_id: 0,
    };
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    proofs::c2(task, &mut Control::none())?;
    println!(
        "{:.2} {:.2} {:.0}",
        cpu_seconds()? - cpu,
        start.elapsed().as_secs_f64(),
        peak_megabytes()?
    );
    Ok(())
}

/// CPU time of this process so far, user and system, all threads.
fn cpu_seconds() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The fields behind the command's name, which is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.flat_map(str::parse).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The most memory this process has had, pages of mapped files included.
fn peak_megabytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    let kilobytes: f64 = kilobytes.context("VmHWM in /proc/self/status")?.parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
