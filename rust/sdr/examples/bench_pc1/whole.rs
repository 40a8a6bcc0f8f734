//! A whole sector as PC1 labels it, with its files: the time beside the hashing, and the memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};
use sdr::{label_sector, Engine, Sector, Watch};

use crate::ours;

/// What labelling a sector took.
pub struct Whole {
    pub wall: f64,
    pub hashing: f64,
    /// The most anonymous and huge-page memory beyond that of before the sector, bytes.
    pub memory: u64,
}

/// Labels a sector of a size in a process of its own, so that its memory is what this one sector takes.
pub fn measure(size_name: &str) -> Result<Whole> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["sector", size_name]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "label a sector: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|number| number.parse().context("seconds, seconds, bytes"))
        .collect::<Result<_>>()?;
    let [wall, hashing, memory] = numbers[..] else {
        anyhow::bail!("label a sector: answered {text:?}");
    };
    Ok(Whole {
        wall,
        hashing,
        memory: memory as u64,
    })
}

/// Labels one sector in a new directory, and prints what [`measure`] reads.
pub fn serve(size: u64) -> Result<()> {
    let parents = ours::parents(size)?;
    let engine = Engine::for_this_machine(&mut |text| eprintln!("{text}"))?;
    let dir = tempfile::tempdir()?;
    let sector = Sector {
        parents,
        replica_id: [3; 32],
        layers: 2,
    };
    let before = memory()?;
    let mut most = before;
    let mut watch = Watch {
        progress: &mut |_| {
            most = most.max(memory()?);
            Ok(())
        },
        say: &mut |text| eprintln!("{text}"),
    };
    let outcome = label_sector(&engine, &sector, dir.path(), &mut watch)?;
    println!(
        "{} {} {}",
        outcome.wall.as_secs_f64(),
        outcome.hashing.as_secs_f64(),
        most - before
    );
    Ok(())
}

/// Anonymous and huge-page memory of this process, bytes.
fn memory() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let text = fs::read_to_string(path)?;
    let kibibytes = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        let counts = ["RssAnon", "HugetlbPages"].contains(&name);
        counts.then(|| value.split_whitespace().next()?.parse::<u64>().ok())?
    });
    Ok(kibibytes.sum::<u64>() << 10)
}
