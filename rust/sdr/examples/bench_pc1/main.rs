//! `make bench-pc1`: labels per second per core of the proofs crate and of this engine, side by side.
//!
//! `bench_pc1 [--sizes 8MiB,512MiB] [--rounds N] [--crate-with-flags PROGRAM]` prints the table.
//! `PROGRAM` is this program built with the SHA flags that make the crate fast, and with the feature
//! `multicore`; without it these lines are left out. `bench_pc1 crate SIZE` and `bench_pc1 multicore SIZE`
//! serve as `PROGRAM`: for each line on its standard input it measures the crate once. `bench_pc1 sector SIZE`
//! labels a whole sector once.

mod clock;
mod judge;
mod multicore;
mod ours;
mod parents;
mod raw;
mod table;
mod targets;
mod whole;

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{ensure, Context, Result};

use clock::Measured;
use judge::Judge;
use ours::Lanes;
use sdr::kernel::available;
use sdr::topology::{allowed_cpus, pin_to};
use table::Row;

/// Sectors of these sizes have two layers; layer 2 is measured, the one with all fourteen parents.
const SIZES: [(&str, u64); 2] = [("8MiB", 8 << 20), ("512MiB", 512 << 20)];

/// What one lane and the best number of lanes are to reach, as multiples of (a), at 8 MiB and above.
const TARGETS: [(f64, f64); 2] = [(1.2, 2.3), (2.2, 4.0)];
/// Whole sectors that are labelled with their files.
const WHOLE_SECTORS: usize = 3;

/// The row that ratios are to.
const REFERENCE: usize = 1;
/// Rounds in which the crate's multicore path is measured: it labels a whole layer each time.
const MULTICORE_ROUNDS: usize = 1;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sector", size] => whole::serve(size_named(size)?),
        ["crate", size] => serve_crate(size_named(size)?),
        ["multicore", size] => {
            let size = size_named(size)?;
            serve(|| multicore::measure(size))
        }
        _ => print_table(&Options::parse(&arguments)?),
    }
}

struct Options {
    sizes: Vec<(&'static str, u64)>,
    rounds: usize,
    crate_with_flags: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Options {
            sizes: SIZES.to_vec(),
            rounds: 5,
            crate_with_flags: None,
        };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest
                .next()
                .with_context(|| format!("{name}: expected a value"))?;
            match name.as_str() {
                "--sizes" => options
                    .sizes
                    .retain(|(size, _)| value.split(',').any(|name| name == *size)),
                "--rounds" => {
                    options.rounds = value.parse().context("--rounds: expected a number")?
                }
                "--crate-with-flags" => options.crate_with_flags = Some(value.clone()),
                _ => anyhow::bail!("unknown option {name}"),
            }
        }
        ensure!(
            !options.sizes.is_empty(),
            "--sizes: expected some of 8MiB,512MiB"
        );
        Ok(options)
    }

    /// The program built with flags, serving `what` for a sector size; none if there is none.
    fn served(&self, what: &str, size: &str) -> Result<Option<Served>> {
        self.crate_with_flags
            .as_ref()
            .map(|program| Served::start(program, what, size))
            .transpose()
    }
}

fn size_named(name: &str) -> Result<u64> {
    let found = SIZES.iter().find(|(size, _)| *size == name);
    Ok(found
        .with_context(|| format!("size {name}: expected 8MiB or 512MiB"))?
        .1)
}

/// Measures everything once per round, so that a change of the machine's speed meets all alike.
fn print_table(options: &Options) -> Result<()> {
    // The multicore path takes cores of its own choice; everything else runs on one.
    let mut multicore = Vec::new();
    for (name, _) in &options.sizes {
        multicore.push(options.served("multicore", name)?);
    }
    pin_to(allowed_cpus()?[0])?;
    for ((name, size), multicore) in options.sizes.iter().zip(multicore) {
        print_size(options, name, *size, multicore)?;
    }
    Ok(())
}

