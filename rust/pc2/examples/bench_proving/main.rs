//! Poseidon and PC2 beside the proofs crates, in one run: `make bench-proving`.
//!
//! CPU seconds of all threads, so that a busy machine does not count. Nothing here is labelled: PC2
//! takes any field elements for labels.
//!
//! With `--512mib` also PC2 of 512 MiB, which takes the library some ten minutes.

mod hashes;
mod sector;

use std::env;
use std::time::Duration;

use anyhow::{bail, Result};
use poseidon::Kernel;

/// Nodes of an 8 MiB sector, and of one of 512 MiB.
const NODES: usize = 1 << 18;
const NODES_512_MIB: usize = 1 << 24;
/// Nodes of a 32 GiB sector.
const NODES_32_GIB: f64 = (1u64 << 30) as f64;

fn main() -> Result<()> {
    let kernels = Kernel::all();
    let names: Vec<&str> = kernels.iter().map(Kernel::name).collect();
    println!("Kernels of this CPU: {}.\n", names.join(", "));
    println!("| Poseidon | neptune | ours | by | ratio |");
    println!("|---|---|---|---|---|");
    let rows = [
        hashes::compare::<typenum::U2>(&poseidon::ARITY_2, &kernels)?,
        hashes::compare::<typenum::U8>(&poseidon::ARITY_8, &kernels)?,
        hashes::compare::<typenum::U11>(&poseidon::ARITY_11, &kernels)?,
    ];
    for (arity, row) in [2, 8, 11].into_iter().zip(&rows) {
        for (kernel, ours) in kernels.iter().zip(&row.ours) {
            let micros = |time: &Duration| time.as_secs_f64() * 1e6;
            println!(
                "| arity {arity} | {:.2} µs | {:.2} µs | {} | {:.2} |",
                micros(&row.neptune),
                micros(ours),
                kernel.name(),
                row.neptune.as_secs_f64() / ours.as_secs_f64()
            );
        }
    }

    println!("\n| PC2 | crate, CPU s | ours, CPU s | by | ratio |");
    println!("|---|---|---|---|---|");
    let mut sectors = vec![("8 MiB", NODES, 2), ("8 MiB", NODES, 11)];
    match env::args().nth(1).as_deref() {
        None => {}
        Some("--512mib") => sectors.push(("512 MiB", NODES_512_MIB, 2)),
        Some(other) => bail!("{other}: expected --512mib, or nothing"),
    }
    for (size, nodes, layers) in sectors {
        let row = sector::compare(nodes, layers, &kernels)?;
        for (kernel, ours) in kernels.iter().zip(&row.ours) {
            println!(
                "| {size}, {layers} layers | {:.2} | {:.2} | {} | {:.2} |",
                row.library.as_secs_f64(),
                ours.as_secs_f64(),
                kernel.name(),
                row.library.as_secs_f64() / ours.as_secs_f64()
            );
        }
    }

    println!("\nHashes of a 32 GiB sector's PC2 on one core, extrapolated from the first table:");
    let [_, eight, eleven] = rows;
    let hours = |eight: Duration, eleven: Duration| {
        let tree = NODES_32_GIB / 7.0 * eight.as_secs_f64();
        (NODES_32_GIB * eleven.as_secs_f64() + 2.0 * tree) / 3600.0
    };
    println!("- neptune: {:.1} h", hours(eight.neptune, eleven.neptune));
    for ((kernel, eight), eleven) in kernels.iter().zip(&eight.ours).zip(&eleven.ours) {
        println!("- {}: {:.1} h", kernel.name(), hours(*eight, *eleven));
    }
    Ok(())
}

/// CPU time of this process so far, or of the calling thread.
fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written by the call, which can't fail for these clocks.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
