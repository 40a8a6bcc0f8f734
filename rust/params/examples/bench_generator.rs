//! Times the generator, and beside it the proving library's for the sets where that is bearable.
//!
//! `cargo run --release -p params --example bench_generator -- KIND SIZE [library|FILE]`: with
//! `library`, the library's generator runs on the same circuit and the outputs are compared; with a
//! file name, the parameters are kept there.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use bellperson::groth16::generate_parameters;
use bellperson::Circuit;
use blstrs::{Bls12, Scalar};
use params::{generate_local, CircuitVisitor, Identity, Monitor, ParameterSet, Trapdoor};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments
        .next()
        .context("the first argument is a kind, for example window")?;
    let size = arguments
        .next()
        .context("the second argument is a sector size in bytes")?;
    let set = ParameterSet::new(kind.parse()?, size.parse()?)?;
    let mode = arguments.next();
    let path = match mode.as_deref() {
        Some("library") | None => std::env::temp_dir().join(format!("bench-{kind}-{size}.params")),
        Some(path) => path.into(),
    };

    let file = File::create(&path)?;
    let (generated, ours) = timed(|| generate_local(&set, &file, &Monitor::default()))?;
    println!(
        "{kind} {size}: {} s wall, {} CPU s, peak {} MiB, {} bytes, {:?}",
        seconds(ours.wall),
        seconds(ours.cpu),
        peak_resident()? >> 20,
        generated.bytes,
        generated.shape,
    );
    if mode.as_deref() == Some("library") {
        let (bytes, librarys) = timed(|| set.visit_local(Library))?;
        println!(
            "library: {} s wall, {} CPU s; ratio {:.1}",
            seconds(librarys.wall),
            seconds(librarys.cpu),
            librarys.cpu.as_secs_f64() / ours.cpu.as_secs_f64(),
        );
        ensure!(bytes == std::fs::read(&path)?, "the two files differ");
        println!("same bytes");
    }
    if matches!(mode.as_deref(), Some("library") | None) {
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

struct Library;

impl CircuitVisitor for Library {
    type Output = Vec<u8>;

    fn visit<C: Circuit<Scalar>>(
        self,
        identity: Identity,
        blank: &(dyn Fn() -> C + Sync),
    ) -> Result<Vec<u8>> {
        let Trapdoor {
            g1,
            g2,
            alpha,
            beta,
            gamma,
            delta,
            tau,
        } = Trapdoor::public(&identity.name);
        let parameters =
            generate_parameters::<Bls12, C>(blank(), g1, g2, alpha, beta, gamma, delta, tau)?;
        let mut bytes = Vec::new();
        parameters.write(&mut bytes)?;
        Ok(bytes)
    }
}

struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let (wall, cpu) = (Instant::now(), cpu_time()?);
    let result = work()?;
    Ok((
        result,
        Cost {
            wall: wall.elapsed(),
            cpu: cpu_time()? - cpu,
        },
    ))
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// CPU time of this process: fields 14 and 15 of its stat file, in ticks of 10 ms.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat
        .rsplit_once(')')
        .context("unexpected /proc/self/stat")?;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// The most memory this process has held, in bytes.
fn peak_resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("no VmHWM")?;
    Ok(kib.parse::<u64>()? << 10)
}
