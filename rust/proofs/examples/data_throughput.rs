//! Throughput of `add_pieces` or `tree_d` beside the library's own, on files in the temporary
//! directory: `cargo run --release -p proofs --example data_throughput -- add_pieces|tree_d`.
//!
//! One line per stage and piece size: MiB of padded data per second of wall time, and CPU seconds of all
//! threads; of each the best of three. For `tree_d` also what memory it takes, and the tree of zeros beside
//! a plain file of as many bytes.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use filecoin_proofs::types::StoreConfig;
use filecoin_proofs::{add_piece, DefaultPieceHasher};
use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount};
use proofs::tasks::{AddPieces, PieceFile, PieceSource, TreeD};
use proofs::Control;
use storage_proofs_core::merkle::{create_base_merkle_tree, BinaryMerkleTree};
use storage_proofs_core::util::NODE_SIZE;

const MIB: u64 = 1 << 20;
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    println!("stage          size   ours, library, ratio: MiB/s of wall time | CPU seconds");
    match env::args().nth(1).as_deref() {
        Some("add_pieces") => {
            add_pieces(dir.path(), 8 * MIB)?;
            add_pieces(dir.path(), 64 * MIB)
        }
        Some("tree_d") => {
            tree_d(dir.path(), RegisteredSealProof::StackedDrg8MiBV1_1)?;
            tree_d(dir.path(), RegisteredSealProof::StackedDrg512MiBV1_1)?;
            tree_of_zeros(dir.path(), 512 * MIB)
        }
        found => bail!("stage {found:?}: expected add_pieces or tree_d"),
    }
}

/// Wall time and CPU time of all threads.
struct Times {
    wall: Duration,
    cpu: Duration,
}

/// The best times of a few runs.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<Times> {
    let mut best = Times {
        wall: Duration::MAX,
        cpu: Duration::MAX,
    };
    for _ in 0..ROUNDS {
        let (start, cpu) = (Instant::now(), cpu_time());
        run()?;
        best.wall = best.wall.min(start.elapsed());
        best.cpu = best.cpu.min(cpu_time() - cpu);
    }
    Ok(best)
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written by the call, which can't fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn print(stage: &str, padded: u64, ours: &Times, library: &Times) {
    let speed = |times: &Times| (padded / MIB) as f64 / times.wall.as_secs_f64();
    println!(
        "{stage:<10}  {:>3} MiB  {:>4.0} {:>4.0} {:>4.1} | {:>6.3} {:>6.3} {:>4.1}",
        padded / MIB,
        speed(ours),
        speed(library),
        library.wall.as_secs_f64() / ours.wall.as_secs_f64(),
        ours.cpu.as_secs_f64(),
        library.cpu.as_secs_f64(),
        library.cpu.as_secs_f64() / ours.cpu.as_secs_f64(),
    );
}

fn add_pieces(dir: &Path, padded: u64) -> Result<()> {
    let piece_size = padded / 128 * 127;
    let payload = dir.join("payload");
    fs::write(
        &payload,
        (0..piece_size).map(|i| (i % 251) as u8).collect::<Vec<_>>(),
    )?;
    let task = AddPieces {
        seal_proof_type: RegisteredSealProof::StackedDrg512MiBV1_1,
        pieces: vec![PieceSource {
            piece_file: PieceFile::Local(payload.clone()),
            payload_size: piece_size,
            piece_size,
        }],
        staged_filepath: dir.join("staged"),
    };
    let ours = best(|| proofs::add_pieces(&task, &mut Control::none()).map(|_| ()))?;
    let library = best(|| {
        let staged = File::create(dir.join("staged-library"))?;
        add_piece(
            File::open(&payload)?,
            &staged,
            UnpaddedBytesAmount(piece_size),
            &[],
        )?;
        // Ours is on the disk when it returns.
        Ok(staged.sync_all()?)
    })?;
    print("add_pieces", padded, &ours, &library);
    Ok(())
}

fn tree_d(dir: &Path, proof: RegisteredSealProof) -> Result<()> {
    let size: u64 = proof.sector_size().into();
    let staged = dir.join("staged");
    fs::write(
        &staged,
        (0..size)
            .map(|i| (i % 251) as u8 & 0x3f)
            .collect::<Vec<_>>(),
    )?;
    let tree_dir = dir.join("tree");
    fs::create_dir(&tree_dir)?;
    let task = TreeD {
        registered_proof: proof,
        staged_file: staged.clone(),
        cache_dir: tree_dir.clone(),
    };
    let before = resident_peak_from_here()?;
    let ours = best(|| proofs::tree_d(&task, &mut Control::none()))?;
    let memory = (resident("VmHWM:")? - before) as f64 / MIB as f64;
    let library = best(|| {
        let tree = tree_dir.join("sc-02-data-tree-d.dat");
        fs::remove_file(&tree)?;
        let data = fs::read(&staged)?;
        let config = StoreConfig::new(&tree_dir, "tree-d".to_owned(), 0);
        create_base_merkle_tree::<BinaryMerkleTree<DefaultPieceHasher>>(
            Some(config),
            data.len() / NODE_SIZE,
            &data,
        )?;
        Ok(File::open(&tree)?.sync_all()?)
    })?;
    fs::remove_dir_all(&tree_dir)?;
    print("tree_d", size, &ours, &library);
    println!("            memory of ours: {memory:.1} MiB");
    Ok(())
}

/// Bytes resident now, from where on `VmHWM` counts.
fn resident_peak_from_here() -> Result<u64> {
    fs::write("/proc/self/clear_refs", "5")?;
    resident("VmRSS:")
}

/// A figure of this process's memory, in bytes.
fn resident(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.with_context(|| format!("no {name} in /proc/self/status"))?;
    let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

/// The tree of a sector without data, beside a plain file of the bytes that the tree's takes on the disk.
fn tree_of_zeros(dir: &Path, size: u64) -> Result<()> {
    let ours = best(|| proofs::static_tree_d(size, dir, &mut Control::none()))?;
    let written = fs::metadata(dir.join("sc-02-data-tree-d.dat"))?.blocks() * 512;
    let plain = best(|| {
        let mut file = File::create(dir.join("plain"))?;
        let buffer = vec![0x5a; 4 * MIB as usize];
        for _ in 0..written / (4 * MIB) {
            file.write_all(&buffer)?;
        }
        Ok(file.sync_all()?)
    })?;
    println!(
        "tree_d of zeros, {} MiB sector, {} MiB on the disk: {:.2} s, a plain file of as many {:.2} s, {:.2} \
         times as fast",
        size / MIB,
        written / MIB,
        ours.wall.as_secs_f64(),
        plain.wall.as_secs_f64(),
        plain.wall.as_secs_f64() / ours.wall.as_secs_f64()
    );
    Ok(())
}