fn print_size(
    options: &Options,
    name: &str,
    size: u64,
    mut multicore: Option<Served>,
) -> Result<()> {
    let rows_of_parents = ours::parents(size)?;
    let mut plain = Judge::new(size)?;
    let mut with_flags = options.served("crate", name)?;
    // Few lanes go together with the first kernel, many with the last.
    let kernels = available();
    let mut groups = Vec::new();
    for kernel in &kernels {
        match kernel.groups()[..] {
            [most] if most > 1 => groups.extend([(kernel, most / 2), (kernel, most)]),
            ref sizes => groups.extend(sizes.iter().map(|lanes| (kernel, *lanes))),
        }
    }
    let most = groups.iter().map(|(_, lanes)| *lanes).max().unwrap_or(1);
    let fitting = most.min(ours::lanes_with_memory(size)?);
    let mut lanes = Lanes::new(&rows_of_parents, fitting)?;

    let not_built = "not built";
    let mut rows = vec![
        Row::new("crate as people get it (no flags)", not_built),
        Row::new("(a) crate, single core, SHA flags", not_built),
        Row::new(
            "(b) crate, multicore, SHA flags, per core it uses",
            "it needs hwloc, to be had with: apt-get install libhwloc-dev",
        ),
    ];
    let first_group = rows.len();
    rows.extend(groups.iter().map(|(kernel, lanes)| {
        let name = format!("(c) sdr, {lanes} lane(s), {}", kernel.name());
        Row::new(&name, "too little memory is free")
    }));
    let limits = rows.len();
    for what in ["", ", rounds only"] {
        rows.extend([1, 2, 4].map(|streams| {
            let name = format!("(d) raw limit of SHA-NI{what}, {streams} stream(s) / 20");
            Row::new(&name, "no such instructions")
        }));
    }
    rows.push(Row::new(
        "(e) fetching parents and hashing nothing, 3 lane(s)",
        "too little memory is free",
    ));
    for round in 0..options.rounds {
        let mut measured = vec![Some(plain.measure()?)];
        measured.push(with_flags.as_mut().map(Served::measure).transpose()?);
        let multicore = multicore.as_mut().filter(|_| round < MULTICORE_ROUNDS);
        measured.push(multicore.and_then(|served| served.measure().ok()));
        for (kernel, count) in &groups {
            measured.push(lanes.measure(kernel.as_ref(), *count)?);
        }
        measured.extend([raw::limit::<1, false>(), raw::limit::<2, false>()]);
        measured.push(raw::limit::<4, false>());
        measured.extend([raw::limit::<1, true>(), raw::limit::<2, true>()]);
        measured.push(raw::limit::<4, true>());
        measured.push(lanes.fetch(3));
        for (row, value) in rows.iter_mut().zip(measured) {
            row.values.extend(value);
        }
    }
    println!(
        "{name}, layer 2, label memory: {}, {} processes ready to run",
        lanes.backing(),
        load()?
    );
    table::print(&rows, REFERENCE);
    println!();
    drop((lanes, with_flags));
    let wholes = (0..WHOLE_SECTORS).map(|_| whole::measure(name));
    let wholes = wholes.collect::<Result<Vec<_>>>()?;
    for whole in &wholes {
        println!(
            "a whole sector with its files: {:.3} s, {:.3} s of it hashing, {} MiB of memory",
            whole.wall,
            whole.hashing,
            whole.memory >> 20
        );
    }
    println!();
    let two = groups.iter().position(|(_, lanes)| *lanes == 2);
    let compared = targets::Rows {
        reference: &rows[REFERENCE],
        one: &rows[first_group],
        two: two.map(|group| &rows[first_group + group]),
        all: &rows[first_group..limits],
        limit: &rows[limits + 1],
    };
    let (of_one, of_best) = TARGETS[usize::from(size > SIZES[0].1)];
    targets::print(size, of_one, of_best, &compared, &wholes);
    parents::print(size, &plain, options.rounds)?;
    let numbers = groups.iter().map(|(_, lanes)| *lanes);
    let plotted: Vec<_> = numbers.zip(&rows[first_group..]).collect();
    table::chart(name, &plotted);
    Ok(())
}

/// The load average of the last minute, as the kernel writes it.
fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// This program built with SHA flags, running beside.
struct Served {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Served {
    fn start(program: &str, what: &str, size: &str) -> Result<Self> {
        let mut child = Command::new(program)
            .args([what, size])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take());
        Ok(Served {
            child,
            ask: ask.context("no pipe to the program")?,
            answers: BufReader::new(answers.context("no pipe from the program")?),
        })
    }

    fn measure(&mut self) -> Result<Measured> {
        writeln!(self.ask)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let mut numbers = answer.split_whitespace();
        let labels_per_second = numbers.next().and_then(|number| number.parse().ok());
        Ok(Measured {
            labels_per_second: labels_per_second
                .with_context(|| format!("the crate's program answered {answer:?}"))?,
            cycles_per_label: numbers.next().and_then(|number| number.parse().ok()),
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_crate(size: u64) -> Result<()> {
    let mut judge = Judge::new(size)?;
    serve(|| judge.measure())
}

/// Measures once for each line on the standard input.
fn serve(mut measure: impl FnMut() -> Result<Measured>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        line?;
        let measured = measure()?;
        let cycles = measured
            .cycles_per_label
            .map_or_else(String::new, |cycles| cycles.to_string());
        println!("{} {cycles}", measured.labels_per_second);
    }
    Ok(())
}
